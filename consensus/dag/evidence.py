"""Evidence of equivocation: two signed vertex headers of one author for one round (docs/protocol.md, section 8).

It is judged without the parents or the validity of either vertex, so that nobody needs more than its bytes. The two
are in ascending order of id: one pair, one encoding. Different signature bytes over one header are no evidence.
"""

from dataclasses import dataclass
from typing import Final

from consensus.dag.committee import Committee
from consensus.dag.vertex import (
    SIGNATURE_BYTES,
    Vertex,
    VertexHeader,
    decode_header,
    vertex_id,
    vertex_message,
)
from consensus.parameters import Parameters
from mpisa.primitives import codec
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.identifiers import AuthorityIndex, Epoch, Round

_FRAMING_BYTES: Final = 16 + 2 * (SIGNATURE_BYTES + 16)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Who signed two vertices of which round, and the bytes that show it."""

    author: AuthorityIndex
    round: Round
    raw: bytes


def max_evidence_bytes(parameters: Parameters) -> int:
    """No evidence is longer than this."""
    return 2 * parameters.max_header_bytes + _FRAMING_BYTES


def make_evidence(first: Vertex, second: Vertex) -> Evidence:
    """The evidence that two vertices of one author and round, both with valid signatures, are."""
    assert first.author == second.author, "evidence is about one author"
    assert first.round == second.round, "evidence is about one round"
    assert first.id != second.id, "evidence needs two vertices"
    low, high = sorted((first, second), key=lambda vertex: vertex.id)
    raw = codec.encode(((low.header_bytes, low.signature), (high.header_bytes, high.signature)))
    return Evidence(first.author, first.round, raw)


def verify_evidence(
    raw: bytes, committee: Committee, chain_hash: bytes, epoch: Epoch, parameters: Parameters
) -> Evidence:
    """The evidence of these bytes, both signatures checked.

    Raises Rejection: BAD_EVIDENCE where it doesn't show equivocation, WRONG_CHAIN, WRONG_EPOCH, UNKNOWN_AUTHORITY,
    BAD_SIGNATURE, and what decoding raises.
    """
    value = codec.decode(raw, max_bytes=max_evidence_bytes(parameters), max_depth=2)
    signed = [
        _read_signed(item, f"evidence[{position}]", parameters)
        for position, item in enumerate(codec.expect_tuple(value, "evidence", length=2))
    ]
    (first, first_id, _), (second, second_id, _) = signed
    if (first.author, first.round, first.epoch) != (second.author, second.round, second.epoch):
        raise Rejection(
            RejectionReason.BAD_EVIDENCE,
            f"expected one author, round and epoch, got {first.author}, {first.round}, {first.epoch} "
            f"and {second.author}, {second.round}, {second.epoch}",
        )
    if first_id >= second_id:
        raise Rejection(RejectionReason.BAD_EVIDENCE, "expected two vertices with ascending ids")
    for header, identifier, signature in signed:
        check_origin(header, committee, chain_hash, epoch, "evidence")
        check_signature(identifier, signature, header, committee)
    return Evidence(first.author, first.round, raw)


def evidence_author(raw: bytes, parameters: Parameters) -> AuthorityIndex:
    """Whom evidence that was verified before is about."""
    items = codec.expect_tuple(codec.decode(raw, max_bytes=max_evidence_bytes(parameters), max_depth=2), "evidence")
    return _read_signed(items[0], "evidence[0]", parameters)[0].author


def check_origin(header: VertexHeader, committee: Committee, chain_hash: bytes, epoch: Epoch, what: str) -> None:
    """That a header is of our chain, epoch and committee. Raises WRONG_CHAIN, WRONG_EPOCH or UNKNOWN_AUTHORITY."""
    if header.chain_hash != chain_hash:
        raise Rejection(
            RejectionReason.WRONG_CHAIN, f"{what}: expected chain {chain_hash.hex()}, got {header.chain_hash.hex()}"
        )
    if header.epoch != epoch:
        raise Rejection(RejectionReason.WRONG_EPOCH, f"{what}: expected epoch {epoch}, got {header.epoch}")
    if not committee.is_member(header.author):
        raise Rejection(
            RejectionReason.UNKNOWN_AUTHORITY,
            f"{what}: expected an author below {len(committee)}, got {header.author}",
        )


def check_signature(identifier: bytes, signature: bytes, header: VertexHeader, committee: Committee) -> None:
    """That the author signed the vertex with this id. Raises BAD_SIGNATURE."""
    key = committee[header.author].verification_key
    if not key.verify(vertex_message(header.chain_hash, identifier), signature):
        raise Rejection(
            RejectionReason.BAD_SIGNATURE,
            f"not authority {header.author}'s signature over its vertex of round {header.round}",
        )


def _read_signed(value: codec.Value, name: str, parameters: Parameters) -> tuple[VertexHeader, bytes, bytes]:
    items = codec.expect_tuple(value, name, length=2)
    header_bytes = codec.expect_bytes(items[0], f"{name}.header", max_length=parameters.max_header_bytes)
    signature = codec.expect_bytes(items[1], f"{name}.signature", length=SIGNATURE_BYTES)
    return decode_header(header_bytes, parameters), vertex_id(header_bytes), signature
