"""Provider records: announced when asked, again before they run out, in small batches spread over the interval.

`lag` says by how many seconds the oldest announcement is overdue: it grows when the network or the node can't keep
up. What the DHT answers are hints; a provider's peer port is asked for by a hello when it isn't known yet.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Iterable

from mpisa.network.libp2p_host.host import Libp2pHost
from mpisa.network.ports import NetworkStats, PeerAddress, PeerId
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import MpisaError, Rejection, RejectionReason, Unreachable

MAX_PROVIDED = 1_000_000
"""CIDs a node announces; the DHT of a Python node isn't made for more."""

BATCH = 16
"""Announcements made one after another, before a pause in which others get their turn."""

BATCH_PAUSE_SECONDS = 0.1

RETRY_SECONDS = 15.0
"""When an announcement reached nobody, or a provider turned up that can't be reached."""

HELLO_SECONDS = 3.0


class Libp2pDiscovery:
    """Discovery over the DHT. `hello` connects to a peer and returns what it says of itself (raises MpisaError)."""

    def __init__(
        self,
        own: PeerId,
        host: Libp2pHost,
        known: Callable[[PeerId], PeerAddress | None],
        hello: Callable[[PeerAddress], Awaitable[PeerAddress]],
        interval: float,
        stats: NetworkStats,
    ) -> None:
        self._own = own
        self._host = host
        self._known = known
        self._hello = hello
        self._interval = interval
        self._stats = stats
        self._due: dict[bytes, float] = {}
        self._heap: list[tuple[float, bytes]] = []
        self._unreached: set[bytes] = set()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._reprovide(), name="reprovide")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    @property
    def lag(self) -> float:
        """Seconds by which the oldest announcement is overdue."""
        first = self._first()
        return 0.0 if first is None else max(0.0, asyncio.get_running_loop().time() - first[0])

    async def provide(self, cid: Cid) -> None:
        key = cid.multihash
        if key not in self._due and len(self._due) >= MAX_PROVIDED:
            raise Rejection(RejectionReason.TOO_MANY, f"announced CIDs, expected at most {MAX_PROVIDED}")
        await self._announce(key)

    async def provide_many(self, cids: Iterable[Cid]) -> None:
        keys = [key for key in dict.fromkeys(cid.multihash for cid in cids) if key not in self._due]
        if len(self._due) + len(keys) > MAX_PROVIDED:
            raise Rejection(RejectionReason.TOO_MANY, f"announced CIDs, expected at most {MAX_PROVIDED}")
        for index, key in enumerate(keys):
            self._schedule(key, self._interval * index / len(keys))

    async def unprovide(self, cid: Cid) -> None:
        self._due.pop(cid.multihash, None)
        self._unreached.discard(cid.multihash)
        await self._host.unprovide(cid.multihash)

    async def find_providers(self, cid: Cid, *, limit: int = 8, timeout: float = 10.0) -> list[PeerAddress]:
        self._stats.provider_lookups += 1
        deadline = asyncio.get_running_loop().time() + timeout
        found = await self._host.find_providers(cid.multihash, limit=limit, timeout=timeout)
        claims = [PeerAddress(peer, addresses) for peer, addresses in found if peer != self._own]
        patience = min(HELLO_SECONDS, max(0.1, deadline - asyncio.get_running_loop().time()))
        return list(await asyncio.gather(*(self._complete(claim, patience) for claim in claims)))

    def peers_changed(self) -> None:
        """There is a new peer: announcements that reached nobody get another chance at once."""
        for key in self._unreached:
            self._schedule(key, 0.0)
        self._unreached.clear()

    async def _complete(self, claim: PeerAddress, patience: float) -> PeerAddress:
        """The claim with the peer port filled in, if the peer says where it is."""
        known = self._known(claim.peer_id)
        if known is not None and known.peer_url is not None:
            return known
        try:
            async with asyncio.timeout(patience):
                return await self._hello(claim)
        except (TimeoutError, MpisaError):
            return claim

    async def _announce(self, key: bytes) -> None:
        """Tells the DHT now, and schedules the next time."""
        try:
            told = await self._host.provide(key)
        except Unreachable:
            told = False
        if told:
            self._stats.provides += 1
            self._unreached.discard(key)
        else:
            self._stats.provides_failed += 1
            self._unreached.add(key)
        self._schedule(key, self._interval if told else RETRY_SECONDS)

    def _schedule(self, key: bytes, delay: float) -> None:
        due = asyncio.get_running_loop().time() + delay
        self._due[key] = due
        heapq.heappush(self._heap, (due, key))
        self._news.set()

    def _first(self) -> tuple[float, bytes] | None:
        """The announcement that is due first; entries that were scheduled anew since are let go."""
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0] if self._heap else None

    async def _reprovide(self) -> None:
        loop = asyncio.get_running_loop()
        announced = 0
        while True:
            self._stats.reprovide_lag_seconds = int(self.lag)
            self._news.clear()
            first = self._first()
            if first is not None and first[0] <= loop.time():
                heapq.heappop(self._heap)
                await self._announce(first[1])
                announced += 1
                if announced % BATCH == 0:
                    await asyncio.sleep(BATCH_PAUSE_SECONDS)
                continue
            try:
                async with asyncio.timeout(None if first is None else first[0] - loop.time()):
                    await self._news.wait()
            except TimeoutError:
                continue
