"""Walking a DAG of blocks: which blocks it has, which are missing, and its CAR stream. Iterative, bounded, never twice.

Links are those of DAG-PB, DAG-CBOR and DAG-JSON; blocks of other codecs are leaves. A retrieval visits a block that
many parents share once, so a small DAG can't pretend to be a huge one; a CAR stream repeats it, since its receiver then
needs to remember none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from mpisa.primitives import links
from mpisa.primitives.car_stream import MAX_PENDING_LINKS
from mpisa.primitives.cid import IDENTITY, Cid
from mpisa.primitives.errors import NotFound, Rejection, RejectionReason
from mpisa.primitives.links import LINKING_CODECS

MAX_DAG_BLOCKS = 1 << 20
SCAN_MISSING = 4_096
PIECE_BYTES = 1 << 20
SMALLEST_COST = 256
"""What a block counts at least, so that a piece of tiny blocks stays small too."""


class Blocks(Protocol):
    """What a walk needs of a block store."""

    def get(self, cid: Cid) -> bytes: ...
    def has(self, cid: Cid) -> bool: ...
    def size_of(self, cid: Cid) -> int: ...


def links_of(cid: Cid, data: bytes) -> list[Cid]:
    """The CIDs that a block links to, in order, each checkable here. Raises Rejection for a malformed block."""
    return [child.require_supported() for child in links.links_of(cid, data)]


def visit_name(cid: Cid) -> bytes:
    """What makes a visit the same one: the content, and whether it is read as a node or as a leaf."""
    return bytes((cid.codec & 0xFF,)) + cid.digest if cid.codec in LINKING_CODECS else cid.digest


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
            if cid.codec in LINKING_CODECS:
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


def next_piece(store: Blocks, stack: list[Cid]) -> Piece:
    """The next blocks of a CAR stream, about PIECE_BYTES of them: depth first, each as often as it is linked.

    For a worker thread. Raises Rejection(TOO_LARGE) when more links are pending than any honest DAG has.
    """
    blocks: list[tuple[Cid, bytes]] = []
    size = 0
    while stack and size < PIECE_BYTES:
        cid = stack[-1]
        try:
            data = store.get(cid)
        except NotFound:
            return Piece(tuple(blocks), cid)
        stack.pop()
        children = links_of(cid, data)
        if len(stack) + len(children) > MAX_PENDING_LINKS:
            raise Rejection(RejectionReason.TOO_LARGE, f"{cid} brings more than {MAX_PENDING_LINKS} links at once")
        stack.extend(reversed(children))
        if cid.digest_code != IDENTITY:
            blocks.append((cid, data))
        size += max(len(data), SMALLEST_COST)
    return Piece(tuple(blocks), None)
