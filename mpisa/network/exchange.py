"""Blocks by CID from several providers: in parallel, each hashed before it is returned, liars left out, slow ones
asked last.

For each block the provider that should deliver first is asked (see `standings`); one that lacks the block, stalls or
fails is not asked for that block again, one that lied is not asked for anything for a while. When an answer is late,
another provider is asked for the same block beside it: the first right answer wins and the other request is given up.
At the end, when nothing new is left to ask for, that happens sooner: whoever is done takes over from whoever is slow.
Small blocks travel in batches. Few are asked for at first, so that the first one comes fast. Nothing is written here:
what was already stored need not be asked again, which is all that resuming takes. Non-goals: finding providers,
storing.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence, Set
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Protocol

from mpisa.network.ports import NetworkLimits, NetworkStats, PeerAddress, PeerId, ProviderFeed
from mpisa.network.standings import FAULTS_TO_DEMOTE, LIAR_SECONDS, Standing, Standings
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import IntegrityError, MpisaError, NotFound, TimedOut, Unreachable

HASH_INLINE_BYTES = 16 * 1024
"""Below this, hashing costs less than a trip to another thread."""

BATCH_TARGET_BYTES = 1 << 20
LARGE_BATCH_BYTES = 4 << 20
"""What a request asks for once FIRST_ANSWERS have come: each request has its price, whatever it brings."""

FIRST_ANSWERS = 4
IN_FLIGHT_BYTES = 16 << 20
"""Of a call; fewer answers are waited for when each is large."""

FIRST_IN_FLIGHT = 1
"""Answers that are waited for at first; each that comes makes room for one more, up to the caller's bound."""

RACERS = 2
"""Providers asked for one block at the same time, at most."""

LATE_FACTOR = 3.0
LATE_SECONDS = 0.5
"""An answer is late after LATE_FACTOR times the delay that was expected, but not before LATE_SECONDS."""

HURRY_FACTOR = 1.5
HURRY_SECONDS = 0.05
"""The same at the end, when others have nothing to do."""

UNLIKELY = 0.1
"""How likely a peer holds a block that nobody said it holds; halved by each block that it lacked in this call."""


class BlockTransport(Protocol):
    """How one provider is asked. Bytes are unchecked. Both raise NotFound, Unreachable, TimedOut or Rejection."""

    async def get_block(self, provider: PeerAddress, cid: Cid, *, timeout: float) -> bytes: ...

    async def get_blocks(self, provider: PeerAddress, cids: Sequence[Cid], *, timeout: float) -> BatchAnswer: ...


@dataclass(frozen=True, slots=True)
class BatchAnswer:
    """Blocks in the order asked: bytes, or None when the provider lacks it. Shorter than what was asked when it grew
    too large.
    """

    blocks: tuple[bytes | None, ...]


@dataclass(slots=True)
class _Want:
    """A block that is wanted: whom not to ask again, who gets a second chance since a connection broke, what was
    heard.
    """

    cid: Cid
    asked: set[PeerId] = field(default_factory=set)
    broken: set[PeerId] = field(default_factory=set)
    failures: list[MpisaError] = field(default_factory=list)

    def failed(self, error: MpisaError) -> None:
        """Remembers what was heard, not where: the traceback's frame would keep this want, itself and the block that
        another provider delivered alive until the collector comes by.
        """
        self.failures.append(error.with_traceback(None))


Found = list[tuple[Cid, bytes]]


@dataclass(slots=True)
class _Call:
    """One fetch or fetch_many: whom to ask, what they lacked, and whether nothing new is left to ask for."""

    feed: ProviderFeed
    misses: Counter[PeerId] = field(default_factory=Counter)
    hurry: bool = False
    answers: int = 0

    def likelihood(self, peer: PeerId) -> float:
        """How likely the peer holds the next block, for comparing."""
        first = 1.0 if self.feed.is_named(peer) else UNLIKELY
        return first * 0.5 ** min(self.misses[peer], 8)


@dataclass(frozen=True, slots=True)
class _Racer:
    """A provider that is being asked, since when, and how long its answer should take."""

    provider: PeerAddress
    started: float
    expected: float

    def late_at(self, hurry: bool) -> float:
        factor, least = (HURRY_FACTOR, HURRY_SECONDS) if hurry else (LATE_FACTOR, LATE_SECONDS)
        return self.started + max(least, factor * self.expected)


@dataclass(frozen=True, slots=True)
class _Fixed:
    """A ProviderFeed of peers that are all there are."""

    peers: tuple[PeerAddress, ...]

    def known(self) -> Sequence[PeerAddress]:
        return self.peers

    def is_named(self, peer: PeerId) -> bool:
        return True

    async def more(self, seen: Set[PeerId]) -> bool:
        return False


class BlockExchange:
    """The Exchange over any BlockTransport. Hashing of larger blocks happens in `executor`, whose threads let go of
    the lock.
    """

    def __init__(
        self, transport: BlockTransport, executor: Executor, limits: NetworkLimits, stats: NetworkStats
    ) -> None:
        self._transport = transport
        self._executor = executor
        self._limits = limits
        self._stats = stats
        self._standings = Standings()
        self._mean_size = float(BATCH_TARGET_BYTES)

    def standing(self, peer: PeerId) -> Standing:
        """The standing of a provider, kept between calls."""
        return self._standings.of(peer)

    async def fetch(
        self, cid: Cid, providers: Sequence[PeerAddress] | ProviderFeed, *, timeout: float | None = None
    ) -> bytes:
        try:
            async with asyncio.timeout(timeout):
                found = await self._race(self._call(providers, hurry=True), [_Want(cid)])
        except TimeoutError as error:
            raise TimedOut(f"block {cid} didn't arrive within {timeout} s") from error
        return found[0][1]

    async def fetch_many(
        self, cids: Iterable[Cid], providers: Sequence[PeerAddress] | ProviderFeed, *, concurrency: int = 8
    ) -> AsyncIterator[tuple[Cid, bytes]]:
        """See Exchange. In flight or waiting at any time: `concurrency` answers, each one block or a batch of small
        ones.
        """
        call = self._call(providers)
        wants = _distinct(cids)
        again: deque[_Want] = deque()
        room = min(concurrency, FIRST_IN_FLIGHT)
        tasks: dict[asyncio.Task[Found], list[_Want]] = {}
        try:
            while True:
                while len(tasks) < room and (batch := self._next_batch(call, wants, again)):
                    tasks[asyncio.create_task(self._race(call, batch))] = batch
                if not tasks:
                    return
                call.hurry = len(tasks) < room
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                call.answers += len(done)
                room = min(concurrency, room + len(done), self._most_in_flight(call))
                for task in done:
                    found = task.result()
                    arrived = {cid for cid, _ in found}
                    again.extend(want for want in tasks.pop(task) if want.cid not in arrived)
                    for pair in found:
                        yield pair
        finally:
            await _give_up(tasks)

    def _batch_bytes(self, call: _Call) -> int:
        return BATCH_TARGET_BYTES if call.answers < FIRST_ANSWERS else LARGE_BATCH_BYTES

    def _most_in_flight(self, call: _Call) -> int:
        return max(2, int(IN_FLIGHT_BYTES // max(self._batch_bytes(call), self._mean_size)))

    def _next_batch(self, call: _Call, wants: Iterator[_Want], again: deque[_Want]) -> list[_Want]:
        """The next wants to ask for together: as many as should make one answer of the size that is due."""
        if again:
            return [again.popleft()]
        count = int(min(max(self._batch_bytes(call) / self._mean_size, 1), self._limits.max_batch_blocks))
        batch = []
        for want in wants:
            batch.append(want)
            if len(batch) >= count:
                break
        return batch

    async def _race(self, call: _Call, wants: list[_Want]) -> Found:
        """What the first right answer brought. Nothing, when a batch is to be asked for one by one; for a single
        block that nobody delivers, raises what says most.
        """
        loop = asyncio.get_running_loop()
        running: dict[asyncio.Task[Found], _Racer] = {}
        allowed = 1
        try:
            while True:
                while len(running) < allowed and (racer := self._start(call, wants)):
                    running[asyncio.create_task(self._ask(call, racer, wants))] = racer
                if not running:
                    if await call.feed.more({peer.peer_id for peer in call.feed.known()}):
                        continue
                    raise _verdict(wants[0])
                late_at = self._late_at(call, wants, running.values())
                patience = HURRY_SECONDS if allowed == RACERS else min(max(0, late_at - loop.time()), HURRY_SECONDS)
                done, _ = await asyncio.wait(running, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    racer = running.pop(task)
                    if found := task.result():
                        self._blame_late(racer, running.values(), loop.time())
                        self._account(found)
                        return found
                if not running and len(wants) > 1:
                    return []
                if not done and loop.time() >= late_at:
                    allowed = RACERS
        finally:
            await _give_up(running)

    def _start(self, call: _Call, wants: list[_Want]) -> _Racer | None:
        """The next provider to ask, marked as asked; None when nobody is left."""
        size = int(self._mean_size * len(wants))
        provider = self._choose(call, _asked(wants), size)
        if provider is None:
            return None
        for want in wants:
            want.asked.add(provider.peer_id)
        now = asyncio.get_running_loop().time()
        return _Racer(provider, now, self.standing(provider.peer_id).delay(size, now))

    def _late_at(self, call: _Call, wants: list[_Want], running: Iterable[_Racer]) -> float:
        """When a second provider is worth asking. In a hurry also: once the next one would have been faster."""
        late_at = min(racer.late_at(call.hurry) for racer in running)
        size = int(self._mean_size * len(wants))
        if not call.hurry or (other := self._choose(call, _asked(wants), size)) is None:
            return late_at
        delay = self.standing(other.peer_id).delay(size, asyncio.get_running_loop().time())
        return min(late_at, min(racer.started for racer in running) + max(HURRY_SECONDS, HURRY_FACTOR * delay))

    async def _ask(self, call: _Call, racer: _Racer, wants: list[_Want]) -> Found:
        """What of the wants this provider delivered, each hashed; the wants remember why others are missing."""
        provider, loop = racer.provider, asyncio.get_running_loop()
        standing = self.standing(provider.peer_id)
        ahead, expected = standing.pending, int(self._mean_size * len(wants))
        standing.pending += expected
        try:
            blocks = await self._deliver(provider, wants)
        except MpisaError as error:
            self._failed(call, provider, wants, error)
            return []
        finally:
            standing.pending -= expected
        seconds = loop.time() - racer.started
        found: Found = []
        for want, data in zip(wants, blocks, strict=False):
            if data is None:
                call.misses[provider.peer_id] += 1
                want.failed(NotFound(f"block {want.cid} isn't at {provider.peer_id}"))
            elif await self._is_right(want.cid, data):
                found.append((want.cid, data))
            else:
                want.failed(self._lied(provider, standing, want.cid))
        for want in wants[len(blocks) :]:  # the answer had grown too large: it may well have these
            want.asked.discard(provider.peer_id)
        if found:
            call.misses[provider.peer_id] = 0
            standing.delivered(sum(len(data) for _, data in found), ahead, seconds, racer.started + seconds)
        return found

    async def _deliver(self, provider: PeerAddress, wants: list[_Want]) -> tuple[bytes | None, ...]:
        timeout = self._limits.block_timeout
        if len(wants) == 1:
            return (await self._transport.get_block(provider, wants[0].cid, timeout=timeout),)
        answer = await self._transport.get_blocks(provider, [want.cid for want in wants], timeout=timeout)
        return answer.blocks

    def _failed(self, call: _Call, provider: PeerAddress, wants: list[_Want], error: MpisaError) -> None:
        if isinstance(error, NotFound):
            call.misses[provider.peer_id] += 1
        else:
            self._fault(self.standing(provider.peer_id))
        for want in wants:
            want.failed(error)
            if isinstance(error, Unreachable) and provider.peer_id not in want.broken:
                want.broken.add(provider.peer_id)
                want.asked.discard(provider.peer_id)

    def _call(self, providers: Sequence[PeerAddress] | ProviderFeed, *, hurry: bool = False) -> _Call:
        if not isinstance(providers, Sequence):
            return _Call(providers, hurry=hurry)
        distinct = {provider.peer_id: provider for provider in providers}
        return _Call(_Fixed(tuple(distinct.values())[: self._limits.max_providers]), hurry=hurry)

    def _choose(self, call: _Call, asked: Set[PeerId], size: int) -> PeerAddress | None:
        now = asyncio.get_running_loop().time()
        candidates = [
            provider
            for provider in call.feed.known()
            if provider.peer_id not in asked and self.standing(provider.peer_id).liar_until <= now
        ]
        standings = {provider.peer_id: self.standing(provider.peer_id) for provider in candidates}
        hope = max((standing.speed for standing in standings.values()), default=0.0)
        return min(
            candidates,
            key=lambda provider: standings[provider.peer_id].delay(size, now, hope) / call.likelihood(provider.peer_id),
            default=None,
        )

    async def _is_right(self, cid: Cid, data: bytes) -> bool:
        if len(data) <= HASH_INLINE_BYTES:
            return cid.matches(data)
        return await asyncio.get_running_loop().run_in_executor(self._executor, cid.matches, data)

    def _account(self, found: Found) -> None:
        for _, data in found:
            self._mean_size += 0.1 * (len(data) - self._mean_size)
            self._stats.blocks_fetched += 1
            self._stats.block_bytes_fetched += len(data)

    def _fault(self, standing: Standing) -> None:
        standing.faults += 1
        if standing.faults == FAULTS_TO_DEMOTE:
            self._stats.providers_demoted += 1

    def _blame_late(self, winner: _Racer, losers: Iterable[_Racer], now: float) -> None:
        """Who was asked before the winner counts as slower; whoever is late by the longer measure, as at fault."""
        for racer in losers:
            self._stats.blocks_stolen += 1
            standing = self.standing(racer.provider.peer_id)
            if racer.started < winner.started:
                standing.lost(now)
            if now >= racer.late_at(hurry=False):
                self._fault(standing)

    def _lied(self, provider: PeerAddress, standing: Standing, cid: Cid) -> IntegrityError:
        now = asyncio.get_running_loop().time()
        self._stats.blocks_mismatched += 1
        if standing.liar_until <= now:
            self._stats.providers_demoted += 1
        standing.liar_until = now + LIAR_SECONDS
        return IntegrityError(f"block {cid}: what {provider.peer_id} sent hashes to something else")


async def _give_up(tasks: Iterable[asyncio.Task[Found]]) -> None:
    running = list(tasks)
    for task in running:
        task.cancel()
    if running:
        await asyncio.gather(*running, return_exceptions=True)


def _asked(wants: Iterable[_Want]) -> set[PeerId]:
    """Whom not to ask for all of these together."""
    return set().union(*(want.asked for want in wants))


def _distinct(cids: Iterable[Cid]) -> Iterator[_Want]:
    seen: set[Cid] = set()
    for cid in cids:
        if cid not in seen:
            seen.add(cid)
            yield _Want(cid)


def _verdict(want: _Want) -> MpisaError:
    """The error that says most: a lie, else a timeout, else an absence, else a closed door."""
    for kind in (IntegrityError, TimedOut, NotFound):
        for failure in want.failures:
            if isinstance(failure, kind):
                return failure
    if want.failures:
        return Unreachable(f"block {want.cid}: {want.failures[-1].message}")
    return NotFound(f"block {want.cid}: no provider to ask", hint="is any node that holds it online?")
