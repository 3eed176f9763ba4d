"""The client against a served node: reads, errors, the synchronous face, events."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from pathlib import Path

import pytest

from mpisa.api.server import ApiServer
from mpisa.node.views import EventKind
from mpisa.primitives.errors import (
    Denied,
    IntegrityError,
    MpisaError,
    NotFound,
    Rejection,
    RejectionReason,
    TimedOut,
    Unreachable,
    UsageError,
)
from mpisa.sdk.async_client import AsyncClient
from mpisa.sdk.client import Client
from mpisa.sdk.problems import error_from_problem
from tests.api.fake_node import FakeLedger, FakeNode, key_of


async def test_reads(client: AsyncClient, ledger: FakeLedger) -> None:
    assert (await client.ready()).ready
    assert (await client.node()).authority == "node1"
    assert [peer.peer_id for peer in await client.peers()] == ["12D3KooWOther"]
    head = await client.head()
    assert (head.height, head.certified) == (0, False)
    block = await client.block(0)
    assert block.hash == head.hash
    assert (await client.block(block.hash)).height == 0
    account = await client.account(f"0x{key_of('alice').address.hex()}")
    assert (account.exists, account.nonce, account.pending_nonce, account.balance) == (True, 0, 0, 10**12)
    assert (await client.genesis()).document == ledger.genesis.to_json()
    assert len((await client.validators()).validators) == 4
    assert await client.pins() == ()


async def test_not_ready_is_an_answer(client: AsyncClient, node: FakeNode) -> None:
    node.reasons = ["catching up"]
    found = await client.ready()
    assert (found.ready, found.reasons) == (False, ("catching up",))


async def test_errors_are_rebuilt(client: AsyncClient) -> None:
    with pytest.raises(NotFound, match="no chain block at height 99"):
        await client.block(99)
    with pytest.raises(Rejection) as caught:
        await client.account("0x12")
    assert caught.value.reason is RejectionReason.BAD_ADDRESS
    with pytest.raises(UsageError, match="expected 64 lower-case hex digits"):
        await client.transaction("zz")
    with pytest.raises(UsageError, match="expected an identifier"):
        await client.stat("..")


@pytest.mark.parametrize("kind", [NotFound, Denied, IntegrityError, Unreachable, TimedOut, UsageError])
def test_each_code_is_a_class(kind: type[MpisaError]) -> None:
    built = error_from_problem(500, {"code": kind.code, "detail": "what", "hint": "do"})
    assert (type(built), str(built), built.hint) == (kind, "what", "do")


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, None, NotFound),
        (401, [], Denied),
        (400, {"code": 7, "detail": 5}, UsageError),
        (500, {"code": "rejected", "reason": "no-such-reason", "detail": "x"}, MpisaError),
        (503, {"title": "busy"}, MpisaError),
    ],
)
def test_odd_problems_still_are_errors(status: int, body: object, kind: type[MpisaError]) -> None:
    assert isinstance(error_from_problem(status, body), kind)


async def test_nothing_there_is_unreachable_with_a_hint(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    async with AsyncClient(f"http://127.0.0.1:{port}", home=tmp_path) as client:
        with pytest.raises(Unreachable) as caught:
            await client.head()
    assert str(caught.value) == f"nothing answers at http://127.0.0.1:{port}"
    assert "mpisa devnet up" in (caught.value.hint or "")


async def test_silence_times_out(tmp_path: Path) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with AsyncClient(f"127.0.0.1:{port}", home=tmp_path, timeout=0.05) as client:
        with pytest.raises(TimedOut, match=r"gave no answer to GET /v1/chain/head within 0.05 s"):
            await client.head()
    listener.close()
    await listener.wait_closed()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>",
        b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{",
        b"not http at all\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops",
    ],
)
async def test_a_stranger_at_the_endpoint_is_an_error_of_ours(tmp_path: Path, answer: bytes) -> None:
    async def strange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(strange, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with AsyncClient(f"127.0.0.1:{port}", home=tmp_path, timeout=5) as client:
        with pytest.raises(MpisaError):
            await client.head()
    listener.close()
    await listener.wait_closed()


async def test_without_a_token_a_write_is_denied(server: ApiServer, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("MPISA_RUNTIME_DIR", str(tmp_path / "another"))
    (tmp_path / "file").write_bytes(b"data")
    async with AsyncClient(server.url, home=tmp_path / "nowhere") as client:
        with pytest.raises(Denied) as caught:
            await client.put(tmp_path / "file")
        assert (await client.head()).height == 0
    assert "MPISA_TOKEN" in (caught.value.hint or "")


async def test_events_arrive_and_can_be_resumed(client: AsyncClient, node: FakeNode) -> None:
    async with asyncio.timeout(5):
        stream = client.events(last_event_id=0)
        node.events.publish(EventKind.BLOCK, {"height": 1})
        first = await anext(stream)
        assert (first.id, first.kind, first.data) == (1, "block", {"height": 1})
        await stream.aclose()  # type: ignore[attr-defined]
        node.events.publish(EventKind.CERTIFIED, {"height": 1})
        stream = client.events(last_event_id=first.id)
        assert (await anext(stream)).kind == "certified"
        await stream.aclose()  # type: ignore[attr-defined]


async def test_events_end_with_an_error_when_the_node_stops(
    client: AsyncClient, node: FakeNode, server: ApiServer
) -> None:
    async with asyncio.timeout(5):
        node.events.publish(EventKind.BLOCK, {"height": 1})
        stream = client.events(last_event_id=0)
        await anext(stream)
        await server.stop()
        with pytest.raises(Unreachable):
            await anext(stream)


async def test_the_synchronous_face(server: ApiServer, node: FakeNode) -> None:
    def work() -> None:
        with Client(home=node.home, timeout=10) as client:
            assert client.endpoint == server.url
            assert client.head().height == 0
            with pytest.raises(NotFound):
                client.block(5)
            with pytest.raises(UsageError):
                client.transaction("zz")
            results: list[int] = []
            threads = [threading.Thread(target=lambda: results.append(client.head().height)) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert results == [0] * 8
        client.close()
        with pytest.raises(RuntimeError, match="this client is closed"):
            client.head()

    await asyncio.to_thread(work)
    assert not [thread for thread in threading.enumerate() if thread.name == "mpisa-client"]


async def test_synchronous_events(server: ApiServer, node: FakeNode) -> None:
    node.events.publish(EventKind.BLOCK, {"height": 1})
    node.events.publish(EventKind.BLOCK, {"height": 2})

    def work() -> list[int]:
        with Client(home=node.home, timeout=10) as client:
            stream = client.events(last_event_id=0)
            ids = [next(stream).id, next(stream).id]
            stream.close()
            return ids

    assert await asyncio.to_thread(work) == [1, 2]


def test_both_faces_have_the_same_methods() -> None:
    public = {name for name in dir(AsyncClient) if not name.startswith("_")} - {"target", "transport"}
    assert public <= {name for name in dir(Client) if not name.startswith("_")} | {"timeout"}


async def test_a_forgotten_client_is_closed(server: ApiServer, node: FakeNode) -> None:
    def work() -> None:
        client = Client(home=node.home, timeout=10)
        assert client.head().height == 0
        del client
        gc.collect()

    await asyncio.to_thread(work)
    assert not [thread for thread in threading.enumerate() if thread.name == "mpisa-client"]
