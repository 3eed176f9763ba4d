"""Authority links over real peer ports: order, replacement, reconnection, bounds, and who is refused."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import aiohttp
import pytest

from mpisa.network import wire
from mpisa.network.authority import Link, PeerAuthorityLinks
from mpisa.network.peer_client import PeerClient
from mpisa.network.peer_id import HostKey
from mpisa.network.peer_server import PeerServer
from mpisa.network.ports import NetworkStats, PeerAddress
from mpisa.primitives.errors import NotFound, Rejection, RejectionReason, Unreachable
from tests.network.support import DictBlocks, Frames, eventually, limits


class Authority:
    """One end: a server, a client, links, and what it heard."""

    def __init__(self, number: int, executor, bounds=None) -> None:
        bounds = bounds or limits(reconnect_first=0.01, reconnect_cap=0.05)
        self.key = HostKey(bytes([number]) * 32)
        self.stats = NetworkStats()
        self.known: dict = {}
        self.server = PeerServer(self.key, DictBlocks(), executor, bounds, self.stats)
        self.client = PeerClient(self.key, bounds, self.stats)
        own = self.key.peer_id
        self.links = PeerAuthorityLinks(own, self.client, self.server, self.known.get, bounds, self.stats)
        self.server.open_stream = self.links.accept
        self.frames = Frames()
        self.links.set_handler(self.frames)
        self.port = 0

    @property
    def address(self) -> PeerAddress:
        return PeerAddress(self.key.peer_id, (), f"https://127.0.0.1:{self.port}")

    async def start(self) -> None:
        self.port = await self.server.start("127.0.0.1", self.port)
        await self.client.start()
        self.links.start()

    async def stop(self) -> None:
        await self.links.stop()
        await self.client.stop()
        await self.server.stop()


@asynccontextmanager
async def pair(bounds=None):
    with ThreadPoolExecutor(1) as executor:
        one, two = Authority(1, executor, bounds), Authority(2, executor, bounds)
        await one.start()
        await two.start()
        for authority in (one, two):
            authority.links.set_authorities([one.address, two.address])
        await eventually(lambda: one.links.linked() and two.links.linked())
        try:
            yield one, two
        finally:
            await one.stop()
            await two.stop()


async def test_frames_arrive_whole_and_in_order_both_ways():
    async with pair() as (one, two):
        assert one.links.linked() == {two.key.peer_id}
        assert one.links.carrier(two.key.peer_id) == "tls"
        sent = [bytes([number % 256]) * (number * 97) for number in range(300)]
        for frame in sent:
            assert await one.links.send(two.key.peer_id, frame)
            assert await two.links.broadcast(frame) == 1
        assert await two.frames.until(300) == [(one.key.peer_id, frame) for frame in sent]
        assert await one.frames.until(300) == [(two.key.peer_id, frame) for frame in sent]
        assert (one.stats.frames_sent, two.stats.frames_received, two.stats.frames_dropped) == (300, 300, 0)


async def test_a_large_frame_travels_and_a_larger_one_is_refused():
    async with pair() as (one, two):
        assert await one.links.send(two.key.peer_id, bytes(4 << 20))
        assert len((await two.frames.until(1))[0][1]) == 4 << 20
        with pytest.raises(Rejection, match="frame, expected at most 4194304 bytes, got 4194305"):
            await one.links.broadcast(bytes((4 << 20) + 1))


async def test_a_peer_that_restarts_is_linked_again():
    async with pair() as (one, two):
        await two.stop()
        await eventually(lambda: not one.links.linked())
        assert not await one.links.send(two.key.peer_id, b"lost")
        with ThreadPoolExecutor(1) as executor:
            reborn = Authority(2, executor)
            reborn.port = two.port
            await reborn.start()
            reborn.links.set_authorities([one.address])
            await eventually(lambda: one.links.linked() and reborn.links.linked())
            await one.links.broadcast(b"welcome back")
            assert await reborn.frames.until(1) == [(one.key.peer_id, b"welcome back")]
            await reborn.stop()


def test_a_full_queue_drops_its_oldest_frames_by_number_and_by_bytes():
    stats = NetworkStats()
    link = Link(HostKey(bytes([1]) * 32).peer_id, limits(authority_queue_frames=3, authority_queue_bytes=10), stats)
    assert not link.push(b"nobody is there")
    link.carrier = "tls"
    for number in range(5):
        assert link.push(b"%d" % number)
    assert (list(link._queue), stats.frames_dropped) == ([b"2", b"3", b"4"], 3)
    link.push(b"nine bytes"[:9])
    assert (list(link._queue), link._queued_bytes) == ([b"4", b"nine byte"], 10)


async def test_a_slow_reader_slows_nobody_else_and_keeps_what_is_newest():
    bounds = limits(authority_queue_frames=8, reconnect_first=0.01)
    async with pair(bounds) as (one, two):
        release = asyncio.Event()
        taken: list[bytes] = []

        async def slow(peer, frame):
            await release.wait()
            taken.append(frame[:4])
            await two.frames(peer, frame)

        two.links.set_handler(slow)
        for number in range(60):
            await one.links.send(two.key.peer_id, number.to_bytes(4, "big") + bytes(1 << 20))
            await two.links.send(one.key.peer_id, b"the other way")
            await one.frames.until(number + 1)
        release.set()
        await eventually(lambda: (59).to_bytes(4, "big") in taken)
        assert one.stats.frames_dropped > 0
        assert taken == sorted(taken)


async def test_who_is_no_authority_is_refused():
    async with pair() as (one, two):
        two.links.set_authorities([])
        await eventually(lambda: not two.links.linked())
        with ThreadPoolExecutor(1) as executor:
            stranger = Authority(3, executor)
            await stranger.client.start()
            with pytest.raises(Unreachable, match="403"):
                await stranger.client.open_stream(two.address, heartbeat=5)
            await stranger.client.stop()
        with pytest.raises(Rejection, match="unknown-authority"):
            await two.links.receive(one.key.peer_id, b"")


@pytest.mark.parametrize("garbage", [b"\xff\xff\xff\xff", b"\0\0", b"\0\0\0\5abc", "text"])
async def test_garbage_ends_the_link_and_is_counted(garbage):
    async with pair() as (one, two):
        socket = await one.client.open_stream(two.address, heartbeat=5)
        await (socket.send_str(garbage) if isinstance(garbage, str) else socket.send_bytes(garbage))
        closed = await socket.receive()
        assert (closed.type, closed.data) == (aiohttp.WSMsgType.CLOSE, aiohttp.WSCloseCode.POLICY_VIOLATION)
        assert two.stats.peers_disconnected_garbage == 1


async def test_a_rejected_frame_ends_the_link():
    async with pair() as (one, two):

        async def reject(peer, frame):
            raise Rejection(RejectionReason.BAD_SIGNATURE, "vertex")

        two.links.set_handler(reject)
        socket = await one.client.open_stream(two.address, heartbeat=5)
        await socket.send_bytes(wire.pack_frames([b"vertex"]))
        assert (await socket.receive()).extra == "bad-signature: vertex"
        assert two.stats.peers_disconnected_garbage == 1


async def test_a_newer_stream_of_a_peer_replaces_the_older():
    async with pair() as (one, two):
        socket = await one.client.open_stream(two.address, heartbeat=5)
        newer = await one.client.open_stream(two.address, heartbeat=5)
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
        await newer.send_bytes(wire.pack_frames([b"newer"]))
        assert (one.key.peer_id, b"newer") in await two.frames.until(1)
        await newer.close()


async def test_requests_between_authorities():
    async with pair() as (one, two):

        async def double(peer, body):
            return body * 2

        two.links.set_request_handler("double", double)
        assert await one.links.request(two.key.peer_id, "double", b"ab") == b"abab"
        with pytest.raises(NotFound):
            await one.links.request(two.key.peer_id, "halve", b"ab")
        with pytest.raises(Rejection, match="request, at most 1048576 bytes"):
            await one.links.request(two.key.peer_id, "double", bytes((1 << 20) + 1))
        with pytest.raises(Unreachable, match="no peer port known"):
            await one.links.request(HostKey(bytes([9]) * 32).peer_id, "double", b"")


class Carrier:
    """A fallback that keeps what it carried."""

    carrier = "libp2p"

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.closed = asyncio.Event()

    async def open_frames(self, peer):
        return self

    async def request(self, peer, kind, body, *, timeout):
        return b"over libp2p: " + body

    async def send(self, message):
        self.messages.append(message)

    async def wait_closed(self):
        await self.closed.wait()

    async def close(self):
        pass


async def test_the_fallback_carries_what_a_closed_port_does_not():
    with ThreadPoolExecutor(1) as executor:
        one = Authority(1, executor)
        await one.start()
        carrier = one.links.fallback = Carrier()
        other = PeerAddress(HostKey(bytes([2]) * 32).peer_id, (), "https://127.0.0.1:1")
        one.links.set_authorities([other])
        await eventually(lambda: one.links.carrier(other.peer_id) == "libp2p")
        assert await one.links.send(other.peer_id, b"vertex")
        await eventually(lambda: carrier.messages == [wire.pack_frames([b"vertex"])])
        assert await one.links.request(other.peer_id, "any", b"x") == b"over libp2p: x"
        await one.stop()
