"""The bytes of a vertex, and which are refused."""

from dataclasses import replace
from random import Random

import pytest

from consensus.dag.evidence import double_vertex
from consensus.dag.validation import verify_vertex
from consensus.dag.vertex import (
    ExecutionSignature,
    Vertex,
    VertexRef,
    decode_vertex,
    encode_header,
    encode_vertex,
    sign_vertex,
)
from consensus.parameters import Parameters
from mpisa.primitives import codec
from mpisa.primitives.errors import Rejection
from mpisa.primitives.identifiers import AuthorityIndex, Height, Round
from tests.consensus.forge import NOW, Forge
from tests.simulator.world import CHAIN_HASH

PARAMETERS = Parameters()


def rich(forge: Forge) -> Vertex:
    first, second = forge.vertex(1, 2), forge.vertex(1, 2, payload=b"other", keep=False)
    forge.layer(1, (0, 1, 3))
    signature = ExecutionSignature(Height(7), bytes(32), AuthorityIndex(1), bytes(64))
    evidence = (double_vertex(first, second),)
    return forge.vertex(2, 1, payload=b"payload", evidence=evidence, signatures=(signature,))


def verify(forge: Forge, raw: bytes) -> Vertex:
    return verify_vertex(raw, forge.committee, CHAIN_HASH, PARAMETERS)


def test_it_comes_back_as_it_was() -> None:
    forge = Forge()
    vertex = rich(forge)
    raw = encode_vertex(vertex)
    assert decode_vertex(raw, PARAMETERS) == vertex
    assert verify(forge, raw) == vertex
    assert encode_vertex(decode_vertex(raw, PARAMETERS)) == raw


def test_every_truncation_is_refused() -> None:
    forge = Forge()
    raw = encode_vertex(rich(forge))
    for length in range(len(raw)):
        with pytest.raises(Rejection):
            verify(forge, raw[:length])
    with pytest.raises(Rejection):
        verify(forge, raw + b"\0")


def test_no_flipped_bit_passes() -> None:
    forge = Forge()
    raw = encode_vertex(rich(forge))
    random = Random(1)
    for _ in range(600):
        position = random.randrange(len(raw) * 8)
        damaged = bytearray(raw)
        damaged[position // 8] ^= 1 << (position % 8)
        with pytest.raises(Rejection):
            verify(forge, bytes(damaged))


def test_random_bytes_are_refused() -> None:
    random = Random(2)
    forge = Forge()
    for _ in range(500):
        with pytest.raises(Rejection):
            verify(forge, random.randbytes(random.randint(0, 300)))


def test_another_encoding_of_the_same_header_is_refused() -> None:
    forge = Forge()
    vertex = forge.vertex(1, 0)
    header = encode_header(vertex.header)
    assert header[33 + 2] == 0, "the epoch in its shortest form"
    longer = header[:35] + b"\xcc\x00" + header[36:]
    with pytest.raises(Rejection, match="not-canonical"):
        verify(forge, codec.encode((longer, vertex.signature, b"", ())))


def refused(forge: Forge, vertex: Vertex) -> str:
    with pytest.raises(Rejection) as caught:
        verify(forge, encode_vertex(vertex))
    return str(caught.value)


def test_origin_is_checked() -> None:
    forge = Forge()
    assert refused(forge, forge.vertex(1, 0, chain_hash=bytes(32))).startswith("wrong-chain: vertex: expected chain")
    assert refused(forge, forge.vertex(1, 0, epoch=3)) == "wrong-epoch: vertex: expected epoch 0, got 3"
    small = Forge((1, 1, 1))
    assert refused(small, forge.vertex(1, 3)) == "unknown-authority: vertex: expected an author below 3, got 3"


def test_parents_are_checked() -> None:
    forge = Forge()
    own, *others = forge.genesis
    bad = "bad-parents: "
    assert refused(forge, forge.vertex(1, 0, [])) == bad + "parents[0]: expected author 0's own previous vertex"
    assert refused(forge, forge.vertex(1, 0, [others[0], own, *others[1:]])).startswith(bad + "parents[0]")
    assert (
        refused(forge, forge.vertex(1, 0, [own, others[0], others[0], others[1]]))
        == bad + "parents[2]: author 1 already is among the parents"
    )
    assert refused(forge, forge.vertex(1, 0, [own, others[0]])) == bad + "stake 2 of 4 at round 0 is no quorum"
    high = VertexRef(Round(1), AuthorityIndex(3), bytes(32))
    assert (
        refused(forge, forge.vertex(1, 0, [own, *others[:2], high]))
        == bad + "parents[3]: expected a round below 1, got 1"
    )
    far = VertexRef(Round(0), AuthorityIndex(9), bytes(32))
    assert (
        refused(forge, forge.vertex(1, 0, [own, *others, far])) == bad + "parents[4]: expected an author below 4, got 9"
    )


def test_payload_and_evidence_must_be_the_bound_ones() -> None:
    forge = Forge()
    vertex = forge.vertex(1, 0, payload=b"abc")
    assert (
        refused(forge, replace(vertex, payload=b"xyz"))
        == "bad-payload: payload of 3 bytes isn't the one of 3 bytes that the header binds"
    )
    assert (
        refused(forge, replace(vertex, evidence=(b"x",)))
        == "bad-evidence: the header doesn't bind these 1 pieces of evidence"
    )


def test_signatures_of_others_are_refused() -> None:
    forge = Forge()
    vertex = forge.vertex(1, 0)
    other = sign_vertex(vertex.header, b"", (), forge.keys[1][0])
    assert refused(forge, other) == "bad-signature: not authority 0's signature over its vertex of round 1"


def test_execution_signatures_ascend() -> None:
    forge = Forge()
    one = ExecutionSignature(Height(2), bytes(32), AuthorityIndex(0), bytes(64))
    assert "expected ascending heights" in refused(forge, forge.vertex(1, 0, signatures=(one, one)))


def test_sizes_are_capped() -> None:
    forge = Forge()
    tight = Parameters(max_payload_bytes=10, max_execution_signatures=1)
    fits = encode_vertex(forge.vertex(1, 0, payload=b"0123456789"))
    assert verify_vertex(fits, forge.committee, CHAIN_HASH, tight).payload == b"0123456789"
    for vertex in (
        forge.vertex(1, 0, payload=b"0123456789a", keep=False),
        forge.vertex(
            1,
            0,
            signatures=tuple(
                ExecutionSignature(Height(height), bytes(32), AuthorityIndex(0), bytes(64)) for height in (1, 2)
            ),
            keep=False,
        ),
    ):
        with pytest.raises(Rejection, match="too-large"):
            verify_vertex(encode_vertex(vertex), forge.committee, CHAIN_HASH, tight)
    with pytest.raises(Rejection, match="too-large"):
        decode_vertex(bytes(PARAMETERS.max_vertex_bytes + 1), PARAMETERS)


def test_a_vertex_with_bad_evidence_is_invalid() -> None:
    forge = Forge()
    assert refused(forge, forge.vertex(1, 0, evidence=(b"\x90",), timestamp_ms=NOW)).startswith("malformed: evidence")
