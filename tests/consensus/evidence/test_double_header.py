"""Two header hashes signed by one authority for one height."""

import pytest

from consensus.dag.evidence import DoubleHeader, EvidenceKind, SignedHash, double_header, encode_evidence
from mpisa.primitives.errors import Rejection
from mpisa.primitives.identifiers import AuthorityIndex, Height
from tests.consensus.evidence.acts import COURT, FORGE, OLD, judge, signed, without


def raw_of(author: int, height: int, first: SignedHash, second: SignedHash) -> bytes:
    return encode_evidence(DoubleHeader(AuthorityIndex(author), Height(height), first, second))


def refused(raw: bytes) -> str:
    with pytest.raises(Rejection) as caught:
        judge(raw)
    return str(caught.value)


def test_the_height_says_whose_committee_judges() -> None:
    for height, epoch, forge in ((51, 7, FORGE), (1_000, 7, FORGE), (41, 6, FORGE), (40, 5, OLD), (31, 5, OLD)):
        raw = double_header(AuthorityIndex(3), Height(height), signed(3, height, 1, forge), signed(3, height, 2, forge))
        evidence = judge(raw)
        assert (evidence.kind, evidence.epoch, evidence.author, evidence.position) == (
            EvidenceKind.DOUBLE_HEADER,
            epoch,
            3,
            height,
        )
        assert evidence.address == forge.committee[3].address


def test_it_has_one_encoding() -> None:
    one, other = signed(1, 60, 1), signed(1, 60, 2)
    assert double_header(AuthorityIndex(1), Height(60), one, other) == double_header(
        AuthorityIndex(1), Height(60), other, one
    )
    high, low = sorted((one, other), key=lambda item: item.header_hash, reverse=True)
    assert refused(raw_of(1, 60, high, low)) == "bad-evidence: expected two headers with ascending hashes"


def test_what_is_none() -> None:
    low, high = sorted((signed(1, 60, 1), signed(1, 60, 2)), key=lambda item: item.header_hash)
    same = "bad-evidence: expected two headers with ascending hashes"
    assert refused(raw_of(1, 60, low, SignedHash(low.header_hash, bytes(64)))) == same, (
        "one hash, other signature bytes"
    )
    assert refused(raw_of(2, 60, low, high)) == "bad-signature: not authority 2's signature over a header of height 60"
    assert refused(raw_of(1, 61, low, high)) == "bad-signature: not authority 1's signature over a header of height 61"
    assert refused(raw_of(9, 60, low, high)) == "unknown-authority: evidence: expected an author below 4, got 9"
    assert refused(raw_of(1, 30, low, high)) == "bad-evidence: height 30 is of no admissible epoch"


def test_too_long_ago_isn_t_admissible() -> None:
    raw = double_header(AuthorityIndex(3), Height(35), signed(3, 35, 1, OLD), signed(3, 35, 2, OLD))
    assert judge(raw, COURT).epoch == 5
    with pytest.raises(Rejection, match="bad-evidence: height 35 is of no admissible epoch"):
        judge(raw, without(5))
