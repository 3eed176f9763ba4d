"""Certified headers that a light client brings: who is convicted by which."""

from dataclasses import replace

import pytest

from consensus.dag.conflicts import evidence_in
from consensus.dag.evidence import EvidenceKind
from consensus.dag.judging import verify_evidence
from mpisa.primitives.errors import Rejection
from mpisa.primitives.header import Certificate, Header, make_certificate, sign_header
from tests.consensus.evidence.acts import COURT, FORGE, OLD, PARAMETERS, header
from tests.consensus.forge import Forge


def certified(made: Header, signers: tuple[int, ...], forge: Forge = FORGE) -> tuple[Header, Certificate]:
    return made, make_certificate({author: sign_header(forge.keys[author][1], made) for author in signers})


def test_whoever_signed_both_headers_of_a_height_is_convicted() -> None:
    found = evidence_in([certified(header(60), (0, 1, 2)), certified(header(60, 1), (1, 2, 3))], COURT, PARAMETERS)
    assert [(item.kind, item.author, item.position) for item in found] == [
        (EvidenceKind.DOUBLE_HEADER, 1, 60),
        (EvidenceKind.DOUBLE_HEADER, 2, 60),
    ]
    assert [verify_evidence(item.raw, COURT, PARAMETERS) for item in found] == found


def test_all_signers_of_a_header_above_its_epoch_s_end_are() -> None:
    found = evidence_in([certified(header(41, epoch=5), (0, 2, 3, 4), OLD)], COURT, PARAMETERS)
    assert [(item.kind, item.author, item.epoch) for item in found] == [
        (EvidenceKind.ABOVE_CLOSING, author, 5) for author in (0, 2, 3, 4)
    ]


def test_what_proves_nothing() -> None:
    nothing = "bad-evidence: nobody signed two of these headers, or one above its epoch's end"
    same = certified(header(60), (0, 1, 2))
    for headers in ([], [same], [same, same], [same, certified(header(61), (0, 1, 2))]):
        with pytest.raises(Rejection) as caught:
            evidence_in(headers, COURT, PARAMETERS)
        assert str(caught.value) == nothing


def test_a_false_signature_is_refused() -> None:
    _, certificate = certified(header(60, 2), (0, 1, 2))
    with pytest.raises(Rejection, match="bad-signature: not authority 0's"):
        evidence_in([certified(header(60), (0, 1, 2)), (header(60, 1), certificate)], COURT, PARAMETERS)
    foreign = replace(header(41, epoch=5), chain_hash=bytes(32))
    with pytest.raises(Rejection, match="wrong-chain"):
        evidence_in([certified(foreign, (0,), OLD)], COURT, PARAMETERS)
