"""`mpisa node gc`: at a running node (a fake one that really serves) and in the home of a stopped one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from mpisa.api.server import ApiServer
from mpisa.cli.main import run
from mpisa.sdk.async_client import AsyncClient
from storage.importer import import_stream
from storage.packs import DiskBlockStore
from storage.pins import PinStore
from storage.profiles import DEFAULT_PROFILE
from tests.api.fake_node import FakeLedger, FakeNode, make_genesis
from tests.node.cluster import make_cluster

Mpisa = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
async def mpisa(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[Mpisa]:
    for name in ("MPISA_ENDPOINT", "MPISA_TOKEN", "MPISA_HOME", "MPISA_ACCOUNT", "MPISA_PASSPHRASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MPISA_RUNTIME_DIR", str(tmp_path / "runtime"))
    server = ApiServer(FakeNode(tmp_path / "served", FakeLedger(*make_genesis())))
    await server.start()

    async def call(*words: str, home: Path = tmp_path / "served") -> tuple[int, str, str]:
        options = ["--home", str(home)] + ([] if "--offline" in words else ["--endpoint", server.url])
        code = await asyncio.to_thread(run, [*words, *options])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    yield call
    await server.stop()


async def test_a_running_node_is_asked_and_its_answer_shown(mpisa: Mpisa) -> None:
    code, out, err = await mpisa("node", "gc", "--json")
    assert code == 0, err
    assert json.loads(out) == {
        "marked": 5,
        "dead_blocks": 2,
        "dead_bytes": 300,
        "packs_rewritten": 0,
        "packs_removed": 1,
        "bytes_freed": 300,
        "bytes_rewritten": 0,
        "longest_hold_ms": 1.5,
        "seconds": 0.25,
        "stopped": False,
        "dry_run": False,
        "hidden_links": 0,
        "missing": [],
    }
    code, out, _ = await mpisa("node", "gc")
    assert (code, out) == (0, "300 B freed, 1 packs gone; writes waited 1.5 ms at most\n")
    code, out, _ = await mpisa("node", "gc", "--dry-run")
    assert (code, out) == (0, "2 blocks, 300 B, would go\n")


async def test_the_client_hears_how_far_the_node_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPISA_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setattr("mpisa.sdk.collecting.LOOK_S", 0.01)
    node = FakeNode(tmp_path / "served", FakeLedger(*make_genesis()))
    heard = asyncio.Event()
    answer = node.collect

    async def slow(*, dry_run: bool = False) -> object:
        await asyncio.wait_for(heard.wait(), 30)
        return await answer(dry_run=dry_run)

    monkeypatch.setattr(node, "collect", slow)
    server = ApiServer(node)
    await server.start()
    try:
        async with AsyncClient(home=node.home) as client:
            result = await client.collect(progress=lambda state: heard.set())
            assert result.bytes_freed == 300
            state = await client.collection()
            assert (state.running, state.last) == (False, result)
    finally:
        await server.stop()


async def test_a_stopped_nodes_home_is_collected_offline(mpisa: Mpisa, tmp_path: Path) -> None:
    home = make_cluster(tmp_path / "homes", 1, 1).home(0)
    store = DiskBlockStore.open(home / "blocks")
    pins = PinStore(home / "pins")
    kept = import_stream(store, (home / "config.toml").open("rb"), DEFAULT_PROFILE)
    import_stream(store, (home / "genesis.json").open("rb"), DEFAULT_PROFILE)
    pins.pin(kept.cid)
    pins.close()
    store.close()
    code, out, err = await mpisa("node", "gc", "--offline", "--json", home=home)
    assert code == 0, err
    answer = json.loads(out)
    assert (answer["marked"], answer["dead_blocks"], answer["packs_removed"]) == (1, 1, 1)
    store = DiskBlockStore.open(home / "blocks")
    assert list(store.cids()) == [kept.cid]
    store.close()
