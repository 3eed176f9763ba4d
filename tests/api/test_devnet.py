"""The routes that break links: only a devnet's node has them, and only the token opens them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import msgspec
import pytest

from mpisa.api.server import ApiServer
from mpisa.node.views import LinkFault
from tests.api.fake_node import FakeLedger, FakeNode, make_genesis

ROUTE = "/v1/devnet/faults"
TOKEN = "a" * 32


@pytest.fixture
async def devnet_node(tmp_path: Path) -> AsyncIterator[tuple[FakeNode, aiohttp.ClientSession]]:
    node = FakeNode(tmp_path / "node", FakeLedger(*make_genesis()))
    node.config = replace(node.config, devnet=True)
    server = ApiServer(node, token=TOKEN)
    url = await server.start()
    async with aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {TOKEN}"}) as session:
        yield node, session
    await server.stop()


async def test_faults_are_set_whole_shown_and_documented(
    devnet_node: tuple[FakeNode, aiohttp.ClientSession],
) -> None:
    node, session = devnet_node
    wanted = {"peer_id": "12D3KooWA", "cut": True, "delay_ms": 5, "jitter_ms": 6, "drop_percent": 7}
    answer = await session.put(ROUTE, json={"faults": [wanted, {"peer_id": "12D3KooWB", "drop_percent": 100}]})
    assert answer.status == 200
    assert node.faults == (LinkFault("12D3KooWA", True, 5, 6, 7), LinkFault("12D3KooWB", drop_percent=100))
    shown = await (await session.get(ROUTE)).json()
    assert shown["faults"][0] == wanted
    assert (await session.put(ROUTE, json={"faults": []})).status == 200
    assert (await (await session.get(ROUTE)).json()) == {"faults": []}
    described = msgspec.json.decode(await (await session.get("/openapi.json")).read())
    assert set(described["paths"][ROUTE]) == {"get", "put"}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"faults": [{"peer_id": "A", "drop_percent": 101}]}, "drop_percent: expected 0 to 100, got 101"),
        ({"faults": [{"peer_id": "A", "delay_ms": -1}]}, "delay_ms: expected 0 to 60000, got -1"),
        ({"faults": [{"peer_id": "A", "jitter_ms": 60_001}]}, "jitter_ms: expected 0 to 60000, got 60001"),
        ({"faults": [{"peer_id": str(number)} for number in range(257)]}, "faults: expected at most 256, got 257"),
    ],
)
async def test_what_is_out_of_bounds_is_refused(
    devnet_node: tuple[FakeNode, aiohttp.ClientSession], body: object, message: str
) -> None:
    node, session = devnet_node
    answer = await session.put(ROUTE, json=body)
    assert answer.status == 400
    assert message in (await answer.json())["detail"]
    assert node.faults == ()


async def test_without_the_token_nothing_is_broken(devnet_node: tuple[FakeNode, aiohttp.ClientSession]) -> None:
    node, session = devnet_node
    answer = await session.put(ROUTE, json={"faults": []}, headers={"Authorization": "Bearer no"})
    assert answer.status == 401
    assert node.faults == ()


async def test_a_node_of_no_devnet_has_no_such_route(server: ApiServer, http: aiohttp.ClientSession) -> None:
    assert (await http.get(ROUTE)).status == 404
    assert (await http.put(ROUTE, json={"faults": []})).status == 404
