"""An authority that lost its disk sits out; one liar can't make it."""

from consensus.dag.vertex import VertexRef
from consensus.engine import Engine
from consensus.events import (
    Broadcast,
    PayloadLapsed,
    PayloadProvided,
    ProposalRecord,
    RequestPayload,
    StoredEpoch,
    TimerFired,
    TimerKind,
)
from consensus.parameters import Parameters
from mpisa.primitives.identifiers import AuthorityIndex, Round
from tests.consensus.forge import NOW, Forge, of_kind, propose, raw_of, receive, receive_all
from tests.simulator.world import CHAIN_HASH

PARAMETERS = Parameters(idle_delay_ms=0)


def test_a_fresh_start_waits_a_moment_before_its_first_vertex() -> None:
    engine = Forge().engine(0, PARAMETERS)
    engine.start(NOW)
    assert of_kind(engine.handle(TimerFired(TimerKind.ROUND), NOW + 299), RequestPayload) == []
    assert of_kind(engine.handle(TimerFired(TimerKind.ROUND), NOW + 300), RequestPayload) == [RequestPayload(1)]


def test_who_remembers_no_vertex_of_its_own_makes_none_below_the_others() -> None:
    """A former life may have made vertices there; what the others built, it must see first."""
    forge = Forge()
    engine = forge.engine(0, PARAMETERS)
    engine.start(NOW)
    rounds = [forge.layer(number, (1, 2, 3)) for number in (1, 2, 3)]
    receive_all(engine, rounds[2])
    assert of_kind(propose(engine, NOW + 1_000), Broadcast) == []
    receive_all(engine, rounds[1])
    assert of_kind(propose(engine, NOW + 1_100), Broadcast) == []
    receive_all(engine, rounds[0], NOW + 1_200)
    assert len(of_kind(propose(engine, NOW + 5_000), Broadcast)) == 1
    assert engine.status().round == 4


def test_an_own_vertex_from_others_means_a_lost_disk() -> None:
    forge = Forge()
    engine = forge.engine(0, PARAMETERS)
    engine.start(NOW)
    receive(engine, forge.vertex(1, 0), sender=2)
    assert engine.status().sitting_out == "an own vertex of round 1 came in, the last proposal known is 0"
    assert of_kind(propose(engine, NOW + 5_000), Broadcast) == []
    assert engine.status().vertices == 1, "it is part of the DAG all the same"


def test_a_validity_threshold_that_builds_on_higher_own_rounds_means_a_lost_disk() -> None:
    forge = Forge()
    engine = forge.engine(0, PARAMETERS)
    engine.start(NOW)
    forge.layer(1, range(4))
    receive(engine, forge.vertex(2, 1))
    assert engine.status().sitting_out is None, "one author alone may lie"
    receive(engine, forge.vertex(2, 1, payload=b"again", keep=False))
    assert engine.status().sitting_out is None, "twice is still one author"
    receive(engine, forge.vertex(2, 2))
    assert engine.status().sitting_out == "others build on an own vertex of round 1, the last known is 0"


def test_a_payload_asked_for_before_is_given_back() -> None:
    forge = Forge()
    engine = forge.engine(0, PARAMETERS)
    engine.start(NOW)
    [request] = of_kind(engine.handle(TimerFired(TimerKind.ROUND), NOW + 300), RequestPayload)
    receive(engine, forge.vertex(1, 0, keep=False), sender=2)
    effects = engine.handle(PayloadProvided(request.round, b"tx"), NOW + 310)
    assert of_kind(effects, PayloadLapsed) == [PayloadLapsed(1, b"tx")]
    assert of_kind(effects, Broadcast) == []


def test_an_own_twin_means_that_the_key_runs_elsewhere() -> None:
    forge = Forge()
    engine = forge.engine(0, PARAMETERS)
    engine.start(NOW)
    propose(engine, NOW + 300)
    receive(engine, forge.vertex(1, 0, payload=b"other"), sender=1)
    assert engine.status().sitting_out == "the own key signed two vertices of round 1"


def test_a_store_rolled_back_behind_its_own_vertices_sits_out() -> None:
    forge = Forge()
    first, second = [forge.layer(number, range(4)) for number in (1, 2)]
    engine = Engine(
        PARAMETERS,
        CHAIN_HASH,
        forge.start,
        forge.seat(),
        StoredEpoch(vertices=[*first, *second], proposal=ProposalRecord(Round(1), raw_of(first[0]))),
    )
    assert of_kind(engine.start(NOW), Broadcast) == []
    assert engine.status().sitting_out == "the store holds an own vertex of round 2, the last proposal known is 1"


def test_a_lie_about_an_own_round_alone_stops_nobody() -> None:
    forge = Forge((1,) * 7)
    engine = forge.engine(0, PARAMETERS)
    engine.start(NOW)
    receive_all(engine, forge.layer(1, range(1, 7)))
    lie = VertexRef(Round(1), AuthorityIndex(0), bytes(32))
    receive(engine, forge.vertex(2, 1, [forge.ref(1, 1), lie, *(forge.ref(1, author) for author in range(2, 7))]))
    assert engine.status().sitting_out is None
    assert len(of_kind(propose(engine, NOW + 1_000), Broadcast)) == 1
