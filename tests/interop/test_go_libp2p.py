"""The real go-libp2p, as the daemon p2pd, connects and pings both ways, and takes part in our DHT."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mpisa.network.ports import PeerId
from mpisa.primitives.cid import Cid
from tests.interop.conftest import Ours
from tests.interop.others import GoLibp2p
from tests.network.support import DEADLINE, eventually

PING = "/ipfs/ping/1.0.0"


@pytest.fixture
async def go(tmp_path: Path) -> AsyncIterator[GoLibp2p]:
    other = GoLibp2p(tmp_path)
    try:
        await other.start()
        yield other
    finally:
        other.stop()


async def ping(ours: Ours, peer: PeerId, data: bytes) -> bytes:
    """On a stream that we open to the peer."""
    engine = ours.network._host._engine

    async def exchange() -> bytes:
        stream: Any = await engine._open(peer, PING)
        await stream.write(data)
        answer = b""
        while len(answer) < len(data):
            answer += await stream.read(len(data) - len(answer))
        await stream.close()
        return answer

    answer: bytes = await ours.network._host._portal.call(exchange)
    return answer


async def test_go_dials_us_and_pings_both_ways(ours: Ours, go: GoLibp2p):
    await go.connect(ours.network.address)
    await eventually(lambda: ours.network._peering._linked == {go.address.peer_id})
    assert await go.echo(ours.network.peer_id, PING, b"g" * 32) == b"g" * 32
    assert await ping(ours, go.address.peer_id, b"m" * 32) == b"m" * 32


async def test_we_dial_go_and_ping_both_ways(ours: Ours, go: GoLibp2p):
    await ours.network._peering.reach(go.address, DEADLINE)
    assert await ping(ours, go.address.peer_id, b"m" * 32) == b"m" * 32
    assert await go.echo(ours.network.peer_id, PING, b"g" * 32) == b"g" * 32


async def test_go_takes_part_in_our_dht(ours: Ours, go: GoLibp2p):
    await go.connect(ours.network.address)
    own, theirs = Cid.of(b"held by us"), Cid.of(b"held by go")
    await ours.network.provide(own)
    assert ours.network.stats.provides == 1
    assert await go.provider(own.to_bytes()) == ours.network.peer_id
    await go.provide(theirs.to_bytes())
    assert await ours.network.find_providers(theirs) == [go.address]
