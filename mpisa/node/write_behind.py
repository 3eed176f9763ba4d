"""Blocks that have arrived and are on their way to the disk: readable at once, durable soon.

Whoever adds a block may go on when there is room: blocks that aren't durable yet take at most `window` bytes of memory,
over all retrievals. They are stored in groups, each one commit: a group starts when it is large, when its first block
has waited GATHER_SECONDS, when somebody waits for durability, or when the window is full; at most MAX_WRITES run.
An `Owner` is told when its blocks are durable, and gets the error of a write that failed; a block is then forgotten
here, so that it is asked for again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mpisa.primitives.errors import NotFound, NotReady

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from mpisa.primitives.cid import Cid
    from storage.blockstore import BlockStore

GROUP_BYTES = 8 << 20
MAX_WRITES = 2
GATHER_SECONDS = 0.1
MAX_BLOCKS = 16_384
"""Blocks held at once, however small."""


@dataclass(slots=True, eq=False)
class Owner:
    """Whose blocks these are: how many aren't durable yet, and what went wrong."""

    on_stored: Callable[[], None] = lambda: None
    on_failed: Callable[[Exception], None] = lambda error: None
    pending: int = 0
    error: Exception | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def check(self) -> None:
        """Raises what a write of its blocks raised."""
        if self.error is not None:
            raise self.error


@dataclass(slots=True, eq=False)
class _Entry:
    cid: Cid
    data: bytes
    owners: list[Owner]


class WriteBehind:
    """See the module. Belongs to the loop, but for `get`, which any thread may call."""

    def __init__(self, store: BlockStore, executor: Executor, window: int) -> None:
        self._store = store
        self._executor = executor
        self._window = window
        self._held: dict[bytes, _Entry] = {}
        self._bytes = 0
        self._queue: dict[bytes, _Entry] = {}
        self._queued_bytes = 0
        self._writes: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._is_due = False
        self._room = asyncio.Event()
        self._closed = False

    @property
    def held_bytes(self) -> int:
        """Bytes that aren't durable yet."""
        return self._bytes

    def get(self, cid: Cid) -> bytes | None:
        """The block when it is held here. Thread-safe."""
        entry = self._held.get(cid.multihash)
        return None if entry is None else entry.data

    async def add(self, cid: Cid, data: bytes, owner: Owner) -> None:
        """Takes a block that hashes right; waits for room. Raises what an earlier write of the owner raised."""
        name = cid.multihash
        while True:
            owner.check()
            if self._closed:
                raise NotReady("the node is stopping")
            entry = self._held.get(name)
            if entry is not None:
                entry.owners.append(owner)
                owner.pending += 1
                return
            if not self._held or (self._bytes + len(data) <= self._window and len(self._held) < MAX_BLOCKS):
                break
            self._is_due = True
            self._pump()
            self._room.clear()
            await self._room.wait()
        owner.pending += 1
        entry = self._held[name] = self._queue[name] = _Entry(cid, data, [owner])
        self._bytes += len(data)
        self._queued_bytes += len(data)
        self._pump()

    async def settle(self, owner: Owner) -> None:
        """Returns once everything the owner added is durable. Raises what a write raised."""
        while owner.pending:
            owner.check()
            self._is_due = True
            self._pump()
            owner.changed.clear()
            await owner.changed.wait()
        owner.check()

    async def close(self) -> None:
        """Stores what is left; takes no more."""
        self._closed = True
        self._room.set()
        while self._queue or self._writes:
            self._is_due = True
            self._pump()
            await asyncio.wait(set(self._writes))
        if self._timer is not None:
            self._timer.cancel()

    def _pump(self) -> None:
        """Starts what may start now, else sees to it that the rest starts soon."""
        while self._queue and len(self._writes) < MAX_WRITES and (self._is_due or self._queued_bytes >= GROUP_BYTES):
            task = asyncio.create_task(self._write(self._take_group()))
            self._writes.add(task)
            task.add_done_callback(self._wrote)
        if not self._queue:
            self._is_due = False
        elif self._timer is None and not self._is_due:
            self._timer = asyncio.get_running_loop().call_later(GATHER_SECONDS, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._is_due = True
        self._pump()

    def _wrote(self, task: asyncio.Task[None]) -> None:
        self._writes.discard(task)
        self._pump()

    def _take_group(self) -> list[_Entry]:
        group: list[_Entry] = []
        size = 0
        for name in list(self._queue):
            entry = self._queue.pop(name)
            group.append(entry)
            size += len(entry.data)
            if size >= GROUP_BYTES:
                break
        self._queued_bytes -= size
        return group

    async def _write(self, group: list[_Entry]) -> None:
        error: Exception | None = None
        blocks = [(entry.cid, entry.data) for entry in group]
        try:
            await asyncio.get_running_loop().run_in_executor(self._executor, self._store.put, blocks)
        except Exception as caught:  # noqa: BLE001  a task's root: the owners raise it where somebody waits
            error = caught
        for entry in group:
            del self._held[entry.cid.multihash]
            self._bytes -= len(entry.data)
        self._room.set()
        for owner in {id(owner): owner for entry in group for owner in entry.owners}.values():
            owner.pending -= sum(owner is each for entry in group for each in entry.owners)
            owner.error = owner.error or error
            owner.changed.set()
            if error is None:
                owner.on_stored()
            else:
                owner.on_failed(error)


class Arrivals:
    """What a walk reads: blocks on their way to the disk, and those that are there. Thread-safe."""

    def __init__(self, behind: WriteBehind, store: BlockStore) -> None:
        self._behind = behind
        self._store = store

    def get(self, cid: Cid) -> bytes:
        """Raises NotFound, StoreDamaged."""
        data = self._behind.get(cid)
        return self._store.get(cid) if data is None else data

    def has(self, cid: Cid) -> bool:
        return self._behind.get(cid) is not None or self._store.has(cid)

    def size_of(self, cid: Cid) -> int:
        """Raises NotFound."""
        data = self._behind.get(cid)
        return self._store.size_of(cid) if data is None else len(data)

    def find(self, cid: Cid) -> bytes | None:
        """The block, or None when it isn't here. Raises StoreDamaged."""
        try:
            return self.get(cid)
        except NotFound:
            return None
