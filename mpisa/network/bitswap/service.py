"""Bitswap's asyncio side: a BlockTransport to foreign peers, and the answers to what they want.

Serving: each peer with wants has one task that answers them message by message, so a greedy peer waits for its own
stream; the tasks take turns at `SERVED_AT_ONCE` places, first come first served. What a message holds is bounded
(`ANSWER_TARGET_BYTES` and one block more), and so is what all of them hold. A peer that doesn't read loses its wants,
and isn't served for a while. Want-have of a small block is answered with the block itself, as Kubo does.

Fetching: the block is asked for with "say so if you lack it"; what comes is hashed to find the CID it belongs to, for
bitswap sends blocks without their names. The exchange above checks it once more, as it does for every transport.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from mpisa.network.bitswap.ledger import Ledger
from mpisa.network.bitswap.messages import Entry, Message, WantType, cid_of, decode_message, encode_message, prefix_of
from mpisa.network.bitswap.wants import Waiter, Wants
from mpisa.network.exchange import BatchAnswer
from mpisa.network.gate import Gate
from mpisa.network.ports import BlockSource, NetworkLimits, NetworkStats, PeerAddress, PeerId
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import MpisaError, NotFound, Rejection, RejectionReason, TimedOut

SMALL_BLOCK_BYTES = 1024
"""A want-have for a block up to this size is answered with the block."""

ANSWER_TARGET_BYTES = 1 << 20
"""Blocks are put into one answer up to this size; the last one may go beyond."""

ANSWER_ENTRIES = 512
SERVED_AT_ONCE = 16
SEND_SECONDS = 10.0
SLOWEST_BYTES_A_SECOND = 128 * 1024
"""A peer has `SEND_SECONDS` and what an answer takes at this speed."""

MUTED_SECONDS = 30.0
MAX_MUTED = 1024
MAX_UNASKED_BYTES = 32 << 20
"""Blocks nobody asked for that one peer may send while it is connected, before it is disconnected."""

HASH_INLINE_BYTES = 16 * 1024


class BitswapHost(Protocol):
    """What bitswap needs of the libp2p host."""

    async def send_bitswap(self, peer: PeerId, message: bytes) -> None:
        """Raises Unreachable when the peer isn't connected, speaks no bitswap, or its stream broke."""
        ...

    async def disconnect(self, peer: PeerId) -> None: ...


@dataclass(slots=True)
class _Answer:
    """One message to a peer, and the wants that it settles."""

    message: Message
    settled: list[Entry]
    blocks: int = 0
    block_bytes: int = 0


class Bitswap:
    """`reach(provider, seconds)` connects to a peer that isn't connected (raises MpisaError)."""

    def __init__(
        self,
        host: BitswapHost,
        source: BlockSource,
        executor: Executor,
        limits: NetworkLimits,
        stats: NetworkStats,
        reach: Callable[[PeerAddress, float], Awaitable[None]],
        gate: Gate | None = None,
    ) -> None:
        self._host = host
        self._source = source
        self._executor = executor
        self._limits = limits
        self._stats = stats
        self._reach = reach
        self._gate = gate or Gate()
        self.ledger = Ledger(limits.bitswap_wants_per_peer, limits.bitswap_peers)
        self.wants = Wants()
        self._turns = asyncio.Semaphore(SERVED_AT_ONCE)
        self._serving: dict[PeerId, asyncio.Task[None]] = {}
        self._muted: OrderedDict[PeerId, float] = OrderedDict()
        self._unasked: dict[PeerId, int] = {}
        self._cancelling: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        tasks = [*self._serving.values(), *self._cancelling]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def peer_disconnected(self, peer: PeerId) -> None:
        """Leaves nothing of the peer."""
        self.ledger.forget(peer)
        self.wants.gone(peer)
        self._unasked.pop(peer, None)
        task = self._serving.get(peer)
        if task is not None:
            task.cancel()

    # Fetching: a BlockTransport.

    async def get_block(self, provider: PeerAddress, cid: Cid, *, timeout: float) -> bytes:
        answer = await self._get(provider, [cid], timeout)
        block = answer.blocks[0]
        if block is None:
            raise NotFound(f"block {cid} isn't at {provider.peer_id}")
        return block

    async def get_blocks(self, provider: PeerAddress, cids: Sequence[Cid], *, timeout: float) -> BatchAnswer:
        return await self._get(provider, cids, timeout)

    async def _get(self, provider: PeerAddress, cids: Sequence[Cid], timeout: float) -> BatchAnswer:
        """Blocks in order, None for those that the peer says it lacks."""
        peer = provider.peer_id
        loop = asyncio.get_running_loop()
        waiters: list[tuple[Cid, Waiter]] = []
        try:
            async with asyncio.timeout(timeout), self._gate.passage(peer, timeout):
                await self._reach(provider, timeout)
                waiters += [(cid, loop.create_future()) for cid in cids]
                fresh = [cid for cid, waiter in waiters if self.wants.add(peer, cid, waiter)]
                if fresh:
                    self._stats.requests_sent += 1
                    await self._send(peer, Message(tuple(Entry(cid, send_dont_have=True) for cid in fresh)))
                await asyncio.wait([waiter for _, waiter in waiters])
                return BatchAnswer(tuple(_block_or_none(waiter) for _, waiter in waiters))
        except TimeoutError as error:
            raise TimedOut(f"{peer} didn't send what it was asked for within {timeout} s") from error
        finally:
            self._give_up(peer, waiters)

    def _give_up(self, peer: PeerId, waiters: list[tuple[Cid, Waiter]]) -> None:
        """Tells the peer what isn't wanted any more."""
        late = [cid for cid, waiter in waiters if self.wants.drop(peer, cid, waiter)]
        for _, waiter in waiters:
            if waiter.done() and not waiter.cancelled():
                waiter.exception()
        if late:
            entries = tuple(Entry(cid, cancel=True) for cid in late)
            task = asyncio.create_task(self._send_quietly(peer, Message(entries)), name="bitswap cancel")
            self._cancelling.add(task)
            task.add_done_callback(self._cancelling.discard)

    async def _send_quietly(self, peer: PeerId, message: Message) -> None:
        with suppress(MpisaError, TimeoutError):
            async with asyncio.timeout(SEND_SECONDS):
                await self._send(peer, message)

    async def _send(self, peer: PeerId, message: Message) -> None:
        await self._host.send_bitswap(peer, encode_message(message))

    # What peers send.

    async def receive(self, peer: PeerId, raw: bytes) -> None:
        """One message of a peer; returns when the next may come. Raises Rejection for one that is none, and
        disconnects a peer that floods us.
        """
        message = decode_message(raw)
        if message.blocks:
            await self._take_blocks(peer, message.blocks)
            if self._unasked.get(peer, 0) > MAX_UNASKED_BYTES:
                await self._host.disconnect(peer)
                raise Rejection(RejectionReason.TOO_LARGE, f"{peer} floods us with blocks nobody asked for")
        for cid, have in message.presences:
            if not have:
                self.wants.absent(peer, cid)
        if message.entries or message.full:
            self._note_wants(peer, message)

    async def _take_blocks(self, peer: PeerId, blocks: tuple[tuple[bytes, bytes], ...]) -> None:
        size = sum(len(data) for _, data in blocks)
        if not self.wants.wanted(peer):
            self._count_unasked(peer, size)
            return
        if size <= HASH_INLINE_BYTES:
            cids = _cids(blocks)
        else:
            cids = await asyncio.get_running_loop().run_in_executor(self._executor, _cids, blocks)
        for cid, (_, data) in zip(cids, blocks, strict=True):
            if cid is None or not self.wants.arrived(peer, cid, data):
                self._count_unasked(peer, len(data))

    def _count_unasked(self, peer: PeerId, size: int) -> None:
        """A block that was cancelled too late comes all the same; floods of them end the connection."""
        self._stats.bitswap_unasked_bytes += size
        self._unasked[peer] = self._unasked.get(peer, 0) + size

    def _note_wants(self, peer: PeerId, message: Message) -> None:
        if self._is_muted(peer):
            self._stats.bitswap_wants_refused += len(message.entries)
            return
        self._stats.bitswap_wants_refused += self.ledger.receive(peer, message.entries, full=message.full)
        if peer not in self._serving and self.ledger.next(peer, 1):
            task = self._serving[peer] = asyncio.create_task(self._serve(peer), name="bitswap serve")
            task.add_done_callback(lambda _: self._serving.pop(peer, None))

    def _is_muted(self, peer: PeerId) -> bool:
        now = asyncio.get_running_loop().time()
        while self._muted and next(iter(self._muted.values())) <= now:
            self._muted.popitem(last=False)
        return peer in self._muted

    async def _serve(self, peer: PeerId) -> None:
        """Answers the peer's wants until there are none."""
        loop = asyncio.get_running_loop()
        while entries := self.ledger.next(peer, ANSWER_ENTRIES):
            async with self._turns:
                answer = await loop.run_in_executor(self._executor, self._answer, entries)
                self.ledger.answered(peer, answer.settled)
                if not answer.message.blocks and not answer.message.presences:
                    continue
                try:
                    await self._gate.hold_answer(peer)
                    async with asyncio.timeout(SEND_SECONDS + answer.block_bytes / SLOWEST_BYTES_A_SECOND):
                        await self._send(peer, answer.message)
                except TimeoutError:
                    self._mute(peer)
                    return
                except MpisaError:
                    self.ledger.forget(peer)
                    return
            self._stats.requests_served += 1
            self._stats.bitswap_blocks_served += answer.blocks
            self._stats.bitswap_bytes_served += answer.block_bytes

    def _mute(self, peer: PeerId) -> None:
        """It didn't read what it asked for."""
        self.ledger.forget(peer)
        self._stats.bitswap_peers_muted += 1
        self._muted[peer] = asyncio.get_running_loop().time() + MUTED_SECONDS
        self._muted.move_to_end(peer)
        if len(self._muted) > MAX_MUTED:
            self._muted.popitem(last=False)

    def _answer(self, entries: Sequence[Entry]) -> _Answer:
        """In a worker thread: reads blocks until the answer is large enough."""
        blocks: list[tuple[bytes, bytes]] = []
        presences: list[tuple[Cid, bool]] = []
        settled: list[Entry] = []
        total = 0
        for entry in entries:
            if total >= ANSWER_TARGET_BYTES:
                break
            settled.append(entry)
            size = self._source.size_of(entry.cid)
            if size is not None and entry.want is WantType.HAVE and size > SMALL_BLOCK_BYTES:
                presences.append((entry.cid, True))
                continue
            data = None if size is None else self._source.get(entry.cid)
            if data is not None:
                blocks.append((prefix_of(entry.cid), data))
                total += len(data)
            elif entry.send_dont_have:
                presences.append((entry.cid, False))
        message = Message(blocks=tuple(blocks), presences=tuple(presences))
        return _Answer(message, settled, len(blocks), total)


def _cids(blocks: tuple[tuple[bytes, bytes], ...]) -> list[Cid | None]:
    return [cid_of(prefix, data) for prefix, data in blocks]


def _block_or_none(waiter: Waiter) -> bytes | None:
    """Raises what went wrong, but for an absence."""
    try:
        return waiter.result()
    except NotFound:
        return None
