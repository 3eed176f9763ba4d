"""Evidence from strangers: whatever the bytes, one of the named rejections and nothing else."""

from random import Random

import pytest

from consensus.dag.evidence import AboveClosing, StrayHeader, decode_evidence, double_header, encode_evidence
from consensus.dag.judging import verify_evidence
from mpisa.primitives import codec
from mpisa.primitives.errors import Rejection
from mpisa.primitives.header import header_hash, sign_header
from mpisa.primitives.identifiers import AuthorityIndex, Height
from tests.consensus.evidence.acts import COURT, OLD, PARAMETERS, certificate, header, signed
from tests.consensus.evidence.test_double_vertex import pair, raw_of

PROOFS = (
    raw_of(*pair()),
    double_header(AuthorityIndex(1), Height(60), signed(1, 60, 1), signed(1, 60, 2)),
    encode_evidence(
        AboveClosing(AuthorityIndex(4), header(41, epoch=5), sign_header(OLD.keys[4][1], header(41, epoch=5)))
    ),
    encode_evidence(
        StrayHeader(
            AuthorityIndex(3), Height(60), signed(3, 60, 1), header_hash(header(60)), certificate(60, (0, 1, 2))
        )
    ),
)


@pytest.mark.parametrize("raw", PROOFS)
def test_it_comes_back(raw: bytes) -> None:
    assert encode_evidence(decode_evidence(raw, PARAMETERS)) == raw
    verify_evidence(raw, COURT, PARAMETERS)


@pytest.mark.parametrize("raw", PROOFS)
def test_cut_and_flipped_bytes_are_refused(raw: bytes) -> None:
    random = Random(3)
    for length in range(0, len(raw), 7):
        with pytest.raises(Rejection):
            verify_evidence(raw[:length], COURT, PARAMETERS)
    for _ in range(200):
        position = random.randrange(len(raw))
        flipped = raw[:position] + bytes([raw[position] ^ 1 << random.randrange(8)]) + raw[position + 1 :]
        with pytest.raises(Rejection):
            verify_evidence(flipped, COURT, PARAMETERS)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((), "malformed: evidence: expected a kind, got nothing"),
        ((4,), "out-of-range: evidence.kind: expected 0..3, got 4"),
        ((1, 256, 60, (bytes(32), bytes(64)), (b"\x01" * 32, bytes(64))), "out-of-range: evidence.author"),
        ((2, 1, bytes(340), bytes(64)), "bad-header: expected it to start with"),
    ],
)
def test_shapes_that_prove_nothing(value: codec.Value, expected: str) -> None:
    with pytest.raises(Rejection) as caught:
        decode_evidence(codec.encode(value), PARAMETERS)
    assert str(caught.value).startswith(expected)
