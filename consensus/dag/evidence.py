"""Evidence: bytes that prove what an authority signed and must not have (docs/protocol.md, section 8).

A tagged union with one encoding for each proof. Nobody needs more than the bytes, the committees and the heights of the
epochs to judge it (`dag/judging.py`): neither parents nor validity of a vertex, nor what stands in a block. Different
signature bytes over one hash are no evidence.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias

from consensus.dag.vertex import (
    MAX_HEIGHT,
    SIGNATURE_BYTES,
    Vertex,
    VertexHeader,
    decode_header,
    vertex_id,
)
from consensus.parameters import MAX_AUTHORITIES, Parameters
from mpisa.primitives import codec
from mpisa.primitives.digest import DIGEST_BYTES
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.header import Certificate, Header
from mpisa.primitives.header import decode_header as decode_block_header
from mpisa.primitives.header import encode_header as encode_block_header
from mpisa.primitives.identifiers import AuthorityIndex, Epoch, Height

MAX_STRAYS: Final = 1
"""Stray headers a vertex may carry: each brings a whole certificate."""

_FRAMING_BYTES: Final = 64 + 2 * (SIGNATURE_BYTES + DIGEST_BYTES + 16)
_CERTIFICATE_BYTES: Final = 32 + MAX_AUTHORITIES * SIGNATURE_BYTES


class EvidenceKind(StrEnum):
    """What an authority did. All but the stray header is punishable; that one may be a bug."""

    DOUBLE_VERTEX = "double-vertex"
    DOUBLE_HEADER = "double-header"
    ABOVE_CLOSING = "above-closing"
    STRAY_HEADER = "stray-header"


_KINDS: Final = tuple(EvidenceKind)


@dataclass(frozen=True, slots=True)
class SignedVertex:
    """A vertex header with its exact bytes and its author's signature."""

    header: VertexHeader
    header_bytes: bytes
    signature: bytes

    @property
    def id(self) -> bytes:
        """The vertex's id."""
        return vertex_id(self.header_bytes)


@dataclass(frozen=True, slots=True)
class SignedHash:
    """A certificate signature (64 bytes) over some header hash."""

    header_hash: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class DoubleVertex:
    """Two vertices of one author, epoch and round, by ascending id."""

    first: SignedVertex
    second: SignedVertex


@dataclass(frozen=True, slots=True)
class DoubleHeader:
    """One authority's signatures over two header hashes of one height, by ascending hash."""

    author: AuthorityIndex
    height: Height
    first: SignedHash
    second: SignedHash


@dataclass(frozen=True, slots=True)
class AboveClosing:
    """A header of an epoch, above the height that closed it, signed."""

    author: AuthorityIndex
    header: Header
    signature: bytes


@dataclass(frozen=True, slots=True)
class StrayHeader:
    """An authority's signature over another header hash than the one that a quorum certified at this height."""

    author: AuthorityIndex
    height: Height
    stray: SignedHash
    header_hash: bytes
    certificate: Certificate


Proof: TypeAlias = DoubleVertex | DoubleHeader | AboveClosing | StrayHeader


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom evidence is about, and what: position is a round for DOUBLE_VERTEX, else a height.

    epoch is None where the bytes don't name it: the height does, to whoever knows the epochs.
    """

    kind: EvidenceKind
    author: AuthorityIndex
    epoch: Epoch | None
    position: int


class Charge(NamedTuple):
    """What one piece of evidence is enough for: a kind, an author, an epoch (-1 where a height stands for it)."""

    kind: EvidenceKind
    author: int
    epoch: int
    height: int


def charge_of(subject: Subject) -> Charge:
    """Of vertices one round is as good as another; a height is of some epoch, so only the same one says the same."""
    if subject.epoch is None:
        return Charge(subject.kind, subject.author, -1, subject.position)
    return Charge(subject.kind, subject.author, subject.epoch, 0)


@dataclass(frozen=True, slots=True)
class Found:
    """Evidence that this node came upon."""

    subject: Subject
    raw: bytes


def read_subject(raw: bytes, parameters: Parameters) -> Subject:
    """What evidence is about that was verified before."""
    return subject_of(decode_evidence(raw, parameters))


def max_evidence_bytes(parameters: Parameters) -> int:
    """No evidence is longer than this."""
    return max(2 * parameters.max_header_bytes, _CERTIFICATE_BYTES) + _FRAMING_BYTES


def subject_of(proof: Proof) -> Subject:
    """What the evidence is about."""
    match proof:
        case DoubleVertex():
            header = proof.first.header
            return Subject(EvidenceKind.DOUBLE_VERTEX, header.author, header.epoch, header.round)
        case DoubleHeader():
            return Subject(EvidenceKind.DOUBLE_HEADER, proof.author, None, proof.height)
        case AboveClosing():
            return Subject(EvidenceKind.ABOVE_CLOSING, proof.author, proof.header.epoch, proof.header.height)
        case StrayHeader():
            return Subject(EvidenceKind.STRAY_HEADER, proof.author, None, proof.height)


def double_vertex(first: Vertex, second: Vertex) -> bytes:
    """The evidence that two vertices of one author and round, both with valid signatures, are."""
    assert first.author == second.author, "evidence is about one author"
    assert first.round == second.round, "evidence is about one round"
    assert first.id != second.id, "evidence needs two vertices"
    low, high = sorted((first, second), key=lambda vertex: vertex.id)
    return encode_evidence(
        DoubleVertex(
            SignedVertex(low.header, low.header_bytes, low.signature),
            SignedVertex(high.header, high.header_bytes, high.signature),
        )
    )


def double_header(author: AuthorityIndex, height: Height, one: SignedHash, other: SignedHash) -> bytes:
    """The evidence that an authority's signatures over two hashes of one height are."""
    assert one.header_hash != other.header_hash, "evidence needs two headers"
    first, second = sorted((one, other), key=lambda item: item.header_hash)
    return encode_evidence(DoubleHeader(author, height, first, second))


def encode_evidence(proof: Proof) -> bytes:
    """The proof's one encoding."""
    match proof:
        case DoubleVertex():
            pair = tuple((item.header_bytes, item.signature) for item in (proof.first, proof.second))
            return codec.encode((0, *pair))
        case DoubleHeader():
            hashes = tuple((item.header_hash, item.signature) for item in (proof.first, proof.second))
            return codec.encode((1, proof.author, proof.height, *hashes))
        case AboveClosing():
            return codec.encode((2, proof.author, encode_block_header(proof.header), proof.signature))
        case StrayHeader():
            stray = (proof.stray.header_hash, proof.stray.signature)
            canonical = (proof.header_hash, proof.certificate.encode())
            return codec.encode((3, proof.author, proof.height, stray, canonical))


def decode_evidence(raw: bytes, parameters: Parameters) -> Proof:
    """The proof in these bytes: its shape, and that it can prove anything. No signature is checked.

    Raises Rejection(BAD_EVIDENCE) where it shows no offence whoever signed, BAD_HEADER, BAD_CERTIFICATE, and what
    decoding raises.
    """
    value = codec.decode(raw, max_bytes=max_evidence_bytes(parameters), max_depth=2)
    items = codec.expect_tuple(value, "evidence", 5)
    if not items:
        raise Rejection(RejectionReason.MALFORMED, "evidence: expected a kind, got nothing")
    kind = _KINDS[codec.expect_int(items[0], "evidence.kind", 0, len(_KINDS) - 1)]
    return _DECODERS[kind](items, parameters)


def _decode_double_vertex(items: tuple[codec.Value, ...], parameters: Parameters) -> DoubleVertex:
    _, low, high = _expect_length(items, 3)
    first, second = _signed_vertex(low, "evidence[1]", parameters), _signed_vertex(high, "evidence[2]", parameters)
    one, other = first.header, second.header
    if (one.author, one.round, one.epoch) != (other.author, other.round, other.epoch):
        raise _bad(
            f"expected one author, round and epoch, got {one.author}, {one.round}, {one.epoch} "
            f"and {other.author}, {other.round}, {other.epoch}"
        )
    if first.id >= second.id:
        raise _bad("expected two vertices with ascending ids")
    return DoubleVertex(first, second)


def _decode_double_header(items: tuple[codec.Value, ...], parameters: Parameters) -> DoubleHeader:
    _, author, height, low, high = _expect_length(items, 5)
    first, second = _signed_hash(low, "evidence[3]"), _signed_hash(high, "evidence[4]")
    if first.header_hash >= second.header_hash:
        raise _bad("expected two headers with ascending hashes")
    return DoubleHeader(_author(author), _height(height), first, second)


def _decode_above_closing(items: tuple[codec.Value, ...], parameters: Parameters) -> AboveClosing:
    _, author, header, signature = _expect_length(items, 4)
    return AboveClosing(
        _author(author),
        decode_block_header(codec.expect_bytes(header, "evidence.header")),
        codec.expect_bytes(signature, "evidence.signature", length=SIGNATURE_BYTES),
    )


def _decode_stray_header(items: tuple[codec.Value, ...], parameters: Parameters) -> StrayHeader:
    _, author, height, stray, canonical = _expect_length(items, 5)
    header_hash, certificate = codec.expect_tuple(canonical, "evidence[4]", length=2)
    proof = StrayHeader(
        _author(author),
        _height(height),
        _signed_hash(stray, "evidence[3]"),
        codec.expect_bytes(header_hash, "evidence.header_hash", length=DIGEST_BYTES),
        Certificate.decode(codec.expect_bytes(certificate, "evidence.certificate", max_length=_CERTIFICATE_BYTES)),
    )
    if proof.stray.header_hash == proof.header_hash:
        raise _bad("expected another header than the certified one")
    if proof.certificate.bitmap >> proof.author & 1:
        raise _bad("its author signed the certified header too: that is a double header")
    return proof


_DECODERS: Final[Mapping[EvidenceKind, Callable[[tuple[codec.Value, ...], Parameters], Proof]]] = {
    EvidenceKind.DOUBLE_VERTEX: _decode_double_vertex,
    EvidenceKind.DOUBLE_HEADER: _decode_double_header,
    EvidenceKind.ABOVE_CLOSING: _decode_above_closing,
    EvidenceKind.STRAY_HEADER: _decode_stray_header,
}


def _expect_length(items: tuple[codec.Value, ...], length: int) -> tuple[codec.Value, ...]:
    return codec.expect_tuple(items, "evidence", length=length)


def _signed_vertex(value: codec.Value, name: str, parameters: Parameters) -> SignedVertex:
    items = codec.expect_tuple(value, name, length=2)
    header_bytes = codec.expect_bytes(items[0], f"{name}.header", max_length=parameters.max_header_bytes)
    signature = codec.expect_bytes(items[1], f"{name}.signature", length=SIGNATURE_BYTES)
    return SignedVertex(decode_header(header_bytes, parameters), header_bytes, signature)


def _signed_hash(value: codec.Value, name: str) -> SignedHash:
    items = codec.expect_tuple(value, name, length=2)
    return SignedHash(
        codec.expect_bytes(items[0], f"{name}.hash", length=DIGEST_BYTES),
        codec.expect_bytes(items[1], f"{name}.signature", length=SIGNATURE_BYTES),
    )


def _author(value: codec.Value) -> AuthorityIndex:
    return AuthorityIndex(codec.expect_int(value, "evidence.author", 0, MAX_AUTHORITIES - 1))


def _height(value: codec.Value) -> Height:
    return Height(codec.expect_int(value, "evidence.height", 1, MAX_HEIGHT))


def _bad(detail: str) -> Rejection:
    return Rejection(RejectionReason.BAD_EVIDENCE, detail)
