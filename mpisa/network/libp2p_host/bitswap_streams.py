"""Streams of bitswap: a varint of the length, then the message; only ever one way.

Kubo and Helia read answers from streams that we open, never from their own, so we keep one stream to each peer for
all we say to it. One that was idle for `IDLE_SECONDS` is closed before its other side does that (Helia after 10 s),
for what is written to a stream just cut is lost without a word. What peers send is read message by message; the next
one is read when the last was taken, so a peer that sends too fast waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trio
from libp2p.network.stream.exceptions import StreamEOF

from mpisa.network.bitswap.messages import MAX_MESSAGE_BYTES
from mpisa.network.libp2p_host.streams import STREAM_FAILURES
from mpisa.network.ports import NetworkLimits, PeerId
from mpisa.primitives.dag_pb import encode_varint
from mpisa.primitives.errors import MpisaError, Rejection, RejectionReason, Unreachable

if TYPE_CHECKING:
    from mpisa.network.libp2p_host.options import HostCounters, HostEvents
    from mpisa.network.libp2p_host.portal import Portal

BITSWAP_PROTOCOLS = ("/ipfs/bitswap/1.2.0", "/ipfs/bitswap/1.1.0")
IDLE_SECONDS = 5.0
MAX_STREAMS_PER_PEER = 64
"""Inbound streams one peer may have open: Kubo opens one for each answer, eight at once."""

READ_BYTES = 64 * 1024
BODY_SECONDS = 30.0
"""How long a message may take from its first byte to its last."""

RECEIVE_FAILURES: tuple[type[Exception], ...] = (MpisaError, trio.TooSlowError, *STREAM_FAILURES)
Open = Callable[..., Awaitable[Any]]


@dataclass(slots=True)
class _Outbound:
    """Our stream to a peer, and whose turn it is to write."""

    turn: trio.Lock = field(default_factory=trio.Lock)
    stream: Any = None
    used: float = 0.0


class BitswapStreams:
    """All bitswap streams of a host, in the trio thread."""

    def __init__(self, portal: Portal, events: HostEvents, limits: NetworkLimits, counters: HostCounters) -> None:
        self._portal = portal
        self._events = events
        self._limits = limits
        self._counters = counters
        self._outbound: dict[PeerId, _Outbound] = {}
        self._inbound: Counter[PeerId] = Counter()
        self._held: Counter[PeerId] = Counter()
        self._held_by_all = 0

    def forget(self, peer: PeerId) -> None:
        """The peer has disconnected: its streams have ended with the connection."""
        self._outbound.pop(peer, None)

    async def send(self, peer: PeerId, message: bytes, open_stream: Open) -> None:
        """Raises Unreachable. A stream that the other side has closed is opened anew once."""
        outbound = self._outbound.setdefault(peer, _Outbound())
        framed = encode_varint(len(message)) + message
        async with outbound.turn:
            kept = await self._fresh(outbound)
            if kept is not None and await self._write(outbound, kept, framed):
                return
            try:
                stream = outbound.stream = await open_stream(peer, *BITSWAP_PROTOCOLS)
            except Unreachable:
                if self._outbound.get(peer) is outbound:
                    del self._outbound[peer]
                raise
            if not await self._write(outbound, stream, framed):
                raise Unreachable(f"the bitswap stream to {peer} broke")

    async def receive(self, peer: PeerId, stream: Any) -> None:
        """Hands on each message of a stream that a peer opened, until it ends."""
        if self._inbound[peer] >= MAX_STREAMS_PER_PEER:
            self._counters.streams_refused += 1
            await stream.reset()
            return
        self._inbound[peer] += 1
        try:
            await self._read_messages(peer, stream)
            await stream.close()
        except RECEIVE_FAILURES as error:
            if isinstance(error, Rejection):
                self._counters.bitswap_messages_refused += 1
            with suppress(*STREAM_FAILURES):
                await stream.reset()
        finally:
            _discount(self._inbound, peer, 1)

    async def _read_messages(self, peer: PeerId, stream: Any) -> None:
        """Reads ahead: messages are small and many, or large and few."""
        buffer = bytearray()
        held = 0
        try:
            while True:
                while (length := _length(buffer)) is None:
                    chunk = await _read(stream)
                    if not chunk:
                        return
                    buffer += chunk
                size, start = length
                with trio.fail_after(BODY_SECONDS):
                    while len(buffer) < start + size:
                        chunk = await _read(stream)
                        if not chunk:
                            raise Unreachable("stream ended inside a message")
                        buffer += chunk
                        held += self._hold(peer, len(chunk))
                message = bytes(memoryview(buffer)[start : start + size])
                del buffer[: start + size]
                await self._portal.ask(self._events.bitswap, peer, message)
                held -= self._release(peer, held)
        finally:
            self._release(peer, held)

    def _hold(self, peer: PeerId, size: int) -> int:
        """Counts bytes of unfinished messages. Raises Rejection when a peer, or all together, make us hold too many."""
        self._held[peer] += size
        self._held_by_all += size
        if self._held[peer] > self._limits.bitswap_bytes_per_peer or self._held_by_all > self._limits.bitswap_bytes:
            self._release(peer, size)
            raise Rejection(RejectionReason.TOO_LARGE, f"{peer} has too many unfinished bitswap messages here")
        return size

    def _release(self, peer: PeerId, size: int) -> int:
        if size:
            _discount(self._held, peer, size)
            self._held_by_all -= size
        return size

    async def _fresh(self, outbound: _Outbound) -> Any:
        """The open stream, unless it was idle for too long."""
        stream = outbound.stream
        if stream is not None and trio.current_time() - outbound.used > IDLE_SECONDS:
            outbound.stream = None
            with suppress(*STREAM_FAILURES):
                await stream.close()
            return None
        return stream

    async def _write(self, outbound: _Outbound, stream: Any, framed: bytes) -> bool:
        try:
            await stream.write(framed)
        except STREAM_FAILURES:
            outbound.stream = None
            with suppress(*STREAM_FAILURES):
                await stream.reset()
            return False
        except trio.Cancelled:
            outbound.stream = None
            with trio.CancelScope(deadline=trio.current_time() + 1.0, shield=True), suppress(*STREAM_FAILURES):
                await stream.reset()
            raise
        outbound.used = trio.current_time()
        return True


async def _read(stream: Any) -> bytes:
    """What has arrived, at most `READ_BYTES`; empty at the end. Raises Unreachable when the stream broke."""
    try:
        return bytes(await stream.read(READ_BYTES))
    except StreamEOF:
        return b""
    except STREAM_FAILURES as error:
        raise Unreachable(f"stream broke: {error or type(error).__name__}") from error


def _length(buffer: bytearray) -> tuple[int, int] | None:
    """The length that a message begins with and where its body starts, or None when more is needed. Raises
    Rejection.
    """
    length = 0
    for index, byte in enumerate(buffer[:5]):
        length |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if length > MAX_MESSAGE_BYTES:
                break
            return length, index + 1
    else:
        if len(buffer) < 5:
            return None
    raise Rejection(RejectionReason.TOO_LARGE, f"bitswap message, expected at most {MAX_MESSAGE_BYTES} bytes")


def _discount(counter: Counter[PeerId], peer: PeerId, amount: int) -> None:
    counter[peer] -= amount
    if counter[peer] <= 0:
        del counter[peer]
