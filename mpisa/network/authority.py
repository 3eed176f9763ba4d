"""Authority links over the peer port: each authority opens one WebSocket to each other, and sends its frames on it.

So there are two streams a pair, one a direction, and no question of whose connection wins. A link has one task:
connect, send what is queued, and when it ends wait a growing while and connect again; word from the peer (a hello,
its own link) cuts the wait short. When the peer port can't be reached, the fallback (a libp2p stream) carries the
frames behind the same Protocol, and the port is tried again later. Frames queued behind each other travel in one
message. A full queue drops its oldest frame: the newest round matters most, and what is missing is asked for.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

import aiohttp
from aiohttp import web

from mpisa.network import wire
from mpisa.network.gate import DelayLine, Gate
from mpisa.network.peer_client import MAX_MESSAGE_BYTES, PeerClient
from mpisa.network.peer_server import PeerServer
from mpisa.network.ports import FrameHandler, NetworkLimits, NetworkStats, PeerAddress, PeerId, RequestHandler
from mpisa.primitives.errors import Denied, MpisaError, Rejection, RejectionReason, TimedOut, Unreachable

COALESCE_BYTES = 1 << 20
"""Frames are put into one message up to this size; a larger frame travels alone."""

STABLE_SECONDS = 10.0
"""A link that lasted this long starts its waits from the first again."""

FALLBACK_RETRY_SECONDS = 30.0
"""How long a fallback link is kept before the peer port is tried again."""


class FrameStream(Protocol):
    """One direction of an authority link, whatever carries it."""

    carrier: str

    async def send(self, message: bytes) -> None:
        """Sends one message of packed frames. Raises MpisaError when the stream is broken."""
        ...

    async def wait_closed(self) -> None:
        """Returns when the other side is gone."""
        ...

    async def close(self) -> None: ...


class Fallback(Protocol):
    """What libp2p offers when the peer port can't be reached. Both raise Unreachable or TimedOut."""

    async def open_frames(self, peer: PeerId) -> FrameStream: ...

    async def request(self, peer: PeerId, kind: str, body: bytes, *, timeout: float) -> bytes: ...


class WebSocketFrames:
    """A FrameStream over an open client WebSocket."""

    carrier = "tls"

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def send(self, message: bytes) -> None:
        try:
            await self._socket.send_bytes(message)
        except (aiohttp.ClientError, ConnectionError) as error:
            raise Unreachable(f"authority link broke: {error or type(error).__name__}") from error

    async def wait_closed(self) -> None:
        while (await self._socket.receive()).type in (aiohttp.WSMsgType.PING, aiohttp.WSMsgType.PONG):
            pass

    async def close(self) -> None:
        await self._socket.close()


class Link:
    """The sending link to one authority."""

    def __init__(self, peer: PeerId, limits: NetworkLimits, stats: NetworkStats, gate: Gate | None = None) -> None:
        self.peer = peer
        self.carrier: str | None = None
        self.task: asyncio.Task[None] | None = None
        self._limits = limits
        self._stats = stats
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._ready = asyncio.Event()
        self._news = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None
        self._delayed = DelayLine(gate or Gate(), peer, limits, stats, self._queue_up)
        self.on_up: Callable[[PeerId], None] | None = None

    def push(self, frame: bytes) -> bool:
        """Queues a frame when the link is up; drops the oldest ones when that is too many."""
        if self.carrier is None:
            self._stats.frames_dropped += 1
            return False
        if not self._delayed.takes(frame):
            self._queue_up(frame)
        return True

    def sever(self) -> None:
        """The link ends now; it is up again when connecting succeeds."""
        if self._sender is not None:
            self._sender.cancel()

    def _queue_up(self, frame: bytes) -> None:
        self._queue.append(frame)
        self._queued_bytes += len(frame)
        while (
            len(self._queue) > self._limits.authority_queue_frames
            or self._queued_bytes > self._limits.authority_queue_bytes
        ):
            self._queued_bytes -= len(self._queue.popleft())
            self._stats.frames_dropped += 1
        self._ready.set()

    def wake(self) -> None:
        """There is news of the peer: connect now."""
        self._news.set()

    async def run(self, connect: Callable[[PeerId], object]) -> None:
        """Connects and sends until cancelled. `connect` is a coroutine function that returns a FrameStream."""
        wait = self._limits.reconnect_first
        loop = asyncio.get_running_loop()
        while True:
            self._news.clear()
            started = loop.time()
            try:
                stream: FrameStream = await connect(self.peer)  # type: ignore[misc]
                await self._serve(stream)
            except MpisaError:
                pass  # unreachable now: the wait below is the answer
            if loop.time() - started > STABLE_SECONDS:
                wait = self._limits.reconnect_first
            try:
                async with asyncio.timeout(wait * random.uniform(0.5, 1.0)):  # noqa: S311
                    await self._news.wait()
                wait = self._limits.reconnect_first
            except TimeoutError:
                wait = min(wait * 2, self._limits.reconnect_cap)

    async def _serve(self, stream: FrameStream) -> None:
        self.carrier = stream.carrier
        self._stats.authority_reconnects += 1
        if self.on_up is not None:
            self.on_up(self.peer)
        sender = self._sender = asyncio.create_task(self._send_all(stream))
        closed = asyncio.create_task(stream.wait_closed())
        patience = None if stream.carrier == WebSocketFrames.carrier else FALLBACK_RETRY_SECONDS
        try:
            await asyncio.wait((sender, closed), timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.carrier = self._sender = None
            self._delayed.clear()
            sender.cancel()
            closed.cancel()
            await asyncio.gather(sender, closed, return_exceptions=True)
            self._stats.frames_dropped += len(self._queue)
            self._queue.clear()
            self._queued_bytes = 0
            await stream.close()

    async def _send_all(self, stream: FrameStream) -> None:
        while True:
            await self._ready.wait()
            self._ready.clear()
            while self._queue:
                frames = self._take()
                message = wire.pack_frames(frames)
                await stream.send(message)
                self._stats.frames_sent += len(frames)
                self._stats.frame_bytes_sent += len(message)

    def _take(self) -> list[bytes]:
        frames = [self._queue.popleft()]
        size = len(frames[0])
        while self._queue and size + len(self._queue[0]) <= COALESCE_BYTES:
            frames.append(self._queue.popleft())
            size += len(frames[-1])
        self._queued_bytes -= size
        return frames


class PeerAuthorityLinks:
    """AuthorityLinks over client and server of the peer port. `find` looks a peer's address up, `fallback` may be
    None.
    """

    def __init__(
        self,
        own: PeerId,
        client: PeerClient,
        server: PeerServer,
        find: Callable[[PeerId], PeerAddress | None],
        limits: NetworkLimits,
        stats: NetworkStats,
        gate: Gate | None = None,
    ) -> None:
        self._own = own
        self._gate = gate or Gate()
        self._client = client
        self._server = server
        self._find = find
        self._limits = limits
        self._stats = stats
        self._handler: FrameHandler | None = None
        self._observer: Callable[[PeerId], None] | None = None
        self._links: dict[PeerId, Link] = {}
        self._known: dict[PeerId, PeerAddress] = {}
        self._inbound: dict[PeerId, web.WebSocketResponse] = {}
        self._running = False
        self.fallback: Fallback | None = None

    def start(self) -> None:
        self._running = True
        for link in self._links.values():
            self._run(link)

    async def stop(self) -> None:
        self._running = False
        tasks = [link.task for link in self._links.values() if link.task is not None]
        for task in tasks:
            task.cancel()
        closing = [socket.close(code=aiohttp.WSCloseCode.GOING_AWAY) for socket in self._inbound.values()]
        await asyncio.gather(*tasks, *closing, return_exceptions=True)

    def set_handler(self, handler: FrameHandler) -> None:
        self._handler = handler

    def set_authorities(self, addresses: Iterable[PeerAddress]) -> None:
        self._known = {address.peer_id: address for address in addresses if address.peer_id != self._own}
        for peer in [peer for peer in self._links if peer not in self._known]:
            task = self._links.pop(peer).task
            if task is not None:
                task.cancel()
        for peer in self._known:
            if peer not in self._links:
                self._links[peer] = Link(peer, self._limits, self._stats, self._gate)
                self._links[peer].on_up = self._observer
                if self._running:
                    self._run(self._links[peer])

    def set_link_observer(self, observer: Callable[[PeerId], None]) -> None:
        self._observer = observer
        for link in self._links.values():
            link.on_up = observer

    def linked(self) -> frozenset[PeerId]:
        return frozenset(peer for peer, link in self._links.items() if link.carrier is not None)

    def carrier(self, peer: PeerId) -> str | None:
        """ "tls", "libp2p", or None when no link is up."""
        link = self._links.get(peer)
        return None if link is None else link.carrier

    def wake(self, peer: PeerId) -> None:
        """There is news of a peer (it connected, its address changed)."""
        link = self._links.get(peer)
        if link is not None:
            link.wake()

    def sever(self, peers: frozenset[PeerId]) -> None:
        """The links to these peers end, in both directions."""
        for peer in peers:
            link = self._links.get(peer)
            if link is not None:
                link.sever()

    async def send(self, peer: PeerId, frame: bytes) -> bool:
        self._validate(frame)
        link = self._links.get(peer)
        return link is not None and link.push(frame)

    async def broadcast(self, frame: bytes) -> int:
        self._validate(frame)
        return sum(link.push(frame) for link in self._links.values())

    def set_request_handler(self, kind: str, handler: RequestHandler) -> None:
        self._server.set_request_handler(kind, handler)

    async def request(self, peer: PeerId, kind: str, body: bytes, *, timeout: float = 5.0) -> bytes:
        if len(body) > self._limits.max_request_bytes:
            raise Rejection(RejectionReason.TOO_LARGE, f"request, at most {self._limits.max_request_bytes} bytes")
        address = self._address(peer)
        if address is not None and address.peer_url is not None:
            try:
                return await self._client.request(address, kind, body, timeout=timeout)
            except Unreachable:
                if self.fallback is None:
                    raise
        if self.fallback is None:
            raise Unreachable(f"no peer port known of {peer}")
        return await self.fallback.request(peer, kind, body, timeout=timeout)

    async def accept(self, peer: PeerId, request: web.Request) -> web.StreamResponse:
        """Serves the WebSocket of another authority's frames to us; a newer one replaces an older one."""
        if peer not in self._known:
            raise Denied(f"{peer} is no authority here")
        socket = web.WebSocketResponse(
            heartbeat=self._limits.ping_interval * 2, max_msg_size=MAX_MESSAGE_BYTES, compress=False
        )
        try:
            await socket.prepare(request)
        except ConnectionError:
            return socket  # the peer has gone again
        older, self._inbound[peer] = self._inbound.get(peer), socket
        if older is not None:
            await older.close(code=aiohttp.WSCloseCode.GOING_AWAY, message=b"replaced")
        self.wake(peer)
        try:
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.BINARY:
                    self._stats.peers_disconnected_garbage += 1
                    raise Rejection(RejectionReason.MALFORMED, "authority message, expected a binary one")
                await self.receive(peer, message.data)
        except Rejection as error:
            await socket.close(code=aiohttp.WSCloseCode.POLICY_VIOLATION, message=str(error).encode()[:120])
        finally:
            if self._inbound.get(peer) is socket:
                del self._inbound[peer]
        return socket

    async def receive(self, peer: PeerId, message: bytes) -> None:
        """Hands the frames of one message on, in order. Counts and raises Rejection when they make no sense."""
        try:
            if peer not in self._known:
                raise Rejection(RejectionReason.UNKNOWN_AUTHORITY, f"{peer} is no authority here")
            self._stats.frame_bytes_received += len(message)
            for frame in wire.unpack_frames(message, self._limits.max_frame_bytes):
                self._stats.frames_received += 1
                if self._handler is not None:
                    await self._handler(peer, frame)
        except Rejection:
            self._stats.peers_disconnected_garbage += 1
            raise

    def _run(self, link: Link) -> None:
        link.task = asyncio.create_task(link.run(self._connect), name=f"authority link {link.peer}")

    async def _connect(self, peer: PeerId) -> FrameStream:
        if self._gate.is_cut(peer):
            raise Unreachable(f"{peer} is cut off")
        address = self._address(peer)
        failure: MpisaError = Unreachable(f"no peer port known of {peer}")
        if address is not None and address.peer_url is not None:
            try:
                socket = await self._client.open_stream(address, heartbeat=self._limits.ping_interval * 2)
                return WebSocketFrames(socket)
            except (Unreachable, TimedOut) as error:
                failure = error
        if self.fallback is None:
            raise failure
        return await self.fallback.open_frames(peer)

    def _address(self, peer: PeerId) -> PeerAddress | None:
        """What the peer said of itself last, else what was configured."""
        found = self._find(peer)
        return found if found is not None and found.peer_url is not None else self._known.get(peer, found)

    def _validate(self, frame: bytes) -> None:
        limit = self._limits.max_frame_bytes
        if len(frame) > limit:
            raise Rejection(RejectionReason.TOO_LARGE, f"frame, expected at most {limit} bytes, got {len(frame)}")
