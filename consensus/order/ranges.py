"""Ranges of certified commits: what a node that is far behind applies directly (docs/protocol.md, section 12).

A certified header binds everything below it: headers are linked by hash, the commit digest chains every commit's leader
and vertices in order, a vertex's id binds its header's bytes, and those its payload and evidence. So a range is checked
by hashes and one quorum of signatures; no vertex signature is needed to know what was ordered. What the header doesn't
bind (slot and conduct) the window root does. From the checks follows the cursor that an ordinary node stores with the
block.

A block's outline, the references of all vertices of its commits, is checked before its vertices: from then on each
vertex is known by its hash, however many answers they take. An answer ends within one epoch.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from consensus.dag.committee import Committee
from consensus.dag.judging import check_signature
from consensus.dag.vertex import MAX_HEIGHT, Vertex, VertexRef, decode_vertex
from consensus.events import BlockBoundary, CommittedSubDag, content_of
from consensus.order.checkpoint import (
    Checkpoint,
    close_block,
    decode_conduct,
    encode_conduct,
    encode_cursor,
    next_commit,
)
from consensus.order.conduct import Conduct
from consensus.order.linearizer import commit_digest
from consensus.order.window import Window
from consensus.parameters import MAX_AUTHORITIES, Parameters
from mpisa.primitives import codec
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.header import (
    HEADER_BYTES,
    MAX_CERTIFICATE_BYTES,
    Certificate,
    Header,
    ValidatorSet,
    decode_header,
    header_hash,
    verify_certificate,
)
from mpisa.primitives.identifiers import Epoch, Height

MAX_OUTLINE_BYTES: Final = 8 << 20
MAX_ANSWER_BYTES: Final = 24 << 20
MAX_ANSWER_BLOCKS: Final = 1_024
MAX_ANSWER_VERTICES: Final = 32_768
_REF: Final = struct.Struct(">QI32s")


@dataclass(frozen=True, slots=True)
class Outline:
    """The commits that one chain block covers: each one's vertices in order, its leader last; slot and conduct are
    those of the checkpoint behind the last.
    """

    slot: int
    conduct: Conduct
    commits: tuple[tuple[VertexRef, ...], ...]

    def refs(self) -> tuple[VertexRef, ...]:
        """All of them, commit after commit."""
        return tuple([ref for refs in self.commits for ref in refs])


@dataclass(frozen=True, slots=True)
class RangeBlock:
    """A block as it travels: raw header, certificate (empty: none here), outline, and vertices, as many as fitted."""

    header: bytes
    certificate: bytes
    outline: bytes
    vertices: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class RangeAnswer:
    """What a peer says: its latest certified height, the lowest height that it can serve, and blocks in sequence."""

    certified: Height
    lowest: Height
    blocks: tuple[RangeBlock, ...]


@dataclass(frozen=True, slots=True)
class Position:
    """Where a verifier stands: the last block's header, and what the next one builds on."""

    header: Header
    checkpoint: Checkpoint
    window: Window


@dataclass(frozen=True, slots=True)
class OpenBlock:
    """A block whose header and outline are checked; `refs` are the vertices that belong to it, in order."""

    header: Header
    certificate: Certificate | None
    outline: bytes
    refs: tuple[VertexRef, ...]
    folded: int
    after: Position


@dataclass(frozen=True, slots=True)
class CertifiedBlock:
    """A block that is checked whole. `commit` is the one that closes it, as an engine would have emitted it; `vertices`
    are those of all its commits, `raws` their bytes.
    """

    header: Header
    certificate: Certificate | None
    outline: bytes
    commit: CommittedSubDag
    vertices: tuple[Vertex, ...]
    raws: tuple[bytes, ...]


def encode_outline(outline: Outline) -> bytes:
    """Slot, conduct, and for each commit its references joined: round u64, author u32, id."""
    commits = tuple(b"".join(_REF.pack(*ref) for ref in refs) for refs in outline.commits)
    return codec.encode((outline.slot, encode_conduct(outline.conduct), commits))


def decode_outline(raw: bytes, max_commits: int) -> Outline:
    """The outline of these bytes: commits that aren't empty, references that ascend. Raises Rejection."""
    items = codec.expect_tuple(codec.decode(raw, max_bytes=MAX_OUTLINE_BYTES, max_depth=3), "outline", length=3)
    slot = codec.expect_int(items[0], "outline.slot", 0, MAX_AUTHORITIES)
    conduct = decode_conduct(items[1], "outline.conduct")
    commits = codec.expect_tuple(items[2], "outline.commits", max_commits)
    refs = tuple(_decode_refs(item, f"outline.commits[{at}]") for at, item in enumerate(commits))
    return Outline(slot, conduct, refs)


def _decode_refs(value: codec.Value, name: str) -> tuple[VertexRef, ...]:
    joined = codec.expect_bytes(value, name)
    if not joined or len(joined) % _REF.size:
        raise Rejection(
            RejectionReason.MALFORMED, f"{name}: expected one or more of {_REF.size} bytes, got {len(joined)} bytes"
        )
    refs = tuple(VertexRef._make(item) for item in _REF.iter_unpack(joined))
    if any(later <= earlier for earlier, later in pairwise(refs)):
        raise Rejection(RejectionReason.MALFORMED, f"{name}: expected ascending references without repeats")
    return refs


def encode_answer(answer: RangeAnswer) -> bytes:
    """The answer's one encoding."""
    blocks = tuple((block.header, block.certificate, block.outline, block.vertices) for block in answer.blocks)
    return codec.encode((answer.certified, answer.lowest, blocks))


def decode_answer(raw: bytes, max_blocks: int, parameters: Parameters) -> RangeAnswer:
    """The answer of these bytes, its shape and sizes checked and no more. Raises Rejection."""
    items = codec.expect_tuple(codec.decode(raw, max_bytes=MAX_ANSWER_BYTES, max_depth=4), "range", length=3)
    blocks = codec.expect_tuple(items[2], "range.blocks", min(max_blocks, MAX_ANSWER_BLOCKS))
    return RangeAnswer(
        Height(codec.expect_int(items[0], "range.certified", 0, MAX_HEIGHT)),
        Height(codec.expect_int(items[1], "range.lowest", 0, MAX_HEIGHT)),
        tuple(_decode_block(item, f"range.blocks[{at}]", parameters) for at, item in enumerate(blocks)),
    )


def _decode_block(value: codec.Value, name: str, parameters: Parameters) -> RangeBlock:
    items = codec.expect_tuple(value, name, length=4)
    vertices = codec.expect_tuple(items[3], f"{name}.vertices", MAX_ANSWER_VERTICES)
    return RangeBlock(
        codec.expect_bytes(items[0], f"{name}.header", length=HEADER_BYTES),
        codec.expect_bytes(items[1], f"{name}.certificate", max_length=MAX_CERTIFICATE_BYTES),
        codec.expect_bytes(items[2], f"{name}.outline", max_length=MAX_OUTLINE_BYTES),
        tuple([decode_raw(item, f"{name}.vertices", parameters) for item in vertices]),
    )


def decode_raw(value: codec.Value, name: str, parameters: Parameters) -> bytes:
    """A raw vertex within its cap."""
    return codec.expect_bytes(value, name, max_length=parameters.max_vertex_bytes)


def open_block(before: Position, block: RangeBlock, validators: ValidatorSet, parameters: Parameters) -> OpenBlock:
    """The block behind `before`, by its header, certificate and outline.

    A block without a certificate is vouched for by a later one only. Raises Rejection: BAD_HEADER, BAD_CERTIFICATE,
    NO_QUORUM, HASH_MISMATCH (the outline isn't the header's), and what decoding raises.
    """
    header = _follow(before.header, decode_header(block.header), validators)
    certificate = None
    if block.certificate:
        certificate = Certificate.decode(block.certificate)
        verify_certificate(header, certificate, validators)
    # Time rises by a millisecond a commit at least, and a heartbeat closes a block.
    outline = decode_outline(block.outline, parameters.heartbeat_ms + 1)
    checkpoint = _chain(before.checkpoint, outline, header)
    window = before.window
    for refs in outline.commits:
        window = window.moved(refs, refs[-1].round - parameters.gc_depth)
    after = Position(header, close_block(checkpoint, header.window_root), window)
    folded = sum(map(len, outline.commits[:-1]))
    return OpenBlock(header, certificate, block.outline, outline.refs(), folded, after)


def _follow(previous: Header, header: Header, validators: ValidatorSet) -> Header:
    expected: dict[str, int | bytes] = {
        "chain_hash": previous.chain_hash,
        "height": previous.height + 1,
        "epoch": _epoch_behind(previous),
        "first_commit": previous.last_commit + 1,
        "previous": header_hash(previous),
        "validators_hash": validators.hash,
    }
    for name, value in expected.items():
        got = getattr(header, name)
        if got != value:
            raise Rejection(RejectionReason.BAD_HEADER, f"{name}: expected {_text(value)}, got {_text(got)}")
    if header.time_ms <= previous.time_ms:
        raise Rejection(
            RejectionReason.BAD_HEADER, f"time_ms: expected more than {previous.time_ms}, got {header.time_ms}"
        )
    return header


def _text(value: int | bytes) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _chain(checkpoint: Checkpoint, outline: Outline, header: Header) -> Checkpoint:
    """The checkpoint behind the outline's commits, which lead to the header's commit digest."""
    count = header.last_commit - header.first_commit + 1
    if len(outline.commits) != count:
        raise Rejection(
            RejectionReason.HASH_MISMATCH, f"outline: expected the header's {count} commits, got {len(outline.commits)}"
        )
    for position, refs in enumerate(outline.commits, 1):
        index, leader = checkpoint.index + 1, refs[-1]
        digest = commit_digest(checkpoint.digest, index, leader.id, [ref.id for ref in refs])
        # Of the folded commits nothing but leader and digest matters any more.
        time_ms = header.time_ms if position == count else checkpoint.time_ms
        checkpoint = next_commit(checkpoint, leader, outline.slot, time_ms, digest, outline.conduct)
    if checkpoint.digest != header.commit_digest:
        raise Rejection(
            RejectionReason.HASH_MISMATCH,
            f"outline: expected commits of the digest {header.commit_digest.hex()}, got {checkpoint.digest.hex()}",
        )
    return checkpoint


def require_window(position: Position) -> None:
    """That the vertices ordered so far are those of the header's window. Raises Rejection(HASH_MISMATCH)."""
    root = position.window.root(position.checkpoint)
    if root != position.header.window_root:
        raise Rejection(
            RejectionReason.HASH_MISMATCH,
            f"window: expected the root {position.header.window_root.hex()}, got {root.hex()}",
        )


def read_vertices(
    block: OpenBlock, first: int, raws: Sequence[bytes], parameters: Parameters
) -> tuple[tuple[Vertex, bytes], ...]:
    """The block's vertices from position `first` on, each by its hash.

    Raises Rejection: TOO_MANY, HASH_MISMATCH for another vertex, and what decoding raises.
    """
    refs = block.refs[first : first + len(raws)]
    if len(refs) < len(raws):
        raise Rejection(
            RejectionReason.TOO_MANY,
            f"vertices: expected at most {len(block.refs) - first} from {first} on, got {len(raws)}",
        )
    found = []
    for position, (ref, raw) in enumerate(zip(refs, raws, strict=True), first):
        vertex = decode_vertex(raw, parameters)
        if vertex.ref != ref:
            raise Rejection(
                RejectionReason.HASH_MISMATCH,
                f"vertices[{position}]: expected {ref.id.hex()} of round {ref.round}, "
                f"got {vertex.id.hex()} of round {vertex.round}",
            )
        found.append((vertex, raw))
    return tuple(found)


def complete_block(block: OpenBlock, found: Sequence[tuple[Vertex, bytes]]) -> CertifiedBlock:
    """The block with all its vertices, and the cursor that belongs to it."""
    assert len(found) == len(block.refs), "every vertex of the block is here"
    header, checkpoint = block.header, block.after.checkpoint
    vertices = tuple([vertex for vertex, _ in found])
    commit = CommittedSubDag(
        header.last_commit,
        block.refs[-1],
        vertices[block.folded :],
        header.time_ms,
        header.commit_digest,
        header.window_root,
        header.epoch,
        BlockBoundary(header.first_commit, header.height),
        encode_cursor(checkpoint),
        content_of(vertices),
    )
    raws = tuple([raw for _, raw in found])
    return CertifiedBlock(header, block.certificate, block.outline, commit, vertices, raws)


def verify_range(
    before: Position, blocks: Sequence[RangeBlock], validators: ValidatorSet, parameters: Parameters
) -> tuple[tuple[CertifiedBlock, ...], Position]:
    """Whole blocks in sequence, the last one certified, and where they lead. Raises Rejection."""
    done, after = verify_blocks(before, blocks, validators, parameters)
    _require_certified(done)
    return done, after


def start_of_tail(header: Header) -> Position:
    """Where to begin so that a few blocks lead to the window of the last: nothing is known but this header.

    The leaders and the window come out right once the blocks reach from the last one's GC round on, and the last one's
    window root says so.
    """
    checkpoint = Checkpoint(
        epoch=_epoch_behind(header),
        index=header.last_commit,
        leaders=(),
        slot=0,
        time_ms=header.time_ms,
        digest=header.commit_digest,
        window_root=header.window_root,
        height=header.height,
        block_index=header.last_commit,
        block_time_ms=header.time_ms,
    )
    return Position(header, checkpoint, Window())


def verify_tail(
    first: Header, blocks: Sequence[RangeBlock], validators: ValidatorSet, parameters: Parameters
) -> tuple[tuple[CertifiedBlock, ...], Position]:
    """The blocks behind `first` up to a certified one, with that one's whole window among them. Raises Rejection."""
    done, after = verify_blocks(start_of_tail(first), blocks, validators, parameters, is_window_known=False)
    if not done:
        raise Rejection(RejectionReason.MALFORMED, "tail: expected one block at least, got none")
    _require_certified(done)
    require_window(after)
    return done, after


def verify_blocks(
    position: Position,
    blocks: Sequence[RangeBlock],
    validators: ValidatorSet,
    parameters: Parameters,
    *,
    is_window_known: bool = True,
) -> tuple[tuple[CertifiedBlock, ...], Position]:
    """Whole blocks in sequence, and where they lead; a certified one behind them has to vouch for them. Raises
    Rejection.
    """
    done: list[CertifiedBlock] = []
    for block in blocks:
        opened = open_block(position, block, validators, parameters)
        if is_window_known:
            require_window(opened.after)
        found = read_vertices(opened, 0, block.vertices, parameters)
        if len(found) != len(opened.refs):
            raise Rejection(
                RejectionReason.MALFORMED, f"vertices: expected the outline's {len(opened.refs)}, got {len(found)}"
            )
        done.append(complete_block(opened, found))
        position = opened.after
    return tuple(done), position


def _require_certified(blocks: Sequence[CertifiedBlock]) -> None:
    if blocks and blocks[-1].certificate is None:
        raise Rejection(RejectionReason.BAD_CERTIFICATE, "range: expected a certificate of its last block, got none")


def check_signatures(vertices: Iterable[Vertex], committee: Committee) -> None:
    """That the authors signed them: not needed for the order, but for whoever hands them on. Raises Rejection."""
    for vertex in vertices:
        check_signature(vertex.id, vertex.signature, vertex.header, committee)


def _epoch_behind(header: Header) -> Epoch:
    return Epoch(header.epoch + 1) if header.closes_epoch else header.epoch
