"""Fixtures: clients of fake nodes behind real servers, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mpisa.api.server import ApiServer
from mpisa.sdk.async_client import AsyncClient
from tests.api.fake_node import FakeLedger, FakeNode, make_genesis


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MPISA_ENDPOINT", "MPISA_TOKEN", "MPISA_HOME", "MPISA_ACCOUNT", "MPISA_PASSPHRASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MPISA_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def ledger() -> FakeLedger:
    return FakeLedger(*make_genesis())


@pytest.fixture
def node(tmp_path: Path, ledger: FakeLedger) -> FakeNode:
    return FakeNode(tmp_path / "node1", ledger)


@pytest.fixture
async def server(node: FakeNode) -> AsyncIterator[ApiServer]:
    running = ApiServer(node)
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
async def client(node: FakeNode, server: ApiServer) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(home=node.home, timeout=20) as opened:
        yield opened
