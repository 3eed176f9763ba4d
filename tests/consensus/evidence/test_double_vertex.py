"""Two signed vertex headers of one author, epoch and round."""

from dataclasses import replace

import pytest

from consensus.dag.evidence import (
    DoubleVertex,
    EvidenceKind,
    SignedVertex,
    Subject,
    double_vertex,
    encode_evidence,
    max_evidence_bytes,
    read_subject,
)
from consensus.dag.judging import read_evidence
from consensus.dag.vertex import Vertex
from mpisa.primitives.errors import Rejection
from mpisa.primitives.identifiers import Epoch
from tests.consensus.evidence.acts import COURT, FORGE, OLD, PARAMETERS, judge
from tests.consensus.forge import Forge


def pair(epoch: int = 7, forge: Forge = FORGE) -> tuple[Vertex, Vertex]:
    made = [forge.vertex(1, 2, payload=payload, epoch=epoch, keep=False) for payload in (b"one", b"other")]
    low, high = sorted(made, key=lambda vertex: vertex.id)
    return low, high


def raw_of(first: Vertex, second: Vertex) -> bytes:
    """Encoded as it stands, whatever it proves."""
    return encode_evidence(
        DoubleVertex(*(SignedVertex(item.header, item.header_bytes, item.signature) for item in (first, second)))
    )


def refused(first: Vertex, second: Vertex) -> str:
    with pytest.raises(Rejection) as caught:
        judge(raw_of(first, second))
    return str(caught.value)


def test_it_names_the_author_and_has_one_encoding() -> None:
    low, high = pair()
    raw = double_vertex(high, low)
    assert raw == double_vertex(low, high) == raw_of(low, high)
    evidence = judge(raw)
    assert (evidence.kind, evidence.epoch, evidence.author, evidence.position) == (
        EvidenceKind.DOUBLE_VERTEX,
        7,
        2,
        1,
    )
    assert evidence.address == FORGE.committee[2].address
    assert read_evidence(raw, COURT, PARAMETERS) == evidence
    assert read_subject(raw, PARAMETERS) == Subject(EvidenceKind.DOUBLE_VERTEX, evidence.author, Epoch(7), 1)
    assert len(raw) <= max_evidence_bytes(PARAMETERS)


def test_an_earlier_epoch_is_judged_by_its_own_committee() -> None:
    evidence = judge(double_vertex(*pair(5, OLD)))
    assert (evidence.epoch, evidence.address) == (5, OLD.committee[2].address)


def test_what_is_none() -> None:
    low, high = pair()
    ascending = "bad-evidence: expected two vertices with ascending ids"
    assert refused(high, low) == ascending
    assert refused(low, replace(low, signature=bytes(64))) == ascending, "another signature over one header"
    other_round = FORGE.vertex(2, 2, [FORGE.genesis[2]], epoch=7, keep=False)
    assert refused(low, other_round).startswith("bad-evidence: expected one author, round and epoch, got 2, 1, 7")
    assert refused(low, pair(6)[1]).startswith("bad-evidence: expected one author, round and epoch")
    assert refused(low, replace(high, signature=low.signature)).startswith("bad-signature: not authority 2's")
    assert refused(*pair(4)) == "bad-evidence: evidence of epoch 4 isn't admissible in epoch 7"
    assert refused(*pair(8)) == "bad-evidence: evidence of epoch 8 isn't admissible in epoch 7"


def test_of_another_chain_it_proves_nothing() -> None:
    foreign = [FORGE.vertex(1, 2, payload=bytes([n]), epoch=7, chain_hash=bytes(32), keep=False) for n in (1, 2)]
    assert refused(*sorted(foreign, key=lambda item: item.id)).startswith("wrong-chain: evidence: expected chain")
