"""Walking a DAG of blocks: which blocks it has, which are missing, and its CAR stream. Iterative, bounded, never twice.

Only DAG-PB blocks have links here; every other codec is a leaf. A block that many parents share is visited once, so a
small DAG can't pretend to be a huge one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from mpisa.primitives.cid import DAG_PB, Cid
from mpisa.primitives.dag_pb import decode_node
from mpisa.primitives.errors import NotFound, Rejection, RejectionReason

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DAG_BLOCKS = 1 << 20
SCAN_MISSING = 4_096
PIECE_BYTES = 1 << 20


class Blocks(Protocol):
    """What a walk needs of a block store."""

    def get(self, cid: Cid) -> bytes: ...
    def has(self, cid: Cid) -> bool: ...
    def size_of(self, cid: Cid) -> int: ...


def links_of(cid: Cid, data: bytes) -> list[Cid]:
    """The CIDs that a block links to, in order, each checkable here. Raises Rejection for a malformed block."""
    if cid.codec != DAG_PB:
        return []
    return [Cid.from_bytes(link.hash).require_supported() for link in decode_node(data).links]


def visit_name(cid: Cid) -> bytes:
    """What makes a visit the same one: the content, and whether it is read as a node or as a leaf."""
    return b"n" + cid.digest if cid.codec == DAG_PB else cid.digest


@dataclass(slots=True)
class Walk:
    """The state of one depth-first walk: what is to be visited (top last) and what was."""

    stack: list[Cid]
    seen: set[bytes] = field(default_factory=set)

    def first_visit(self, cid: Cid) -> bool:
        """Marks a block as seen; False when it was already. Raises Rejection(TOO_LARGE) at MAX_DAG_BLOCKS."""
        name = visit_name(cid)
        if name in self.seen:
            return False
        if len(self.seen) >= MAX_DAG_BLOCKS:
            raise Rejection(RejectionReason.TOO_LARGE, f"the DAG has more than {MAX_DAG_BLOCKS} blocks")
        self.seen.add(name)
        return True

    def push(self, children: list[Cid]) -> None:
        """Children are visited next, first one first."""
        self.stack.extend(reversed(children))


@dataclass(frozen=True, slots=True)
class LocalScan:
    """What one scan found: local blocks and bytes, and missing CIDs in the order of the walk."""

    blocks: int
    size: int
    missing: tuple[Cid, ...]


def scan_local(store: Blocks, walk: Walk) -> LocalScan:
    """Walks on through local blocks until none is left or SCAN_MISSING are missing. For a worker thread."""
    blocks = size = 0
    missing: list[Cid] = []
    while walk.stack and len(missing) < SCAN_MISSING:
        cid = walk.stack.pop()
        if not walk.first_visit(cid):
            continue
        try:
            if cid.codec == DAG_PB:
                data = store.get(cid)
                walk.push(links_of(cid, data))
                size += len(data)
            else:
                size += store.size_of(cid)
        except NotFound:
            missing.append(cid)
        else:
            blocks += 1
    return LocalScan(blocks, size, tuple(missing))


@dataclass(frozen=True, slots=True)
class Piece:
    """Blocks to send now, and the block that has to be fetched before the walk can go on (None: none)."""

    blocks: tuple[tuple[Cid, bytes], ...]
    missing: Cid | None


def next_piece(store: Blocks, walk: Walk) -> Piece:
    """The next blocks in depth-first order, about PIECE_BYTES of them. For a worker thread."""
    blocks: list[tuple[Cid, bytes]] = []
    size = 0
    while walk.stack and size < PIECE_BYTES:
        cid = walk.stack[-1]
        if visit_name(cid) in walk.seen:
            walk.stack.pop()
            continue
        try:
            data = store.get(cid)
        except NotFound:
            return Piece(tuple(blocks), cid)
        walk.stack.pop()
        walk.first_visit(cid)
        walk.push(links_of(cid, data))
        blocks.append((cid, data))
        size += len(data)
    return Piece(tuple(blocks), None)


def all_cids(store: Blocks, root: Cid) -> Iterator[Cid]:
    """Every block of a DAG that is wholly here. Raises NotFound for the first that isn't."""
    walk = Walk([root])
    while walk.stack:
        cid = walk.stack.pop()
        if walk.first_visit(cid):
            yield cid
            if cid.codec == DAG_PB:
                walk.push(links_of(cid, store.get(cid)))
            elif not store.has(cid):
                raise NotFound(f"block {cid} is not in this store")
