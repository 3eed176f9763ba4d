"""Blocks from a client in CAR streams: which of them this node misses, and those it takes.

A client that built a DAG by itself asks which of its blocks are missing, sends these, and names the root last. The root
is pinned when all of its DAG is here, so an upload may be cut off and go on as often as it likes: nothing is kept of it
but the blocks. Whatever was asked about or sent stays here for HOLD_S at least, pinned or not.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mpisa.node.dag import Walk, scan_local
from mpisa.primitives.errors import IntegrityError, Rejection, RejectionReason
from storage.car import MAX_CAR_BLOCKS, CarReader
from storage.session import BATCH_BLOCKS, BATCH_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mpisa.node.pipe import BytePipe
    from mpisa.primitives.cid import Cid
    from storage.blockstore import BlockStore
    from storage.leases import Lease

HOLD_S: Final = 3600.0
IDLE_S: Final = 60.0
"""A collection that is asked for, or that puts wait for, takes what no upload asked about for so long."""
MAX_ASKED: Final = 4_096
"""CIDs in one question."""
MAX_ROOTS: Final = 16
"""Roots of one CAR that are pinned; more are refused."""


@dataclass(frozen=True, slots=True)
class CarBlocks:
    """What one CAR brought: its roots, how many blocks it had, their bytes."""

    roots: tuple[Cid, ...]
    blocks: int
    size: int


class Holding:
    """Two leases that take turns: what was kept is protected for HOLD_S to 2 * HOLD_S. Belongs to the loop."""

    def __init__(self, store: BlockStore) -> None:
        self._store = store
        self._current: Lease | None = None
        self._open: set[Lease] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self._uploads = 0
        self._used = 0.0

    @contextmanager
    def upload(self) -> Iterator[None]:
        """One upload goes on: what it put stays at least until it ends. Raises NotReady as `lease` does."""
        self.lease()
        self._uploads += 1
        try:
            yield
        finally:
            self._uploads -= 1
            self._used = asyncio.get_running_loop().time()

    def let_go(self) -> None:
        """Release everything, for space is wanted; nothing while an upload goes on or did IDLE_S ago."""
        if not self._uploads and asyncio.get_running_loop().time() - self._used >= IDLE_S:
            self.close()

    def lease(self) -> Lease:
        """The lease to keep blocks by. Raises NotReady when the store has no more."""
        self._used = asyncio.get_running_loop().time()
        if self._current is None:
            self._current = lease = self._store.lease("blocks of uploads")
            self._open.add(lease)
            self._later(HOLD_S, self._retire)
            self._later(2 * HOLD_S, lambda: self._release(lease))
        return self._current

    def _later(self, seconds: float, do: Callable[[], None]) -> None:
        self._timers.add(asyncio.get_running_loop().call_later(seconds, do))

    def _retire(self) -> None:
        self._current = None

    def _release(self, lease: Lease) -> None:
        self._open.discard(lease)
        lease.release()
        self._timers = {timer for timer in self._timers if timer.when() > asyncio.get_running_loop().time()}

    def close(self) -> None:
        """Release everything."""
        for timer in self._timers:
            timer.cancel()
        for lease in self._open:
            lease.release()
        self._open.clear()
        self._timers.clear()
        self._current = None


def take_car(store: BlockStore, pipe: BytePipe) -> CarBlocks:
    """Store every block of a stream, each hashed; durable on return. For a worker thread.

    Raises Rejection for a stream that is cut, lies or names too many roots, and what the store raises. Blocks stored
    before an error stay: each is what its CID says.
    """
    try:
        car = CarReader(pipe)
    except IntegrityError as error:
        raise Rejection(RejectionReason.MALFORMED, error.message) from None
    if len(car.roots) > MAX_ROOTS:
        raise Rejection(RejectionReason.TOO_MANY, f"the CAR names {len(car.roots)} roots, expected at most {MAX_ROOTS}")
    batch: list[tuple[Cid, bytes]] = []
    size = blocks = total = 0
    for cid, block in _hashed(car):
        if blocks == MAX_CAR_BLOCKS:
            raise Rejection(RejectionReason.TOO_MANY, f"the CAR has more than {MAX_CAR_BLOCKS} blocks")
        batch.append((cid, block))
        blocks += 1
        size += len(block)
        total += len(block)
        if size >= BATCH_BYTES or len(batch) >= BATCH_BLOCKS:
            store.put(batch)
            batch, size = [], 0
    store.put(batch)
    return CarBlocks(car.roots, blocks, total)


def _hashed(car: CarReader) -> Iterator[tuple[Cid, bytes]]:
    try:
        yield from car.blocks()
    except IntegrityError as error:
        raise Rejection(RejectionReason.MALFORMED, error.message) from None


def missing_of(store: BlockStore, cids: Sequence[Cid]) -> tuple[int, ...]:
    """Which of these blocks aren't here, by their places. For a worker thread."""
    return tuple(place for place, length in enumerate(store.lengths(cids)) if length is None)


def is_whole(store: BlockStore, root: Cid) -> bool:
    """Whether all of a DAG is here. For a worker thread. Raises Rejection for a DAG that is malformed or too large."""
    walk = Walk([root])
    while walk.stack:
        if scan_local(store, walk).missing:
            return False
    return True
