"""A lone signature over another header than the one that a quorum certified."""

import pytest

from consensus.dag.evidence import EvidenceKind, SignedHash, StrayHeader, encode_evidence, max_evidence_bytes
from consensus.parameters import Parameters
from mpisa.primitives.errors import Rejection
from mpisa.primitives.header import Certificate, header_hash
from mpisa.primitives.identifiers import AuthorityIndex, Height
from tests.consensus.evidence.acts import FORGE, certificate, header, judge, signed
from tests.consensus.forge import Forge


def raw_of(stray: SignedHash, made: Certificate, author: int = 3, height: int = 60) -> bytes:
    return encode_evidence(
        StrayHeader(AuthorityIndex(author), Height(height), stray, header_hash(header(height)), made)
    )


def refused(raw: bytes) -> str:
    with pytest.raises(Rejection) as caught:
        judge(raw)
    return str(caught.value)


def test_the_certificate_shows_which_header_is_the_chain_s() -> None:
    evidence = judge(raw_of(signed(3, 60, 1), certificate(60, (0, 1, 2))))
    assert (evidence.kind, evidence.epoch, evidence.author, evidence.position) == (
        EvidenceKind.STRAY_HEADER,
        7,
        3,
        60,
    )
    assert evidence.address == FORGE.committee[3].address


def test_what_is_none() -> None:
    quorum = certificate(60, (0, 1, 2))
    assert refused(raw_of(signed(3, 60), quorum)) == "bad-evidence: expected another header than the certified one"
    assert refused(raw_of(signed(3, 60, 1), certificate(60, (0, 1)))) == (
        "no-quorum: evidence: power 2 of 4 certifies nothing"
    )
    assert refused(raw_of(signed(3, 60, 1), certificate(60, (0, 1, 2), 2))).startswith("bad-certificate: signature of")
    assert refused(raw_of(signed(2, 60, 1), quorum, author=2)).startswith(
        "bad-evidence: its author signed the certified header"
    )
    assert refused(raw_of(signed(2, 60, 1), certificate(60, (0, 1, 2)), author=3)) == (
        "bad-signature: not authority 3's signature over a header of height 60"
    )
    beyond = Certificate(0b1000111, certificate(60, (0, 1, 2, 3)).signatures)
    assert refused(raw_of(signed(3, 60, 1), beyond)).startswith("bad-certificate: its bitmap names validators beyond")


def test_the_largest_committee_s_fits() -> None:
    many = Forge((1,) * 256)
    made = certificate(60, tuple(range(255)), forge=many)
    raw = raw_of(signed(255, 60, 1, many), made, author=255)
    assert len(raw) <= max_evidence_bytes(Parameters(max_header_bytes=1 << 12, max_payload_bytes=1 << 12))
