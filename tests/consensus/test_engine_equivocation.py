"""Equivocators: evidence is found and carried, they aren't built on, and a broken quorum assumption halts."""

import pytest

from consensus.dag.evidence import EvidenceKind
from consensus.dag.judging import jurisdiction_of, verify_evidence
from consensus.dag.vertex import VertexRef, decode_vertex
from consensus.events import Broadcast, Commit, EvidenceFound, Halt, PeerFault, RequestPayload, TimerFired, TimerKind
from consensus.parameters import Parameters
from consensus.reporting import unhear
from mpisa.primitives.identifiers import AuthorityIndex, Epoch, Round
from tests.consensus.forge import NOW, Forge, of_kind, propose, receive, receive_all
from tests.simulator.world import CHAIN_HASH

PARAMETERS = Parameters(idle_delay_ms=0, first_proposal_delay_ms=0)


def test_evidence_is_found_carried_once_and_ends_the_choice_of_its_author() -> None:
    forge = Forge()
    engine = forge.engine(0, PARAMETERS)
    engine.start(NOW)
    first, second = forge.vertex(1, 1), forge.vertex(1, 1, payload=b"twin", keep=False)
    receive(engine, first)
    [found] = of_kind(receive(engine, second), EvidenceFound)
    assert (found.kind, found.author, found.position) == (EvidenceKind.DOUBLE_VERTEX, 1, 1)
    verify_evidence(found.evidence, jurisdiction_of(forge.committee, CHAIN_HASH, Epoch(0)), PARAMETERS)
    assert of_kind(receive(engine, second), EvidenceFound) == []
    receive_all(engine, forge.layer(1, (2, 3)))
    one = decode_vertex(of_kind(propose(engine, NOW + 300), Broadcast)[0].raw, PARAMETERS)
    assert one.evidence == (found.evidence,)
    forge.made[1, 0] = one
    two = decode_vertex(of_kind(propose(engine, NOW + 600), Broadcast)[0].raw, PARAMETERS)
    assert two.evidence == ()
    assert [ref.author for ref in two.parents] == [0, 2, 3]
    assert engine.status().evidence == (1,)


def test_evidence_that_another_carried_isn_t_carried_again() -> None:
    forge = Forge()
    engine = forge.engine(0, PARAMETERS)
    engine.start(NOW)
    receive(engine, forge.vertex(1, 1))
    [found] = of_kind(receive(engine, forge.vertex(1, 1, payload=b"twin", keep=False)), EvidenceFound)
    receive(engine, forge.vertex(1, 2, evidence=(found.evidence,)))
    own = decode_vertex(of_kind(propose(engine, NOW + 300), Broadcast)[0].raw, PARAMETERS)
    assert own.evidence == ()


def test_evidence_that_only_the_equivocator_carries_is_carried_on() -> None:
    """Nobody builds on its vertex any more, so what it carries would never be ordered."""
    forge = Forge()
    finder, engine = forge.engine(2, PARAMETERS), forge.engine(0, PARAMETERS)
    receive(finder, forge.vertex(1, 1))
    [found] = of_kind(receive(finder, forge.vertex(1, 1, payload=b"t", keep=False)), EvidenceFound)
    engine.start(NOW)
    receive_all(engine, forge.layer(1, (1, 2, 3)))
    receive(engine, forge.vertex(2, 1, evidence=(found.evidence,)))
    own = decode_vertex(of_kind(propose(engine, NOW + 300), Broadcast)[0].raw, PARAMETERS)
    assert own.evidence == (found.evidence,)


def test_evidence_in_a_vertex_that_can_t_be_accepted_is_carried_on() -> None:
    """Its parents never come, but the two signatures in it are good."""
    forge = Forge()
    finder, engine = forge.engine(2, PARAMETERS), forge.engine(0, PARAMETERS)
    receive(finder, forge.vertex(1, 1))
    [found] = of_kind(receive(finder, forge.vertex(1, 1, payload=b"t", keep=False)), EvidenceFound)
    engine.start(NOW)
    unknown = [VertexRef(Round(1), AuthorityIndex(author), bytes([author]) * 32) for author in (1, 2, 3)]
    receive(engine, forge.vertex(2, 1, unknown, evidence=(found.evidence,)))
    assert engine.status().evidence == (1,)
    assert engine.status().vertices == 0
    own = decode_vertex(of_kind(propose(engine, NOW + 300), Broadcast)[0].raw, PARAMETERS)
    assert own.evidence == (found.evidence,)


def test_evidence_in_a_vertex_that_is_never_ordered_is_carried_again() -> None:
    forge = Forge()
    engine = forge.engine(0, PARAMETERS)
    engine.start(NOW)
    receive(engine, forge.vertex(1, 1))
    [found] = of_kind(receive(engine, forge.vertex(1, 1, payload=b"twin", keep=False)), EvidenceFound)
    carrier = forge.vertex(1, 2, evidence=(found.evidence,), keep=False)
    receive(engine, carrier)
    proposer = engine._proposer
    assert proposer is not None
    assert not proposer.is_loaded(with_signatures=False)
    unhear(carrier, PARAMETERS, proposer)
    assert proposer.is_loaded(with_signatures=False)


def test_whoever_learns_of_it_from_a_vertex_stops_building_on_it_too() -> None:
    forge = Forge()
    finder, engine = forge.engine(2, PARAMETERS), forge.engine(0, PARAMETERS)
    receive(finder, forge.vertex(1, 1))
    [found] = of_kind(receive(finder, forge.vertex(1, 1, payload=b"t", keep=False)), EvidenceFound)
    engine.start(NOW)
    receive(engine, forge.vertex(1, 2, evidence=(found.evidence,)))
    assert engine.status().evidence == (1,)


def test_the_first_seen_twin_is_the_one_built_on_when_evidence_came_late() -> None:
    """Author 3 used it before the evidence came: it still counts, or round 2 would stay closed."""
    forge = Forge()
    engine = forge.engine(0, PARAMETERS)
    engine.start(NOW)
    own = decode_vertex(of_kind(propose(engine, NOW + 100), Broadcast)[0].raw, PARAMETERS)
    forge.made[1, 0] = own
    receive_all(engine, [forge.vertex(1, 1), forge.vertex(1, 1, payload=b"twin", keep=False), forge.vertex(1, 3)])
    assert engine.status().open_round == 1, "two authors of four may be chosen"
    receive(engine, forge.vertex(2, 3, [forge.ref(1, 3), forge.ref(1, 0), forge.ref(1, 1)]))
    assert engine.status().open_round == 2
    two = decode_vertex(of_kind(propose(engine, NOW + 400), Broadcast)[0].raw, PARAMETERS)
    assert sorted(ref.author for ref in two.parents) == [0, 1, 3]


def test_two_certified_vertices_in_one_slot_halt_with_the_evidence() -> None:
    forge = Forge()
    engine = forge.engine(0, PARAMETERS)
    engine.start(NOW)
    ones = forge.layer(1, range(4))
    twin = forge.vertex(1, 1, payload=b"twin", keep=False)
    receive_all(engine, [*ones[1:], ones[0]])
    # More than a third is faulty: authors 1, 2 and 3 vote for both twins of the leader of round 1.
    effects = []
    for mark, leader in enumerate((ones[1].ref, twin.ref)):
        votes = [
            forge.vertex(
                2,
                author,
                [leader if other == 1 else forge.ref(1, other) for other in (author, *({1, 2, 3} - {author}))],
                payload=bytes([mark]),
                keep=False,
            )
            for author in (1, 2, 3)
        ]
        holder = 2 + mark
        order = [votes[holder - 1], *(vote for vote in votes if vote.author != holder)]
        effects += receive_all(engine, [forge.vertex(3, holder, [vote.ref for vote in order]), *votes, twin])
    [halt] = of_kind(effects, Halt)
    assert halt.reason == "two certified vertices in slot 0 of round 1"
    assert len(halt.evidence) > 1_000
    assert engine.status().halted == halt.reason
    after = receive_all(engine, forge.layer(2, (1, 2, 3)))
    after += engine.handle(TimerFired(TimerKind.ROUND), NOW + 60_000)
    assert of_kind(after, Commit) == of_kind(after, RequestPayload) == []


def test_a_false_reference_is_reported_against_its_author() -> None:
    forge = Forge()
    engine = forge.engine(0, PARAMETERS)
    engine.start(NOW)
    receive_all(engine, forge.layer(1, (1, 2, 3)))
    true = forge.ref(1, 2)
    lie = VertexRef(Round(1), AuthorityIndex(0), true.id)
    parents = [forge.ref(1, 1), lie, forge.ref(1, 3)]
    [fault] = of_kind(receive(engine, forge.vertex(2, 1, parents), sender=3), PeerFault)
    assert fault.author == 1
    assert str(fault.rejection).startswith("bad-parents: vertex ")


def test_the_shell_must_keep_to_the_payload_cap() -> None:
    engine = Forge().engine(0, Parameters(first_proposal_delay_ms=0, max_payload_bytes=4))
    engine.start(NOW)
    with pytest.raises(AssertionError, match="max_payload_bytes"):
        propose(engine, NOW + 5_000, b"12345")
