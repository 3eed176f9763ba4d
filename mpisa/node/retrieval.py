"""Bytes by CID, from here or from peers: every block hashed before it is handed on, durable before peers get it.

One `Retrieval` a root is shared by whoever asks for it at the same time. A CAR stream follows behind it and sends
blocks as they arrive, while they are still on their way to the disk; it ends only when all are durable. A single block
is answered when it has hashed right and stored behind the answer, unless it must be durable. Whoever asks for a block
that is already being fetched waits for the same answer.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from mpisa.node.dag import next_piece
from mpisa.node.dag_retrieval import Counters, Environment, Retrieval
from mpisa.node.write_behind import Arrivals, Owner
from mpisa.primitives.errors import MpisaError, NotFound, NotReady, Unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from mpisa.network.ports import ProviderFeed
    from mpisa.node.dag import Piece
    from mpisa.node.views import Retrieved
    from mpisa.primitives.cid import Cid

__all__ = ["Counters", "Environment", "Retriever"]

MAX_RETRIEVALS = 32
MAX_FETCHES = 1_024
"""Single blocks that are being fetched at once."""

FETCH_SECONDS = 30.0

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Shared:
    retrieval: Retrieval
    task: asyncio.Task[Retrieved]
    users: int = 0


@dataclass(frozen=True, slots=True)
class _Reading:
    """A piece being read, and what was known before: the event of the next arrival, and if the retrieval was over."""

    shared: _Shared
    piece: asyncio.Future[Piece]
    arrival: asyncio.Event
    over: bool

    async def until_more(self, missing: Cid) -> None:
        """Returns once it makes sense to read again. Raises what ended the retrieval, or NotFound."""
        if self.shared.task.done():
            self.shared.task.result()
            if self.over:
                raise NotFound(f"block {missing} is not in this store")
            return
        waiting = asyncio.create_task(self.arrival.wait())
        try:
            await asyncio.wait((waiting, self.shared.task), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()


class _GivenUpError(Exception):
    """A block that was to be fetched ahead wasn't."""


class Retriever:
    """Starts retrievals, one a root at a time, and ends one that nobody waits for any more."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._running: dict[Cid, _Shared] = {}
        self._fetching: dict[Cid, asyncio.Future[bytes]] = {}
        self._closed = False
        self.arrivals = Arrivals(environment.behind, environment.store)

    async def ensure(self, cid: Cid, progress: Callable[[int, int], None] | None = None) -> Retrieved:
        """Makes the whole DAG local and durable."""
        shared = self._join(cid.require_supported())
        try:
            if progress is not None:
                shared.retrieval.watch(progress)
            return await asyncio.shield(shared.task)
        finally:
            self._leave(cid, shared)

    async def block(self, cid: Cid, *, durable: bool = False, feed: ProviderFeed | None = None) -> bytes:
        """One block, from `feed`'s peers or whoever may have it. It is stored when it had to be fetched: before the
        answer if `durable`, else behind it.
        """
        data = await self.local(cid.require_supported())
        if data is None:
            data = await self._fetched(cid, feed)
        elif self._environment.behind.get(cid) is None:
            return data
        if durable:
            owner = Owner()
            await self._environment.behind.add(cid, data, owner)
            await self._environment.behind.settle(owner)
        return data

    async def local(self, cid: Cid) -> bytes | None:
        """The block if it is here or on its way to the disk."""
        held = self._environment.behind.get(cid)
        if held is not None:
            return held
        if self._environment.store.lengths((cid.require_supported(),)) == [None]:
            return None  # one look into the index: much less than a trip to another thread
        return await asyncio.get_running_loop().run_in_executor(self._environment.executor, self.arrivals.find, cid)

    async def _fetched(self, cid: Cid, feed: ProviderFeed | None) -> bytes:
        while True:
            fetching = self._fetching.get(cid)
            if fetching is None:
                self._check_room(1)
                fetching = asyncio.create_task(self._fetch(cid, feed), name=f"fetch {cid}")
                self._fetching[cid] = fetching
                fetching.add_done_callback(lambda done: self._fetch_ended(cid, done))
            try:
                return await asyncio.shield(fetching)
            except _GivenUpError:
                continue  # it was fetched ahead for a reading that has ended

    def _check_room(self, count: int) -> None:
        if self._closed:
            raise NotReady("the node is stopping")
        if len(self._fetching) + count > MAX_FETCHES:
            raise NotReady(f"{MAX_FETCHES} blocks are being fetched already", hint="try again in a moment")

    async def prefetch(self, cids: Sequence[Cid], feed: Callable[[], ProviderFeed]) -> None:
        """Fetches what is missing of these, several at once, so that `block` finds it here or on its way. Whatever
        fails is left to `block`, which then says why.
        """
        environment = self._environment
        loop = asyncio.get_running_loop()
        lengths = await loop.run_in_executor(environment.executor, environment.store.lengths, cids)
        missing = [cid for cid, length in zip(cids, lengths, strict=True) if length is None]
        wanted = [cid for cid in missing if cid not in self._fetching and environment.behind.get(cid) is None]
        if not wanted or self._closed or len(self._fetching) + len(wanted) > MAX_FETCHES:
            return
        promised: dict[Cid, asyncio.Future[bytes]] = {cid: loop.create_future() for cid in wanted}
        self._fetching.update(promised)
        try:
            async for cid, data in environment.exchange.fetch_many(wanted, feed(), concurrency=environment.concurrency):
                if not promised[cid].done():
                    promised[cid].set_result(data)
                await self._keep_behind(cid, data)
                self._fetch_ended(cid, promised.pop(cid))
        except MpisaError as error:
            log.debug("not fetched ahead", blocks=len(promised), error=str(error))
        finally:
            for cid, future in promised.items():
                if not future.done():
                    future.set_exception(_GivenUpError())
                self._fetch_ended(cid, future)

    async def _fetch(self, cid: Cid, feed: ProviderFeed | None) -> bytes:
        environment = self._environment
        if feed is not None:
            data = await environment.exchange.fetch(cid, feed, timeout=FETCH_SECONDS)
        else:
            with environment.providers.session(cid) as session:
                try:
                    data = await environment.exchange.fetch(cid, session, timeout=FETCH_SECONDS)
                except NotFound as error:
                    if session.known():
                        raise
                    raise NotFound(f"block {cid}: no provider is known ({session.sources})") from error
        await self._keep_behind(cid, data)
        return data

    async def _keep_behind(self, cid: Cid, data: bytes) -> None:
        environment = self._environment
        environment.counters.blocks_fetched += 1
        environment.counters.bytes_fetched += len(data)
        await environment.behind.add(cid, data, Owner(on_failed=self._not_stored))

    def _not_stored(self, error: Exception) -> None:
        """A block that was answered couldn't be kept: whoever wants it again fetches it again."""
        self._environment.counters.write_behind_failures += 1
        log.warning("a fetched block was not stored", error=repr(error))

    def _fetch_ended(self, cid: Cid, fetching: asyncio.Future[bytes]) -> None:
        if self._fetching.get(cid) is fetching:
            del self._fetching[cid]
        if not fetching.cancelled():
            fetching.exception()  # read, so that nothing complains when everybody who waited has gone

    async def pieces(self, cid: Cid) -> AsyncIterator[tuple[tuple[Cid, bytes], ...]]:
        """All blocks of the DAG in depth-first order, in groups, while the missing ones still arrive. Over when all of
        them are durable.
        """
        shared = self._join(cid.require_supported())
        stack = [cid]
        reading = self._read(shared, stack)
        try:
            while True:
                piece = await reading.piece
                if piece.missing is None and not stack:
                    if piece.blocks:
                        yield piece.blocks
                    await asyncio.shield(shared.task)
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
        arrival, over = shared.retrieval.next_arrival, shared.task.done()
        piece = asyncio.get_running_loop().run_in_executor(self._environment.executor, next_piece, self.arrivals, stack)
        return _Reading(shared, piece, arrival, over)

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
        """Cancels what still runs; what has arrived by then is stored."""
        self._closed = True
        tasks: list[asyncio.Future[Retrieved] | asyncio.Future[bytes]] = []
        tasks += [shared.task for shared in self._running.values()]
        tasks += self._fetching.values()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._environment.behind.close()


def _ignore_outcome(future: asyncio.Future[Piece]) -> None:
    """Reads the outcome of a read that nobody waits for any more, so that nothing complains."""
    if not future.cancelled():
        future.exception()
