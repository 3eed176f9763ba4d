"""The vertex: what an authority says in one round, and its bytes (docs/protocol.md, section 3).

A vertex is a signed header with payload and evidence travelling beside it; the header binds both by their roots, so
that evidence (two signed headers) stays small and never contains evidence. The id is a tagged hash of the header's
bytes, the signature is over the id under the chain hash. Encodings are canonical: decode(encode(x)) == x and the
bytes re-encode.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from consensus.parameters import MAX_AUTHORITIES, Parameters
from mpisa.primitives import codec
from mpisa.primitives.digest import DIGEST_BYTES, ZERO_DIGEST, sha256, tagged
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.identifiers import AuthorityIndex, Epoch, Height, Round
from mpisa.primitives.keys import PrivateKey, signing_message

SIGNATURE_BYTES: Final = 64
MAX_ROUND: Final = (1 << 53) - 1
MAX_TIMESTAMP_MS: Final = (1 << 53) - 1
MAX_HEIGHT: Final = (1 << 53) - 1
MAX_EPOCH: Final = (1 << 53) - 1
FIRST_EPOCH: Final = Epoch(0)
VERTEX_TAG: Final = "vertex"
_HEADER_FIELDS: Final = 10


class VertexRef(NamedTuple):
    """Where a vertex stands and which it is; sorts by round, author, id: the order inside a commit."""

    round: Round
    author: AuthorityIndex
    id: bytes


@dataclass(frozen=True, slots=True)
class ExecutionSignature:
    """An authority's secp256k1 signature (64 bytes) over the header that it executed at a height."""

    height: Height
    header_hash: bytes
    authority: AuthorityIndex
    signature: bytes


@dataclass(frozen=True, slots=True)
class VertexHeader:
    """What is signed. parents[0] is the author's own previous vertex; execution signatures are the author's own."""

    chain_hash: bytes
    epoch: Epoch
    round: Round
    author: AuthorityIndex
    timestamp_ms: int
    parents: tuple[VertexRef, ...]
    payload_root: bytes
    payload_length: int
    execution_signatures: tuple[ExecutionSignature, ...]
    evidence_root: bytes


@dataclass(frozen=True, slots=True)
class Vertex:
    """A header with its exact bytes, the Ed25519 signature over its id, and what travels beside it."""

    header: VertexHeader
    signature: bytes
    payload: bytes
    evidence: tuple[bytes, ...]
    id: bytes
    header_bytes: bytes = b""

    @property
    def round(self) -> Round:
        """The round it belongs to, from 1."""
        return self.header.round

    @property
    def author(self) -> AuthorityIndex:
        """Who signed it."""
        return self.header.author

    @property
    def parents(self) -> tuple[VertexRef, ...]:
        """What it builds on; parents[0] is its author's own."""
        return self.header.parents

    @property
    def timestamp_ms(self) -> int:
        """The author's clock when it was made."""
        return self.header.timestamp_ms

    @property
    def ref(self) -> VertexRef:
        """How others refer to it."""
        return VertexRef(self.header.round, self.header.author, self.id)


def genesis_refs(anchor: bytes, count: int) -> tuple[VertexRef, ...]:
    """The vertices of round 0, one an authority: never sent, never emitted, bound to the closing header before."""
    return tuple(
        VertexRef(Round(0), AuthorityIndex(author), tagged("genesis", anchor, author.to_bytes(8, "big")))
        for author in range(count)
    )


def payload_root(payload: bytes) -> bytes:
    """What a header says of its payload: zero for none."""
    return tagged("payload", payload) if payload else ZERO_DIGEST


def evidence_root(evidence: Sequence[bytes]) -> bytes:
    """What a header says of the evidence beside it: zero for none."""
    return tagged("evidence", *(sha256(item) for item in evidence)) if evidence else ZERO_DIGEST


def vertex_id(header_bytes: bytes) -> bytes:
    """The id of the vertex with this header."""
    return tagged(VERTEX_TAG, header_bytes)


def vertex_message(chain_hash: bytes, identifier: bytes) -> bytes:
    """The bytes that a vertex signature is over."""
    return signing_message(VERTEX_TAG, chain_hash, identifier)


def sign_vertex(header: VertexHeader, payload: bytes, evidence: tuple[bytes, ...], key: PrivateKey) -> Vertex:
    """The vertex of this header; the header must already bind payload and evidence."""
    header_bytes = encode_header(header)
    identifier = vertex_id(header_bytes)
    signature = key.sign(vertex_message(header.chain_hash, identifier))
    return Vertex(header, signature, payload, evidence, identifier, header_bytes)


def encode_header(header: VertexHeader) -> bytes:
    """The header's one encoding."""
    return codec.encode(
        (
            header.chain_hash,
            header.epoch,
            header.round,
            header.author,
            header.timestamp_ms,
            tuple((ref.round, ref.author, ref.id) for ref in header.parents),
            header.payload_root,
            header.payload_length,
            tuple((item.height, item.header_hash, item.signature) for item in header.execution_signatures),
            header.evidence_root,
        )
    )


def decode_header(raw: bytes, parameters: Parameters) -> VertexHeader:
    """The header of these bytes, its shape checked and no more. Raises Rejection naming the field."""
    value = codec.decode(raw, max_bytes=parameters.max_header_bytes, max_depth=3)
    items = codec.expect_tuple(value, "header", length=_HEADER_FIELDS)
    author = AuthorityIndex(codec.expect_int(items[3], "header.author", 0, MAX_AUTHORITIES - 1))
    signatures = codec.expect_tuple(items[8], "header.execution_signatures", parameters.max_execution_signatures)
    return VertexHeader(
        chain_hash=codec.expect_bytes(items[0], "header.chain_hash", length=DIGEST_BYTES),
        epoch=Epoch(codec.expect_int(items[1], "header.epoch", 0, MAX_EPOCH)),
        round=Round(codec.expect_int(items[2], "header.round", 1, MAX_ROUND)),
        author=author,
        timestamp_ms=codec.expect_int(items[4], "header.timestamp_ms", 0, MAX_TIMESTAMP_MS),
        parents=tuple(
            _decode_ref(item, f"header.parents[{position}]")
            for position, item in enumerate(codec.expect_tuple(items[5], "header.parents", MAX_AUTHORITIES))
        ),
        payload_root=codec.expect_bytes(items[6], "header.payload_root", length=DIGEST_BYTES),
        payload_length=codec.expect_int(items[7], "header.payload_length", 0, parameters.max_payload_bytes),
        execution_signatures=tuple(
            _decode_signature(item, author, f"header.execution_signatures[{position}]")
            for position, item in enumerate(signatures)
        ),
        evidence_root=codec.expect_bytes(items[9], "header.evidence_root", length=DIGEST_BYTES),
    )


def encode_vertex(vertex: Vertex) -> bytes:
    """The vertex's one encoding: what is sent and stored."""
    header_bytes = vertex.header_bytes or encode_header(vertex.header)
    return codec.encode((header_bytes, vertex.signature, vertex.payload, vertex.evidence))


def decode_vertex(raw: bytes, parameters: Parameters) -> Vertex:
    """The vertex of these bytes: shape, sizes, and that payload and evidence are what the header binds.

    Neither the signature nor what needs a committee is checked: `validation.verify_vertex` does. Raises Rejection.
    """
    value = codec.decode(raw, max_bytes=parameters.max_vertex_bytes, max_depth=2)
    items = codec.expect_tuple(value, "vertex", length=4)
    header_bytes = codec.expect_bytes(items[0], "vertex.header", max_length=parameters.max_header_bytes)
    signature = codec.expect_bytes(items[1], "vertex.signature", length=SIGNATURE_BYTES)
    payload = codec.expect_bytes(items[2], "vertex.payload", max_length=parameters.max_payload_bytes)
    evidence = tuple(
        codec.expect_bytes(item, f"vertex.evidence[{position}]")
        for position, item in enumerate(codec.expect_tuple(items[3], "vertex.evidence", parameters.max_evidence))
    )
    header = decode_header(header_bytes, parameters)
    if len(payload) != header.payload_length or payload_root(payload) != header.payload_root:
        raise Rejection(
            RejectionReason.BAD_PAYLOAD,
            f"payload of {len(payload)} bytes isn't the one of {header.payload_length} bytes that the header binds",
        )
    if evidence_root(evidence) != header.evidence_root:
        raise Rejection(
            RejectionReason.BAD_EVIDENCE, f"the header doesn't bind these {len(evidence)} pieces of evidence"
        )
    return Vertex(header, signature, payload, evidence, vertex_id(header_bytes), header_bytes)


def _decode_ref(value: codec.Value, name: str) -> VertexRef:
    items = codec.expect_tuple(value, name, length=3)
    return VertexRef(
        Round(codec.expect_int(items[0], f"{name}.round", 0, MAX_ROUND)),
        AuthorityIndex(codec.expect_int(items[1], f"{name}.author", 0, MAX_AUTHORITIES - 1)),
        codec.expect_bytes(items[2], f"{name}.id", length=DIGEST_BYTES),
    )


def _decode_signature(value: codec.Value, author: AuthorityIndex, name: str) -> ExecutionSignature:
    items = codec.expect_tuple(value, name, length=3)
    return ExecutionSignature(
        Height(codec.expect_int(items[0], f"{name}.height", 1, MAX_HEIGHT)),
        codec.expect_bytes(items[1], f"{name}.header_hash", length=DIGEST_BYTES),
        author,
        codec.expect_bytes(items[2], f"{name}.signature", length=SIGNATURE_BYTES),
    )
