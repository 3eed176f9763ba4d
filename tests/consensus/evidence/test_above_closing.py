"""A signed header of an epoch, above the height that closed it."""

from dataclasses import replace

import pytest

from consensus.dag.evidence import AboveClosing, EvidenceKind, encode_evidence
from mpisa.primitives.errors import Rejection
from mpisa.primitives.header import Header, sign_header
from mpisa.primitives.identifiers import AuthorityIndex
from tests.consensus.evidence.acts import FORGE, OLD, header, judge
from tests.consensus.forge import Forge


def raw_of(made: Header, author: int = 4, forge: Forge = OLD) -> bytes:
    return encode_evidence(AboveClosing(AuthorityIndex(author), made, sign_header(forge.keys[author][1], made)))


def refused(raw: bytes) -> str:
    with pytest.raises(Rejection) as caught:
        judge(raw)
    return str(caught.value)


def test_one_signature_is_enough() -> None:
    evidence = judge(raw_of(header(41, epoch=5)))
    assert (evidence.kind, evidence.epoch, evidence.author, evidence.position) == (
        EvidenceKind.ABOVE_CLOSING,
        5,
        4,
        41,
    )
    assert evidence.address == OLD.committee[4].address


def test_what_is_none() -> None:
    assert refused(raw_of(header(40, epoch=5))) == (
        "bad-evidence: expected a height above 40, which closed the epoch, got 40"
    )
    assert refused(raw_of(header(60), 1, FORGE)) == "bad-evidence: epoch 7 isn't closed: no header is above it"
    assert refused(raw_of(header(41, epoch=4))) == "bad-evidence: evidence of epoch 4 isn't admissible in epoch 7"
    foreign = replace(header(41, epoch=5), chain_hash=bytes(32))
    assert refused(raw_of(foreign)).startswith("wrong-chain: evidence: expected chain")
    forged = AboveClosing(AuthorityIndex(3), header(41, epoch=5), sign_header(OLD.keys[4][1], header(41, epoch=5)))
    assert refused(encode_evidence(forged)) == ("bad-signature: not authority 3's signature over a header of height 41")
