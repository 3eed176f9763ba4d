"""Evidence about headers: found from what comes in, carried, not again once another carried it; offers from outside."""

import pytest

from consensus.dag.evidence import EvidenceKind, StrayHeader, double_header, double_vertex, encode_evidence
from consensus.dag.validation import verify_vertex
from consensus.dag.vertex import Vertex, decode_vertex
from consensus.engine import Engine
from consensus.events import (
    Broadcast,
    EvidenceFound,
    EvidenceOffered,
    Executed,
    ExecutionSignatureReceived,
)
from consensus.parameters import Parameters
from consensus.proposer import MAX_EVIDENCE_WAITING
from mpisa.primitives.errors import Rejection
from mpisa.primitives.header import header_hash, sign_header
from mpisa.primitives.identifiers import AuthorityIndex, Height
from tests.consensus.evidence.acts import certificate, header, pushed, signed
from tests.consensus.forge import NOW, Forge, of_kind, propose, raw_of, receive
from tests.simulator.world import CHAIN_HASH

PARAMETERS = Parameters(idle_delay_ms=0, first_proposal_delay_ms=0)


def started(forge: Forge) -> Engine:
    engine = forge.engine(0, PARAMETERS)
    engine.start(NOW)
    return engine


def own(forge: Forge, engine: Engine, now_ms: int) -> Vertex:
    """The next own vertex, valid for everybody."""
    [sent] = of_kind(propose(engine, now_ms), Broadcast)
    vertex = decode_vertex(sent.raw, PARAMETERS)
    forge.made.setdefault((vertex.round, 0), vertex)
    return verify_vertex(sent.raw, forge.committee, CHAIN_HASH, PARAMETERS)


def test_two_pushed_hashes_are_found_and_carried() -> None:
    forge = Forge()
    engine = started(forge)
    engine.handle(ExecutionSignatureReceived(AuthorityIndex(2), pushed(2, 1, 1)), NOW)
    [found] = of_kind(engine.handle(ExecutionSignatureReceived(AuthorityIndex(2), pushed(2, 1, 2)), NOW), EvidenceFound)
    assert (found.kind, found.author, found.position) == (EvidenceKind.DOUBLE_HEADER, 2, 1)
    assert own(forge, engine, NOW + 300).evidence == (found.evidence,)
    assert engine.status().evidence == (), "its vertices are built on as before"


def test_a_signature_in_a_vertex_counts_as_well_and_a_lone_one_waits_for_the_certificate() -> None:
    forge = Forge()
    engine = started(forge)
    made = header(1)
    mine = sign_header(forge.keys[0][1], made)
    engine.handle(Executed(Height(1), header_hash(made), mine, made), NOW)
    assert of_kind(receive(engine, forge.vertex(1, 3, signatures=(pushed(3, 1, 1),))), EvidenceFound) == []
    receive(engine, forge.vertex(1, 1, signatures=(pushed(1, 1),)))
    [found] = of_kind(receive(engine, forge.vertex(1, 2, signatures=(pushed(2, 1),))), EvidenceFound)
    assert (found.kind, found.author, found.position) == (EvidenceKind.STRAY_HEADER, 3, 1)
    assert own(forge, engine, NOW + 300).evidence == (found.evidence,)


def test_what_another_s_vertex_carries_isn_t_carried_nor_found_again() -> None:
    forge = Forge()
    engine = started(forge)
    raw = double_header(AuthorityIndex(2), Height(1), signed(2, 1, 1), signed(2, 1, 2))
    receive(engine, forge.vertex(1, 1, evidence=(raw,)))
    effects = []
    for mark in (1, 2):
        effects += engine.handle(ExecutionSignatureReceived(AuthorityIndex(2), pushed(2, 1, mark)), NOW)
    assert of_kind(effects, EvidenceFound) == []
    assert own(forge, engine, NOW + 300).evidence == ()


def test_offered_evidence_is_carried_once() -> None:
    forge = Forge()
    engine = started(forge)
    twins = [forge.vertex(1, 3, payload=payload, keep=False) for payload in (b"a", b"b")]
    raw = double_vertex(twins[0], twins[1])
    engine.handle(EvidenceOffered(raw), NOW)
    engine.handle(EvidenceOffered(raw), NOW)
    first = own(forge, engine, NOW + 300)
    assert first.evidence == (raw,)
    assert engine.status().evidence == (3,)
    for author in (1, 2):
        receive(engine, forge.vertex(1, author))
    assert own(forge, engine, NOW + 600).evidence == ()


def double_of(forge: Forge, author: int, height: int) -> bytes:
    one, other = signed(author, height, 1, forge), signed(author, height, 2, forge)
    return double_header(AuthorityIndex(author), Height(height), one, other)


def test_a_vertex_carries_four_pieces_and_the_next_one_the_rest() -> None:
    forge = Forge((1,) * 7)
    engine = started(forge)
    pieces = [double_of(forge, author, 1) for author in range(1, 7)]
    for piece in pieces:
        engine.handle(EvidenceOffered(piece), NOW)
    assert own(forge, engine, NOW + 300).evidence == tuple(pieces[:4])
    for author in range(1, 7):
        receive(engine, forge.vertex(1, author))
    assert own(forge, engine, NOW + 600).evidence == tuple(pieces[4:])


def stray_of(forge: Forge, author: int, height: int) -> bytes:
    signers = tuple(other for other in range(7) if other != author)
    proof = StrayHeader(
        AuthorityIndex(author),
        Height(height),
        signed(author, height, 1, forge),
        header_hash(header(height)),
        certificate(height, signers, forge=forge),
    )
    return encode_evidence(proof)


def test_a_vertex_carries_one_certificate_only_for_each_costs_a_quorum_of_checks() -> None:
    forge = Forge((1,) * 7)
    engine = started(forge)
    strays = [stray_of(forge, author, 1) for author in (1, 2)]
    for piece in (*strays, double_of(forge, 3, 1)):
        engine.handle(EvidenceOffered(piece), NOW)
    assert own(forge, engine, NOW + 300).evidence == (double_of(forge, 3, 1), strays[0])
    both = raw_of(forge.vertex(1, 4, evidence=tuple(strays)))
    with pytest.raises(Rejection, match="bad-evidence: expected at most 1 stray header a vertex"):
        verify_vertex(both, forge.committee, CHAIN_HASH, PARAMETERS)


def test_what_waits_to_be_carried_is_bounded() -> None:
    forge = Forge()
    engine = started(forge)
    for height in range(1, MAX_EVIDENCE_WAITING + 50):
        engine.handle(EvidenceOffered(double_of(forge, 2, height)), NOW)
    assert engine._proposer is not None
    assert len(engine._proposer._evidence) == MAX_EVIDENCE_WAITING
