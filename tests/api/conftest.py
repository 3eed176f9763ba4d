"""Fixtures: fake nodes behind real servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeAlias

import aiohttp
import pytest

from mpisa.api.server import ApiServer
from tests.api.fake_node import FakeLedger, FakeNode, make_genesis

Request: TypeAlias = Callable[..., aiohttp.client._RequestContextManager]
TOKEN = "t" * 40


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MPISA_ENDPOINT", "MPISA_TOKEN", "MPISA_HOME", "MPISA_ACCOUNT", "MPISA_PASSPHRASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MPISA_RUNTIME_DIR", str(tmp_path / "runtime"))


@pytest.fixture
def ledger() -> FakeLedger:
    return FakeLedger(*make_genesis())


@pytest.fixture
def node(tmp_path: Path, ledger: FakeLedger) -> FakeNode:
    return FakeNode(tmp_path / "node1", ledger)


@pytest.fixture
async def server(node: FakeNode) -> AsyncIterator[ApiServer]:
    running = ApiServer(node, token=TOKEN)
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
async def http(server: ApiServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(server.url, headers={"Authorization": f"Bearer {TOKEN}"}) as session:
        yield session
