"""The peer port between a real server and a real client on loopback: proofs, blocks, requests, and every bound."""

import asyncio
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import aiohttp
import pytest

from mpisa.network import peer_server
from mpisa.network.peer_client import PeerClient
from mpisa.network.peer_id import HostKey
from mpisa.network.peer_server import PeerServer
from mpisa.network.ports import NetworkStats, PeerAddress
from mpisa.network.tls import client_context
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import NotFound, Rejection, RejectionReason, TimedOut, Unreachable
from tests.network.support import DictBlocks, eventually, limits

SERVER = HostKey(bytes([1]) * 32)
CLIENT = HostKey(bytes([2]) * 32)


class Port:
    def __init__(self, server, client, address, blocks, stats, port):
        self.server, self.client, self.address = server, client, address
        self.blocks, self.stats, self.port = blocks, stats, port


@asynccontextmanager
async def running(bounds=None, client_bounds=None):
    bounds = bounds or limits()
    blocks, stats = DictBlocks(), NetworkStats()
    with ThreadPoolExecutor(1) as executor:
        server = PeerServer(SERVER, blocks, executor, bounds, stats)
        port = await server.start("127.0.0.1", 0)
        client = PeerClient(CLIENT, client_bounds or limits(), NetworkStats())
        await client.start()
        try:
            yield Port(
                server, client, PeerAddress(SERVER.peer_id, (), f"https://127.0.0.1:{port}"), blocks, stats, port
            )
        finally:
            await client.stop()
            await server.stop()


@asynccontextmanager
async def stranger():
    """A client that proves nothing, but checks the server."""
    connector = aiohttp.TCPConnector(ssl=client_context(SERVER.peer_id))
    async with aiohttp.ClientSession(connector=connector) as session:
        yield session


async def test_blocks_for_peers():
    async with running() as port:
        large, small = port.blocks.add(bytes(1 << 20)), port.blocks.add(b"small")
        absent = Cid.of(b"absent")
        assert await port.client.get_block(port.address, large, timeout=5) == bytes(1 << 20)
        answer = await port.client.get_blocks(port.address, [small, absent, large], timeout=5)
        assert answer.blocks == (b"small", None, bytes(1 << 20))
        with pytest.raises(NotFound, match=f"block {absent} isn't here"):
            await port.client.get_block(port.address, absent, timeout=5)
        assert (port.stats.blocks_served, port.stats.peers_disconnected_garbage) == (3, 0)


async def test_single_blocks_for_anybody_as_a_trustless_gateway():
    async with running() as port, stranger() as session:
        cid = port.blocks.add(b"open weights")
        url = f"{port.address.peer_url}/ipfs/{cid}"
        async with session.get(url, headers={"Accept": "application/vnd.ipld.raw"}) as response:
            assert (response.status, await response.read()) == (200, b"open weights")
            assert response.headers["Content-Type"] == "application/vnd.ipld.raw"
            assert response.headers["Etag"] == f'"{cid}.raw"'
            assert response.headers["X-Content-Type-Options"] == "nosniff"
        async with session.head(url, params={"format": "raw"}) as response:
            assert (response.status, response.headers["Content-Length"]) == (200, "12")
        async with session.head(f"{port.address.peer_url}/ipfs/{Cid.of(b'no')}?format=raw") as response:
            assert response.status == 404
        async with session.get(url) as response:
            assert response.status == 400


async def test_peers_only_routes_challenge_strangers():
    async with running() as port, stranger() as session:
        for method, path in (("POST", "/mpisa/blocks"), ("POST", "/mpisa/request/x"), ("GET", "/mpisa/authority")):
            async with session.request(method, port.address.peer_url + path) as response:
                assert response.status == 401
                assert response.headers["WWW-Authenticate"].startswith("libp2p-PeerID challenge-client=")
        headers = {"Authorization": 'libp2p-PeerID bearer="AAAA"'}
        async with session.post(f"{port.address.peer_url}/mpisa/blocks", headers=headers) as response:
            assert response.status == 401


async def test_requests_carry_the_asker_and_errors_travel_back():
    async with running() as port:

        async def answer(peer, body):
            if body == b"refuse":
                raise Rejection(RejectionReason.WRONG_EPOCH, "expected 2, got 1")
            if body == b"lack":
                raise NotFound("no such vertex")
            return peer.encode() + b" said " + body

        port.server.set_request_handler("ask-me", answer)
        ask = port.client.request
        assert await ask(port.address, "ask-me", b"hi", timeout=5) == f"{CLIENT.peer_id} said hi".encode()
        with pytest.raises(Rejection, match=r"^wrong-epoch: expected 2, got 1$"):
            await ask(port.address, "ask-me", b"refuse", timeout=5)
        with pytest.raises(NotFound, match=r"^no such vertex$"):
            await ask(port.address, "ask-me", b"lack", timeout=5)
        with pytest.raises(NotFound, match="no requests of kind 'other'"):
            await ask(port.address, "other", b"", timeout=5)


async def test_a_stalling_answer_times_out_and_a_stopped_server_is_unreachable():
    async with running() as port:

        async def stall(peer, body):
            await asyncio.Event().wait()

        port.server.set_request_handler("stall", stall)
        with pytest.raises(TimedOut, match=r"didn't answer within 0.05 s"):
            await port.client.request(port.address, "stall", b"", timeout=0.05)
        await port.server.stop()
        with pytest.raises(Unreachable):
            await port.client.request(port.address, "stall", b"", timeout=5)


async def test_another_peer_at_the_address_gets_no_request():
    async with running() as port:
        wrong = PeerAddress(HostKey(bytes([3]) * 32).peer_id, (), port.address.peer_url)
        with pytest.raises(Unreachable, match=f"expected peer {wrong.peer_id}, got {SERVER.peer_id}"):
            await port.client.get_block(wrong, Cid.of(b"x"), timeout=5)
        with pytest.raises(Unreachable, match="no peer port known"):
            await port.client.get_block(PeerAddress(SERVER.peer_id), Cid.of(b"x"), timeout=5)


async def test_a_server_that_restarted_asks_for_proof_again():
    async with running() as port:
        cid = port.blocks.add(b"block")
        assert (await port.client.get_blocks(port.address, [cid, cid], timeout=5)).blocks[0] == b"block"
        port.server._auth = peer_server.ServerAuthenticator(SERVER, b"n" * 32)
        port.server._tokens.clear()
        assert (await port.client.get_blocks(port.address, [cid, cid], timeout=5)).blocks[0] == b"block"


async def test_requests_a_second_are_bounded():
    async with running(limits(requests_per_second=0.0, request_burst=3)) as port, stranger() as session:
        cid = port.blocks.add(b"block")
        statuses = []
        for _ in range(5):
            async with session.get(f"{port.address.peer_url}/ipfs/{cid}?format=raw") as response:
                statuses.append(response.status)
        assert statuses == [200, 200, 200, 429, 429]
        assert port.stats.requests_refused == 2


async def test_connections_of_one_asker_are_bounded():
    async with running(limits(connections_per_peer=2)) as port:
        cid = port.blocks.add(b"block")
        url = f"{port.address.peer_url}/ipfs/{cid}?format=raw"
        connectors = [aiohttp.TCPConnector(ssl=client_context(SERVER.peer_id)) for _ in range(3)]
        sessions = [aiohttp.ClientSession(connector=connector) for connector in connectors]
        statuses = []
        for session in sessions:
            async with session.get(url) as response:
                statuses.append(response.status)
        assert statuses == [200, 200, 429]
        await sessions[0].close()
        await eventually(lambda: len(port.server._runner.server.connections) == 1)
        async with sessions[2].get(url) as response:
            assert response.status == 200
        for session in sessions:
            await session.close()


async def test_connections_in_all_are_bounded(monkeypatch):
    monkeypatch.setattr(peer_server, "MAX_CONNECTIONS", 2)
    async with running() as port:
        cid = port.blocks.add(b"block")
        await port.client.get_block(port.address, cid, timeout=5)
        async with stranger() as session:
            with pytest.raises(aiohttp.ClientError):
                await session.get(f"{port.address.peer_url}/ipfs/{cid}?format=raw")
        assert port.stats.connections_refused >= 1


async def test_bytes_in_flight_are_bounded():
    async with running(limits(inflight_bytes_per_peer=1000)) as port:
        cid = port.blocks.add(bytes(1001))
        with pytest.raises(Unreachable, match="answered 429: over 1000 bytes in flight"):
            await port.client.get_block(port.address, cid, timeout=5)
        assert port.server._turns.is_idle


async def test_bodies_are_bounded_both_ways():
    async with running(limits(max_request_bytes=100), limits(max_answer_bytes=10, max_block_bytes=10)) as port:

        async def answer(peer, body):
            return bytes(11)

        port.server.set_request_handler("long", answer)
        with pytest.raises(Rejection, match="request body, expected at most 100 bytes"):
            await port.client.request(port.address, "long", bytes(101), timeout=5)
        with pytest.raises(Rejection, match="answer, expected at most 10 bytes, got 11"):
            await port.client.request(port.address, "long", b"", timeout=5)
        with pytest.raises(Rejection, match="answer, expected at most 10 bytes, got 11"):
            await port.client.get_block(port.address, port.blocks.add(bytes(11)), timeout=5)


async def test_garbage_ends_the_connection_and_is_counted():
    async with running() as port, stranger() as session:
        async with session.get(f"{port.address.peer_url}/ipfs/not-a-cid?format=raw") as response:
            assert response.status == 400
            assert response.headers["Connection"] == "close"
        assert port.stats.peers_disconnected_garbage == 1


async def test_a_connection_that_asks_nothing_is_closed(monkeypatch):
    monkeypatch.setattr(peer_server, "SILENT_SECONDS", 0.05)
    async with running() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port.port, ssl=client_context(SERVER.peer_id))
        async with asyncio.timeout(5):
            with pytest.raises((ConnectionError, ssl.SSLError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
        writer.close()


async def test_old_tls_is_refused():
    async with running() as port:
        context = client_context(SERVER.peer_id)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", port.port, ssl=context)


async def test_a_peer_that_takes_nothing_is_disconnected(monkeypatch):
    monkeypatch.setattr(peer_server, "SEND_SECONDS", 0.05)
    async with running() as port:
        cid = port.blocks.add(bytes(32 << 20))
        _, writer = await asyncio.open_connection(
            "127.0.0.1", port.port, ssl=client_context(SERVER.peer_id), limit=1024
        )
        writer.write(f"GET /ipfs/{cid}?format=raw HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await eventually(lambda: port.stats.requests_refused == 1)
        await eventually(lambda: port.server._turns.is_idle)
        writer.transport.abort()


async def test_questions_do_not_wait_behind_downloads():
    async with running(limits(), limits(connections_per_peer=6)) as port:
        answering = asyncio.Event()

        async def answer(peer, body):
            return b"at once"

        def slow(cid):
            asyncio.run_coroutine_threadsafe(answering.wait(), loop).result(10)
            return b"late"

        loop = asyncio.get_running_loop()
        port.server.set_request_handler("quick", answer)
        port.blocks.get = slow
        downloads = [
            asyncio.create_task(port.client.get_block(port.address, Cid.of(b"%d" % number), timeout=20))
            for number in range(8)
        ]
        await eventually(lambda: len(port.server._runner.server.connections) >= 3)
        assert await port.client.request(port.address, "quick", b"", timeout=10) == b"at once"
        answering.set()
        assert await asyncio.gather(*downloads) == [b"late"] * 8


async def test_a_token_that_was_checked_is_believed_for_a_while_and_forgotten(monkeypatch):
    monkeypatch.setattr(peer_server, "MAX_TOKENS", 1)
    async with running() as port:
        cid = port.blocks.add(b"block")
        await port.client.get_blocks(port.address, [cid], timeout=5)
        ((header, (peer, until)),) = port.server._tokens.items()
        assert (peer, until > asyncio.get_running_loop().time()) == (CLIENT.peer_id, True)
        other = PeerClient(HostKey(bytes([3]) * 32), limits(), NetworkStats())
        await other.start()
        await other.get_blocks(port.address, [cid], timeout=5)
        await other.stop()
        assert header not in port.server._tokens
        monkeypatch.setattr(peer_server, "TOKEN_SECONDS", -1.0)
        port.server._tokens.clear()
        port.server._auth = peer_server.ServerAuthenticator(SERVER, b"n" * 32)
        assert (await port.client.get_blocks(port.address, [cid], timeout=5)).blocks == (b"block",)
