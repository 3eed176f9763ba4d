"""Who is served when many ask: turns by asker, bounds in all, and the peer port under a crowd."""

import asyncio
import time
from contextlib import suppress

import pytest

from mpisa.network import serving
from mpisa.network.peer_client import PeerClient
from mpisa.network.peer_id import HostKey
from mpisa.network.ports import NetworkStats, PeerAddress
from mpisa.network.serving import TooMany, Turns
from mpisa.network.tls import client_context
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import MpisaError, Rejection
from tests.network.support import eventually, limits
from tests.network.test_peer_port import SERVER, running, stranger

MIB = 1 << 20


class Line:
    """Askers that take a turn and keep it until they are let go."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.order: list[str] = []
        self.go: list[asyncio.Event] = []
        self.tasks: list[asyncio.Task[None]] = []

    def ask(self, asker: str, size: int = 1) -> asyncio.Task[None]:
        self.tasks.append(asyncio.create_task(self._take(asker, size)))
        return self.tasks[-1]

    async def _take(self, asker: str, size: int) -> None:
        async with self.turns.turn(asker, size):
            self.order.append(asker)
            self.go.append(asyncio.Event())
            await self.go[-1].wait()

    async def end(self) -> None:
        served = 0
        while not all(task.done() for task in self.tasks):
            for event in self.go[served:]:
                event.set()
                served += 1
            await asyncio.sleep(0)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_modest_asker_comes_next_however_many_wait_before_it(monkeypatch):
    monkeypatch.setattr(serving, "TURN_SECONDS", 60)
    line = Line(Turns(limits(answers_at_once=2)))
    for _ in range(30):
        line.ask("greedy")
    await settled()
    line.ask("modest")
    await settled()
    assert line.order == ["greedy", "greedy"]
    line.go[0].set()
    await settled()
    line.go[1].set()
    await settled()
    assert line.order[2:4] in (["greedy", "modest"], ["modest", "greedy"])
    await line.end()
    assert len(line.order) == 31
    assert line.turns.is_idle


async def test_a_slow_answer_gives_its_place_to_the_next(monkeypatch):
    monkeypatch.setattr(serving, "TURN_SECONDS", 0.01)
    line = Line(Turns(limits(answers_at_once=1)))
    line.ask("slow")
    line.ask("next")
    await eventually(lambda: line.order == ["slow", "next"])
    await line.end()
    assert line.turns.is_idle


async def test_nobody_holds_more_than_is_left_for_others():
    line = Line(Turns(limits(answers_at_once=1000, inflight_bytes=16 * MIB, inflight_bytes_per_peer=64 * MIB)))
    for asker in ("one", "two"):
        for _ in range(16):
            line.ask(asker, MIB)
    await settled()
    assert (line.order.count("one"), line.order.count("two")) == (8, 4)
    line.ask("modest", MIB)
    await settled()
    assert line.order[-1] == "modest"
    await line.end()
    assert line.turns.is_idle


async def test_what_waits_is_bounded_and_gives_up(monkeypatch):
    monkeypatch.setattr(serving, "MAX_WAITING", 3)
    monkeypatch.setattr(serving, "WAIT_SECONDS", 0.05)
    line = Line(Turns(limits(answers_at_once=1)))
    for _ in range(4):
        line.ask("greedy")
    await settled()
    with pytest.raises(TooMany, match="over 3 questions waiting"):
        await line.ask("greedy")
    outcomes = await asyncio.gather(*line.tasks[1:4], return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["no turn within 0 s"] * 3
    await line.end()
    assert line.turns.is_idle


async def test_who_goes_while_waiting_leaves_nothing_behind():
    line = Line(Turns(limits(answers_at_once=1)))
    line.ask("first")
    await settled()
    waiting = [line.ask(f"peer {number}", MIB) for number in range(5)]
    await settled()
    waiting[0].cancel()
    await settled()
    assert list(line.turns._waiting) == [f"peer {number}" for number in range(1, 5)]
    line.go[0].set()
    waiting[1].cancel()
    await settled()
    await line.end()
    assert line.order == ["first", "peer 2", "peer 3", "peer 4"]
    assert line.turns.is_idle


async def test_a_modest_peer_is_served_between_greedy_ones():
    """Four peers ask for 12 blocks each at once; a fifth asks for one and gets it after a few of theirs."""
    async with running(limits(answers_at_once=2)) as port:
        reads, get = 0, port.blocks.get

        def slow(cid):
            nonlocal reads
            reads += 1
            time.sleep(0.002)
            return get(cid)

        port.blocks.get = slow
        large = [port.blocks.add(bytes([number]) * 256 * 1024) for number in range(12)]
        small = port.blocks.add(b"small")
        clients = [PeerClient(HostKey(bytes([number + 10]) * 32), limits(), NetworkStats()) for number in range(5)]
        for client in clients:
            await client.start()
        try:
            greedy = [
                asyncio.create_task(client.get_block(port.address, cid, timeout=20))
                for client in clients[:4]
                for cid in large
            ]
            modest = clients[4]
            await modest.get_blocks(port.address, [small], timeout=20)  # it is connected and has proved itself
            await eventually(lambda: len(port.server._turns._waiting) == 4)
            before = reads
            assert await modest.get_block(port.address, small, timeout=20) == b"small"
            assert reads - before <= 16, f"{reads - before} blocks were read before"
            await asyncio.gather(*greedy)
            assert port.server._turns.is_idle
        finally:
            for client in clients:
                await client.stop()


async def everything(reader: asyncio.StreamReader) -> bytes:
    """What comes until the other side closes, or breaks off since it didn't read all that was sent."""
    found = bytearray()
    with suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            found += data
    return bytes(found)


async def test_ten_thousand_wants_at_once():
    """In one message they are refused; as so many requests on one connection they end at the rate limit, and another
    peer is served meanwhile.
    """
    async with running(limits(requests_per_second=0.0, request_burst=300)) as port, stranger() as session:
        cid = port.blocks.add(b"wanted")
        with pytest.raises(Rejection, match="wants, expected at most 64 CIDs, got 89999 bytes"):
            await port.client.get_blocks(port.address, [Cid.parse("bafkqaaa")] * 10_000, timeout=10)
        reader, writer = await asyncio.open_connection("127.0.0.1", port.port, ssl=client_context(SERVER.peer_id))
        question = f"GET /ipfs/{cid}?format=raw HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        writer.write(question * 10_000)
        assert await port.client.get_block(port.address, cid, timeout=10) == b"wanted"
        async with asyncio.timeout(20):
            answers = await everything(reader)
        assert answers.count(b"HTTP/1.1 200") <= 300, "a reset may take the last of them along"
        assert 298 <= port.stats.blocks_served <= 301, "requests for proof count as well"
        writer.close()
        await eventually(lambda: port.server._turns.is_idle)
        async with session.get(f"{port.address.peer_url}/ipfs/{cid}?format=raw") as response:
            assert response.status == 429, "the same address"


async def test_bodies_without_end_and_bodies_that_trickle_are_given_up():
    """A provider that announces no length, more than was asked for, or sends byte by byte, is left at its bound."""

    ended = asyncio.Event()

    async def serve(first: bytes, trickle: bytes) -> tuple[asyncio.Server, int]:
        async def answer(reader, writer):
            ended.clear()
            try:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(first)
                while True:
                    writer.write(trickle)
                    await writer.drain()
                    await asyncio.sleep(0.01)
            except (ConnectionError, asyncio.IncompleteReadError):
                writer.close()
                ended.set()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        return server, server.sockets[0].getsockname()[1]

    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    claims_much = b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n"
    claims_right = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
    for first, trickle, message in (
        (chunked, b"1\r\nx\r\n", "answer without Content-Length"),
        (claims_much, b"x", "answer, expected at most 2097152 bytes, got 999999999999"),
        (claims_right, b"x", "didn't answer within"),
    ):
        server, port = await serve(first, trickle)
        client = PeerClient(HostKey(bytes([9]) * 32), limits(), NetworkStats())
        await client.start()
        client._state(SERVER.peer_id).authorization = "known"
        client._state(SERVER.peer_id).context = False  # this provider speaks no TLS
        address = PeerAddress(SERVER.peer_id, (), f"http://127.0.0.1:{port}")
        with pytest.raises(MpisaError, match=message):
            await client.get_block(address, Cid.of(b"x"), timeout=0.3)
        await client.stop()
        await ended.wait()
        server.close()
