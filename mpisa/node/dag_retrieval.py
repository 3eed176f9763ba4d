"""One retrieval: makes a DAG local, depth first, asking all providers at once for what is missing.

Blocks that have arrived can be read at once; they are stored behind (`write_behind`), which bounds what is held in
memory, and a retrieval has ended only when all of them are durable. A lease keeps the DAG from being collected
meanwhile. When nobody delivers a block, the error says who was asked.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mpisa.node.dag import Walk, links_of, scan_local, visit_name
from mpisa.node.views import Retrieved
from mpisa.node.write_behind import Owner
from mpisa.primitives.errors import IntegrityError, MpisaError, NotFound, TimedOut, Unreachable
from mpisa.primitives.links import LINKING_CODECS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Executor

    from mpisa.network.ports import Exchange
    from mpisa.node.providers import Providers
    from mpisa.node.sessions import ProviderSession
    from mpisa.node.write_behind import WriteBehind
    from mpisa.primitives.cid import Cid
    from storage.blockstore import BlockStore

MAX_STALLS = 3
"""Rounds of asking without one new block before giving up."""


@dataclass(slots=True)
class Counters:
    """What retrievals did since the start, for /metrics."""

    retrievals: int = 0
    retrievals_failed: int = 0
    blocks_fetched: int = 0
    bytes_fetched: int = 0
    write_behind_failures: int = 0


@dataclass(frozen=True, slots=True)
class Environment:
    """What retrievals share."""

    store: BlockStore
    exchange: Exchange
    providers: Providers
    executor: Executor
    concurrency: int
    counters: Counters
    behind: WriteBehind


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
        self._news = asyncio.Event()
        self._owner = Owner(self._stored)
        self._session: ProviderSession | None = None
        self._watchers: list[Callable[[int, int], None]] = []

    def watch(self, progress: Callable[[int, int], None]) -> None:
        """Calls progress(blocks, bytes) as blocks become known to be here."""
        self._watchers.append(progress)

    def _arrived(self) -> None:
        event, self._news = self._news, asyncio.Event()
        event.set()

    def _stored(self) -> None:
        for watcher in self._watchers:
            watcher(self.blocks, self.size)

    @property
    def next_arrival(self) -> asyncio.Event:
        """Set the next time a block has arrived; another event takes its place then."""
        return self._news

    async def run(self) -> Retrieved:
        """Raises NotFound, Unreachable, IntegrityError, Rejection, DiskFull or TimedOut, each naming the block."""
        environment = self._environment
        try:
            with environment.store.lease(f"retrieval of {self.root}"):
                while await self._scan():
                    await self._fetch_wanted()
                await environment.behind.settle(self._owner)
        finally:
            if self._session is not None:
                self._session.close()
        self._arrived()
        self._stored()
        peers = () if self._session is None else tuple(peer.peer_id for peer in self._session.known())
        return Retrieved(self.root, self.blocks, self.size, self.fetched_blocks, self.fetched_bytes, peers)

    async def _scan(self) -> bool:
        """Walks on through what is here; False when the walk is over and nothing is wanted."""
        environment = self._environment
        while not self._wanted and self._walk.stack:
            scan = await asyncio.get_running_loop().run_in_executor(
                environment.executor, scan_local, environment.store, self._walk
            )
            self.blocks += scan.blocks
            self.size += scan.size
            self._wanted.extend(scan.missing)
        return bool(self._wanted)

    async def _fetch_wanted(self) -> None:
        """Fetches until nothing known is wanted; after a failure asks anew, MAX_STALLS times without progress."""
        stalls = 0
        if self._session is None:
            self._session = self._environment.providers.session(self.root)
        while self._wanted:
            before = self.fetched_blocks
            try:
                await self._fetch_from(self._session)
            except (NotFound, Unreachable, TimedOut, IntegrityError) as error:
                self._wanted.extendleft(reversed(self._outstanding))
                self._outstanding.clear()
                stalls = 0 if self.fetched_blocks > before else stalls + 1
                if stalls >= MAX_STALLS or not self._session.known():
                    raise self._undelivered(self._session, error) from error
                self._session.look_again(self._wanted[0])

    def _undelivered(self, session: ProviderSession, error: MpisaError) -> MpisaError:
        asked = ", ".join(peer.peer_id for peer in session.known()) or "nobody"
        kind = type(error) if isinstance(error, (TimedOut, IntegrityError)) else NotFound
        return kind(
            f"block {self._wanted[0]} of {self.root} could not be fetched: {error.message}; "
            f"asked {asked} ({session.sources})",
            hint="is a node that has it online? try again later, or connect to one that holds it",
        )

    def _upcoming(self) -> Iterator[Cid]:
        """What is wanted and still isn't here; nodes that are here are walked later, to be looked into."""
        while self._wanted:
            cid = self._wanted.popleft()
            (size,) = self._environment.store.lengths((cid,))
            if size is None:
                self._outstanding[cid] = None
                yield cid
            elif cid.codec in LINKING_CODECS:
                self._walk.seen.discard(visit_name(cid))
                self._walk.stack.append(cid)
            else:
                self.blocks += 1
                self.size += size

    async def _fetch_from(self, session: ProviderSession) -> None:
        environment = self._environment
        arrivals = environment.exchange.fetch_many(self._upcoming(), session, concurrency=environment.concurrency)
        async for cid, data in arrivals:
            del self._outstanding[cid]
            self.fetched_blocks += 1
            self.fetched_bytes += len(data)
            self.blocks += 1
            self.size += len(data)
            environment.counters.blocks_fetched += 1
            environment.counters.bytes_fetched += len(data)
            self._expand(cid, data)
            await environment.behind.add(cid, data, self._owner)
            self._arrived()

    def _expand(self, cid: Cid, data: bytes) -> None:
        """Puts the links of an arrived block in front of what is wanted."""
        if cid.codec in LINKING_CODECS:
            children = [child for child in links_of(cid, data) if self._walk.first_visit(child)]
            self._wanted.extendleft(reversed(children))
