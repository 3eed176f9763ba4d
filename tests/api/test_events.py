"""Server-sent events: order, memory, gaps, bounds."""

from __future__ import annotations

import asyncio
import socket

import aiohttp
import pytest

from mpisa.api.event_feed import EventFeed
from mpisa.api.event_routes import encode_event
from mpisa.api.server import ApiServer
from mpisa.node.events import EventGroup, EventHub, single
from mpisa.node.views import EventKind
from mpisa.primitives.errors import IntegrityError, NotReady
from mpisa.sdk.events import MAX_EVENT_BYTES, EventParser
from mpisa.sdk.models import Event
from tests.api.fake_node import FakeNode


def event(number: int) -> Event:
    return Event(id=number, kind="block", data={"height": number})


def group(number: int) -> EventGroup:
    return single(number, EventKind.BLOCK, {"height": number})


def feed(**bounds: int) -> EventFeed:
    return EventFeed(EventHub(), **bounds)


async def test_listeners_get_events_in_order() -> None:
    source = feed()
    first, second = source.listen(None), source.listen(None)
    source.publish(group(1))
    source.publish(group(2))
    assert first.take() == second.take() == [event(1), event(2)]
    assert first.take() == []
    source.forget(first)
    assert source.listeners == 1


async def test_a_slow_listener_loses_the_oldest_and_is_told() -> None:
    source = feed(queued=3)
    slow = source.listen(None)
    for number in range(1, 6):
        source.publish(group(number))
    assert slow.take() == [Event(id=2, kind="gap", data={"lost": 2}), event(3), event(4), event(5)]


async def test_memory_answers_last_event_id() -> None:
    source = feed(remembered=3)
    for number in range(1, 6):
        source.publish(group(number))
    assert source.listen(4).take() == [event(5)]
    assert source.listen(5).take() == []
    assert source.listen(2).take() == [event(3), event(4), event(5)]
    assert source.listen(1).take() == [Event(id=2, kind="gap", data={"lost": 1}), event(3), event(4), event(5)]
    assert [item.kind for item in source.listen(99).take()] == ["gap"]
    assert source.listen(None).take() == []


async def test_listeners_are_bounded() -> None:
    source = feed(listeners=2)
    first = source.listen(None)
    source.listen(None)
    with pytest.raises(NotReady, match="2 clients listen for events already"):
        source.listen(None)
    source.forget(first)
    source.listen(None)


async def test_it_ends_with_the_node() -> None:
    hub = EventHub()
    source = EventFeed(hub)
    source.start()
    listener = source.listen(None)
    hub.publish(EventKind.BLOCK, {"height": 1})
    assert await listener.wait(5)
    hub.close()
    async with asyncio.timeout(5):
        while not listener.ended:
            listener.take()
            await listener.wait(5)
    await source.stop()


def test_what_is_written_is_read_back() -> None:
    events = [event(1), Event(id=2, kind="gap", data={"text": 'a\nb "ü"'}), Event(id=3, kind="halt")]
    stream = b"retry: 1000\n\n: beat\n\n" + b"".join(encode_event(item) for item in events)
    whole = EventParser().feed(stream)
    parser = EventParser()
    bytewise = [item for offset in range(len(stream)) for item in parser.feed(stream[offset : offset + 1])]
    assert whole == bytewise == events


@pytest.mark.parametrize("stream", [b"data:\n" * (MAX_EVENT_BYTES + 1), b"data: " + b"x" * MAX_EVENT_BYTES])
def test_an_event_that_never_ends_is_cut_off(stream: bytes) -> None:
    parser, step = EventParser(), 1 << 16
    with pytest.raises(IntegrityError, match=f"^an event is longer than {MAX_EVENT_BYTES} bytes$"):
        _ = [parser.feed(stream[offset : offset + step]) for offset in range(0, len(stream), step)]


async def test_streams_over_http(node: FakeNode, server: ApiServer) -> None:
    async with aiohttp.ClientSession(server.url) as session, asyncio.timeout(5):
        async with session.get("/v1/events") as answer:
            assert answer.content_type == "text/event-stream"
            assert await answer.content.readuntil(b"\n\n") == b"retry: 1000\n\n"
            node.events.publish(EventKind.BLOCK, {"height": 1})
            node.events.publish(EventKind.CERTIFIED, {"height": 1})
            assert await answer.content.readuntil(b"\n\n") == b'id: 1\nevent: block\ndata: {"height":1}\n\n'
        async with session.get("/v1/events", headers={"Last-Event-ID": "1"}) as answer:
            await answer.content.readuntil(b"\n\n")
            assert await answer.content.readuntil(b"\n\n") == b'id: 2\nevent: certified\ndata: {"height":1}\n\n'


async def test_clients_are_bounded_over_http(server: ApiServer) -> None:
    from mpisa.api.event_feed import MAX_LISTENERS

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(server.url, connector=connector) as session:
        streams = [await session.get("/v1/events") for _ in range(MAX_LISTENERS)]
        async with session.get("/v1/events") as answer:
            assert answer.status == 503
            assert (await answer.json(content_type=None))["code"] == "not-ready"
        for stream in streams:
            stream.close()


async def test_a_client_that_takes_nothing_loses_its_place(
    node: FakeNode, server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mpisa.api.event_routes.SEND_S", 0.05)
    loop = asyncio.get_running_loop()
    with socket.socket() as stalled:
        stalled.setblocking(False)
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        port = int(server.url.rpartition(":")[2])
        async with aiohttp.ClientSession(server.url) as session, asyncio.timeout(10):
            await loop.sock_connect(stalled, ("127.0.0.1", port))
            await loop.sock_sendall(stalled, b"GET /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            while "mpisa_event_listeners 1.0" not in await (await session.get("/metrics")).text():
                pass
            for _ in range(256):
                node.events.publish(EventKind.BLOCK, {"text": "x" * (64 << 10)})
            while "mpisa_event_listeners 0.0" not in await (await session.get("/metrics")).text():
                pass
