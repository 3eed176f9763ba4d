"""Blocks by CID from several providers: in parallel, each hashed before it is returned, liars left out, slow ones
asked last.

A provider's standing is an estimate of its speed and a count of its faults, kept between calls. For each block the
provider that should deliver first is asked; one that lacks the block, stalls or fails is not asked for that block
again, one that lied is not asked for anything for a while. Small blocks travel in batches. Nothing is written here:
what was already stored need not be asked again, which is all that resuming takes. Non-goals: finding providers,
storing.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Protocol

from mpisa.network.ports import NetworkLimits, NetworkStats, PeerAddress, PeerId
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import IntegrityError, MpisaError, NotFound, TimedOut, Unreachable

HASH_INLINE_BYTES = 16 * 1024
"""Below this, hashing costs less than a trip to another thread."""

BATCH_TARGET_BYTES = 1 << 20
FAULTS_TO_DEMOTE = 3
LIAR_SECONDS = 600.0
MAX_STANDINGS = 1024
FIRST_SPEED = 8 << 20
SPEED_WEIGHT = 0.3


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
class Standing:
    """What is known of one provider: bytes a second (a moving average), faults in a row, bytes expected of it now."""

    speed: float = FIRST_SPEED
    faults: int = 0
    liar_until: float = 0.0
    pending: int = 0

    def delay(self, size: int) -> float:
        """Seconds until another `size` bytes would be here."""
        penalty = 4.0 ** min(self.faults, 8)
        return (self.pending + size) / self.speed * penalty

    def delivered(self, size: int, seconds: float) -> None:
        self.faults = 0
        self.speed += SPEED_WEIGHT * (size / max(seconds, 1e-6) - self.speed)


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
        self._standings: OrderedDict[PeerId, Standing] = OrderedDict()
        self._mean_size = float(BATCH_TARGET_BYTES)

    def standing(self, peer: PeerId) -> Standing:
        """The standing of a provider; at most `MAX_STANDINGS` are kept."""
        found = self._standings.get(peer)
        if found is None:
            found = self._standings[peer] = Standing()
            if len(self._standings) > MAX_STANDINGS:
                self._standings.popitem(last=False)
        else:
            self._standings.move_to_end(peer)
        return found

    async def fetch(self, cid: Cid, providers: Sequence[PeerAddress], *, timeout: float | None = None) -> bytes:
        try:
            async with asyncio.timeout(timeout):
                return await self._fetch_want(_Want(cid), self._usable(providers))
        except TimeoutError as error:
            raise TimedOut(f"block {cid} didn't arrive within {timeout} s") from error

    async def fetch_many(
        self, cids: Iterable[Cid], providers: Sequence[PeerAddress], *, concurrency: int = 8
    ) -> AsyncIterator[tuple[Cid, bytes]]:
        """See Exchange. In flight or waiting at any time: `concurrency` answers, each one block or a batch of small
        ones.
        """
        usable = self._usable(providers)
        wants = _distinct(cids)
        again: deque[_Want] = deque()
        tasks: set[asyncio.Task[tuple[list[tuple[Cid, bytes]], list[_Want]]]] = set()
        try:
            while True:
                while len(tasks) < concurrency and (batch := self._next_batch(wants, again)):
                    tasks.add(asyncio.create_task(self._fetch_batch(batch, usable)))
                if not tasks:
                    return
                done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    found, missing = task.result()
                    again.extend(missing)
                    for pair in found:
                        yield pair
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _next_batch(self, wants: Iterator[_Want], again: deque[_Want]) -> list[_Want]:
        """The next wants to ask for together: as many as should make `BATCH_TARGET_BYTES`."""
        if again:
            return [again.popleft()]
        count = int(min(max(BATCH_TARGET_BYTES / self._mean_size, 1), self._limits.max_batch_blocks))
        batch = []
        for want in wants:
            batch.append(want)
            if len(batch) >= count:
                break
        return batch

    async def _fetch_batch(
        self, batch: list[_Want], providers: Sequence[PeerAddress]
    ) -> tuple[list[tuple[Cid, bytes]], list[_Want]]:
        """The blocks of a batch that came, and the wants that need asking one by one."""
        if len(batch) == 1:
            return [(batch[0].cid, await self._fetch_want(batch[0], providers))], []
        provider = self._choose(providers, set(), BATCH_TARGET_BYTES)
        if provider is None:
            raise Unreachable("no provider left to ask")
        expected = int(self._mean_size * len(batch))
        loop = asyncio.get_running_loop()
        standing = self.standing(provider.peer_id)
        standing.pending += expected
        started = loop.time()
        try:
            answer = await self._transport.get_blocks(
                provider, [want.cid for want in batch], timeout=self._limits.block_timeout
            )
        except MpisaError as error:
            self._fault(standing)
            for want in batch:
                want.asked.add(provider.peer_id)
                want.failed(error)
            return [], batch
        finally:
            standing.pending -= expected
        found, missing = [], []
        for index, want in enumerate(batch):
            data = answer.blocks[index] if index < len(answer.blocks) else None
            if data is not None and await self._is_right(want.cid, data):
                found.append((want.cid, data))
                self._account(len(data))
                continue
            missing.append(want)
            if data is not None:
                want.failed(self._lied(provider, standing, want.cid))
            elif index < len(answer.blocks):
                want.asked.add(provider.peer_id)
                want.failed(NotFound(f"block {want.cid} isn't at {provider.peer_id}"))
        if found:
            standing.delivered(sum(len(data) for _, data in found), loop.time() - started)
        return found, missing

    async def _fetch_want(self, want: _Want, providers: Sequence[PeerAddress]) -> bytes:
        loop = asyncio.get_running_loop()
        while True:
            size = int(self._mean_size)
            provider = self._choose(providers, want.asked, size)
            if provider is None:
                raise _verdict(want)
            want.asked.add(provider.peer_id)
            standing = self.standing(provider.peer_id)
            standing.pending += size
            started = loop.time()
            try:
                data = await self._transport.get_block(provider, want.cid, timeout=self._limits.block_timeout)
            except NotFound as error:
                want.failed(error)
                continue
            except MpisaError as error:
                self._fault(standing)
                want.failed(error)
                if isinstance(error, Unreachable) and provider.peer_id not in want.broken:
                    want.broken.add(provider.peer_id)
                    want.asked.discard(provider.peer_id)
                continue
            finally:
                standing.pending -= size
            elapsed = loop.time() - started
            if await self._is_right(want.cid, data):
                standing.delivered(len(data), elapsed)
                self._account(len(data))
                return data
            want.failed(self._lied(provider, standing, want.cid))

    def _usable(self, providers: Sequence[PeerAddress]) -> list[PeerAddress]:
        distinct = {provider.peer_id: provider for provider in providers}
        return list(distinct.values())[: self._limits.max_providers]

    def _choose(self, providers: Sequence[PeerAddress], asked: set[PeerId], size: int) -> PeerAddress | None:
        now = asyncio.get_running_loop().time()
        candidates = [
            provider
            for provider in providers
            if provider.peer_id not in asked and self.standing(provider.peer_id).liar_until <= now
        ]
        return min(candidates, key=lambda provider: self.standing(provider.peer_id).delay(size), default=None)

    async def _is_right(self, cid: Cid, data: bytes) -> bool:
        if len(data) <= HASH_INLINE_BYTES:
            return cid.matches(data)
        return await asyncio.get_running_loop().run_in_executor(self._executor, cid.matches, data)

    def _account(self, size: int) -> None:
        self._mean_size += 0.1 * (size - self._mean_size)
        self._stats.blocks_fetched += 1
        self._stats.block_bytes_fetched += size

    def _fault(self, standing: Standing) -> None:
        standing.faults += 1
        if standing.faults == FAULTS_TO_DEMOTE:
            self._stats.providers_demoted += 1

    def _lied(self, provider: PeerAddress, standing: Standing, cid: Cid) -> IntegrityError:
        now = asyncio.get_running_loop().time()
        self._stats.blocks_mismatched += 1
        if standing.liar_until <= now:
            self._stats.providers_demoted += 1
        standing.liar_until = now + LIAR_SECONDS
        return IntegrityError(f"block {cid}: what {provider.peer_id} sent hashes to something else")


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
