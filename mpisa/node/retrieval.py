"""Bytes by CID, from here or from peers: every block hashed and durable before it is served on.

One `Retrieval` a root, shared by whoever asks for it at the same time: it walks the DAG depth first, fetches what is
missing from all providers at once, and stores arrivals in groups while more arrive. What it holds in memory is
bounded: `concurrency` blocks in flight, and at most MAX_WRITES groups of GROUP_BYTES on their way to the disk. A CAR
stream follows behind, reading from the store. When nobody delivers a block, the error says who was asked.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from mpisa.node.dag import Walk, links_of, next_piece, scan_local
from mpisa.node.views import Retrieved
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import IntegrityError, MpisaError, NotFound, TimedOut, Unreachable
from mpisa.primitives.links import LINKING_CODECS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from concurrent.futures import Executor

    from mpisa.network.ports import Exchange, PeerAddress
    from mpisa.node.dag import LocalScan, Piece
    from mpisa.node.providers import Candidates, Providers
    from storage.blockstore import BlockStore

GROUP_BYTES = 8 << 20
MAX_WRITES = 2
MAX_STALLS = 3
"""Rounds of asking without one new block before giving up."""

MAX_RETRIEVALS = 32

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Counters:
    """What retrievals did since the start, for /metrics."""

    retrievals: int = 0
    retrievals_failed: int = 0
    blocks_fetched: int = 0
    bytes_fetched: int = 0


@dataclass(slots=True)
class _Writer:
    """Groups arrivals and stores them in worker threads; at most MAX_WRITES groups are on their way."""

    store: BlockStore
    executor: Executor
    on_stored: Callable[[], None]
    group: list[tuple[Cid, bytes]] = field(default_factory=list)
    size: int = 0
    writes: set[asyncio.Task[None]] = field(default_factory=set)

    async def add(self, cid: Cid, data: bytes) -> None:
        """Takes a block; waits while too much is on its way to the disk. Raises what a write raised."""
        self.group.append((cid, data))
        self.size += len(data)
        if self.size >= GROUP_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Starts writing what is grouped, once fewer than MAX_WRITES writes run."""
        while len(self.writes) >= MAX_WRITES:
            await self._settle(asyncio.FIRST_COMPLETED)
        if self.group:
            group, self.group, self.size = self.group, [], 0
            self.writes.add(asyncio.create_task(self._write(group)))

    async def _write(self, group: list[tuple[Cid, bytes]]) -> None:
        await asyncio.get_running_loop().run_in_executor(self.executor, self.store.put, group)
        self.on_stored()

    async def drain(self) -> None:
        """Returns once everything taken is durable."""
        await self.flush()
        while self.writes:
            await self._settle(asyncio.ALL_COMPLETED)

    async def _settle(self, when: str) -> None:
        done, self.writes = await asyncio.wait(self.writes, return_when=when)
        for task in done:
            task.result()

    async def abandon(self) -> None:
        """Waits for running writes without starting more; their errors no longer matter."""
        self.group.clear()
        if self.writes:
            await asyncio.wait(self.writes)
            for task in self.writes:
                task.exception()
            self.writes.clear()


class Retrieval:
    """Makes one DAG local."""

    def __init__(self, root: Cid, environment: Environment) -> None:
        self.root = root
        self.blocks = 0
        self.size = 0
        self.fetched_blocks = 0
        self.fetched_bytes = 0
        self._environment = environment
        self._walk = Walk([root])
        self._wanted: deque[Cid] = deque()
        self._outstanding: dict[Cid, None] = {}
        self._stored = asyncio.Event()
        self._writer = _Writer(environment.store, environment.executor, self._notify)
        self._candidates: Candidates | None = None
        self._watchers: list[Callable[[int, int], None]] = []

    def watch(self, progress: Callable[[int, int], None]) -> None:
        """Calls progress(blocks, bytes) as blocks become known to be here."""
        self._watchers.append(progress)

    def _notify(self) -> None:
        event, self._stored = self._stored, asyncio.Event()
        event.set()
        for watcher in self._watchers:
            watcher(self.blocks, self.size)

    @property
    def next_stored(self) -> asyncio.Event:
        """Set the next time blocks have become durable; another event takes its place then."""
        return self._stored

    async def run(self) -> Retrieved:
        """Raises NotFound, Unreachable, IntegrityError, Rejection, DiskFull or TimedOut, each naming the block."""
        try:
            while True:
                await self._scan()
                if not self._wanted:
                    if not self._walk.stack:
                        break
                    continue
                await self._fetch_wanted()
            await self._writer.drain()
        except BaseException:
            await self._writer.abandon()
            raise
        self._notify()
        peers = tuple(peer.peer_id for peer in self._candidates.peers) if self._candidates else ()
        return Retrieved(self.root, self.blocks, self.size, self.fetched_blocks, self.fetched_bytes, peers)

    async def _scan(self) -> None:
        scan: LocalScan = await asyncio.get_running_loop().run_in_executor(
            self._environment.executor, scan_local, self._environment.store, self._walk
        )
        self.blocks += scan.blocks
        self.size += scan.size
        self._wanted.extend(scan.missing)

    async def _fetch_wanted(self) -> None:
        """Fetches until nothing known is wanted; after a failure asks anew, MAX_STALLS times without progress."""
        stalls = 0
        while self._wanted:
            if self._candidates is None:
                self._candidates = await self._environment.providers.find(self.root)
            before = self.fetched_blocks
            try:
                await self._fetch_from(self._candidates.peers)
            except (NotFound, Unreachable, TimedOut, IntegrityError) as error:
                self._wanted.extendleft(reversed(self._outstanding))
                self._outstanding.clear()
                stalls = 0 if self.fetched_blocks > before else stalls + 1
                if stalls >= MAX_STALLS or not self._candidates.peers:
                    raise self._undelivered(error) from error
                self._candidates = await self._environment.providers.find(self._wanted[0])

    def _undelivered(self, error: MpisaError) -> MpisaError:
        assert self._candidates is not None
        asked = ", ".join(peer.peer_id for peer in self._candidates.peers) or "nobody"
        sources = ", ".join(self._candidates.sources)
        kind = type(error) if isinstance(error, (TimedOut, IntegrityError)) else NotFound
        return kind(
            f"block {self._wanted[0]} of {self.root} could not be fetched: {error.message}; asked {asked} ({sources})",
            hint="is a node that has it online? try again later, or connect to one that holds it",
        )

    def _upcoming(self) -> Iterator[Cid]:
        while self._wanted:
            cid = self._wanted.popleft()
            self._outstanding[cid] = None
            yield cid

    async def _fetch_from(self, peers: tuple[PeerAddress, ...]) -> None:
        if not peers:
            raise NotFound("no provider is known")
        arrivals = self._environment.exchange.fetch_many(
            self._upcoming(), peers, concurrency=self._environment.concurrency
        )
        async for cid, data in arrivals:
            del self._outstanding[cid]
            self.fetched_blocks += 1
            self.fetched_bytes += len(data)
            self.blocks += 1
            self.size += len(data)
            self._environment.counters.blocks_fetched += 1
            self._environment.counters.bytes_fetched += len(data)
            self._expand(cid, data)
            await self._writer.add(cid, data)
        await self._writer.flush()

    def _expand(self, cid: Cid, data: bytes) -> None:
        """Puts the links of an arrived block in front: missing ones are wanted, local nodes are walked later."""
        if cid.codec not in LINKING_CODECS:
            return
        missing: list[Cid] = []
        for child in links_of(cid, data):
            if child.codec in LINKING_CODECS and self._environment.store.has(child):
                self._walk.stack.append(child)
            elif self._walk.first_visit(child):
                if self._environment.store.has(child):
                    self.blocks += 1
                    self.size += self._environment.store.size_of(child)
                else:
                    missing.append(child)
        self._wanted.extendleft(reversed(missing))


@dataclass(frozen=True, slots=True)
class Environment:
    """What retrievals share."""

    store: BlockStore
    exchange: Exchange
    providers: Providers
    executor: Executor
    concurrency: int
    counters: Counters


@dataclass(slots=True)
class _Shared:
    retrieval: Retrieval
    task: asyncio.Task[Retrieved]
    users: int = 0


@dataclass(frozen=True, slots=True)
class _Reading:
    """A piece being read, and what was known before: the event of the next store, and if the retrieval was over."""

    shared: _Shared
    piece: asyncio.Future[Piece]
    stored: asyncio.Event
    over: bool

    async def until_more(self, missing: Cid) -> None:
        """Returns once it makes sense to read again. Raises what ended the retrieval, or NotFound."""
        if self.shared.task.done():
            self.shared.task.result()
            if self.over:
                raise NotFound(f"block {missing} is not in this store")
            return
        waiting = asyncio.create_task(self.stored.wait())
        try:
            await asyncio.wait((waiting, self.shared.task), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()


class Retriever:
    """Starts retrievals, one a root at a time, and ends one that nobody waits for any more."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._running: dict[Cid, _Shared] = {}

    async def ensure(self, cid: Cid, progress: Callable[[int, int], None] | None = None) -> Retrieved:
        """Makes the whole DAG local and durable."""
        shared = self._join(cid.require_supported())
        try:
            if progress is not None:
                shared.retrieval.watch(progress)
            return await asyncio.shield(shared.task)
        finally:
            self._leave(cid, shared)

    async def block(self, cid: Cid) -> bytes:
        """One block; stored when it had to be fetched."""
        loop = asyncio.get_running_loop()
        environment = self._environment
        try:
            return await loop.run_in_executor(environment.executor, environment.store.get, cid.require_supported())
        except NotFound:
            pass
        candidates = await environment.providers.find(cid)
        if not candidates.peers:
            raise NotFound(f"block {cid}: no provider is known ({', '.join(candidates.sources)})")
        data = await environment.exchange.fetch(cid, candidates.peers, timeout=30.0)
        await loop.run_in_executor(environment.executor, environment.store.put, [(cid, data)])
        return data

    async def pieces(self, cid: Cid) -> AsyncIterator[tuple[tuple[Cid, bytes], ...]]:
        """All blocks of the DAG in depth-first order, in groups, while the missing ones still arrive."""
        shared = self._join(cid.require_supported())
        stack = [cid]
        reading = self._read(shared, stack)
        try:
            while True:
                piece = await reading.piece
                if piece.missing is None and not stack:
                    if piece.blocks:
                        yield piece.blocks
                    return
                if piece.missing is not None and not piece.blocks:
                    await reading.until_more(piece.missing)
                reading = self._read(shared, stack)  # goes on while the consumer sends these
                if piece.blocks:
                    yield piece.blocks
        finally:
            reading.piece.add_done_callback(_ignore_outcome)
            self._leave(cid, shared)

    def _read(self, shared: _Shared, stack: list[Cid]) -> _Reading:
        stored, over = shared.retrieval.next_stored, shared.task.done()
        piece = asyncio.get_running_loop().run_in_executor(
            self._environment.executor, next_piece, self._environment.store, stack
        )
        return _Reading(shared, piece, stored, over)

    def _join(self, cid: Cid) -> _Shared:
        shared = self._running.get(cid)
        if shared is None:
            if len(self._running) >= MAX_RETRIEVALS:
                raise Unreachable(f"{MAX_RETRIEVALS} retrievals run already", hint="try again in a moment")
            retrieval = Retrieval(cid, self._environment)
            shared = _Shared(retrieval, asyncio.create_task(self._run(retrieval), name=f"retrieve {cid}"))
            self._running[cid] = shared
        shared.users += 1
        return shared

    async def _run(self, retrieval: Retrieval) -> Retrieved:
        counters = self._environment.counters
        counters.retrievals += 1
        try:
            return await retrieval.run()
        except BaseException:
            counters.retrievals_failed += 1
            raise

    def _leave(self, cid: Cid, shared: _Shared) -> None:
        shared.users -= 1
        if shared.users == 0:
            if self._running.get(cid) is shared:
                del self._running[cid]
            if shared.task.done():
                if not shared.task.cancelled():
                    shared.task.exception()  # read, so that nothing complains of an error nobody saw
            else:
                shared.task.cancel()

    async def close(self) -> None:
        """Cancels what still runs."""
        tasks = [shared.task for shared in self._running.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _ignore_outcome(future: asyncio.Future[Piece]) -> None:
    """Reads the outcome of a read that nobody waits for any more, so that nothing complains."""
    if not future.cancelled():
        future.exception()
