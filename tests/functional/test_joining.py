"""A new full node joins a devnet under load by a snapshot, where no node keeps a block of the genesis set any more."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mpisa.cli.bench.machine import counters
from mpisa.sdk import publishing
from mpisa.sdk.async_client import AsyncClient
from mpisa.sdk.client import Client
from tests.functional.harness import Devnet, until


@pytest.fixture
def forgetful(tmp_path: Path) -> Iterator[Devnet]:
    """Four validators that keep 64 blocks and offer a snapshot each 32."""
    net = Devnet(tmp_path / "net", tmp_path / "run")
    try:
        assert net.run("devnet", "up", "--nodes", "4", "--home", net.home, "--detach").code == 0
        assert net.run("devnet", "down").code == 0
        for number in range(1, 5):
            file = net.home / f"node{number}" / "config.toml"
            text = file.read_text().replace("blocks = 100000", "blocks = 64")
            file.write_text(text.replace("snapshot_blocks = 10000", "snapshot_blocks = 32"))
        assert net.run("devnet", "up", "--home", net.home, "--detach").code == 0
        yield net
    finally:
        assert net.run("devnet", "down").code == 0


async def load(net: Devnet, stop: threading.Event) -> None:
    """Transfers of each account, one after the other."""
    apis, accounts = [node["api"] for node in net.nodes()], net.manifest()["accounts"]

    async def one(at: int) -> None:
        async with AsyncClient(apis[at % len(apis)], home=net.home) as client:
            signer = publishing.load_signer(Path(accounts[at]["key_file"]), net.home, None)
            while not stop.is_set():
                await publishing.transact(client, signer, (publishing.transfer(accounts[0]["address"], 1),), 60.0)

    await asyncio.gather(*(one(at) for at in range(1, len(accounts))))


def close_an_epoch(net: Devnet) -> int:
    """One validator changes its keys; the height up to which the genesis set certified."""
    assert net.spawn("node", "rotate-keys", "--home", net.nodes()[0]["home"], "--json").code == 0

    def probe() -> int | None:
        with Client(net.nodes()[1]["api"]) as client:
            found = client.staking()
        return found.height if found.epoch == 1 else None

    return until(probe, 60)


def test_a_follower_joins_a_devnet_under_load_by_a_snapshot_of_a_later_epoch(forgetful: Devnet, tmp_path: Path) -> None:
    net, stop = forgetful, threading.Event()
    working = threading.Thread(target=lambda: asyncio.run(load(net, stop)))
    working.start()
    apis = [node["api"] for node in net.nodes()]
    reader = None
    try:
        until(lambda: max(counters(api).get("certified_height", 0) for api in apis) > 8 or None, 60)
        closed = close_an_epoch(net)
        until(lambda: all(counters(api).get("kept_from_height", 0) > closed for api in apis) or None, 110)
        home = tmp_path / "reader"
        assert net.run("node", "init", "--home", home, "--join", apis[0], "--api-port", "0").code == 0
        with (tmp_path / "reader.log").open("wb") as log:
            reader = subprocess.Popen(
                [sys.executable, "-m", "mpisa.cli", "node", "run", "--home", str(home), "--json"],
                env=net.environment() | {"MPISA_HOME": str(home)},
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert reader.stdout is not None
        line = reader.stdout.readline().decode()
        api = line.partition('"api": "')[2].partition('"')[0] or line.partition('"api":"')[2].partition('"')[0]
        target = counters(apis[0])["certified_height"]
        until(lambda: counters(api).get("certified_height", 0) >= target or None, 60)
        seen = counters(api)
        assert seen["kept_from_height"] > closed, "no block of the first epoch was ever here"
        until(lambda: counters(api).get("epoch") == 1 or None, 30)
        assert seen["sync_blocks_applied_total"] < seen["certified_height"]
        later = counters(apis[1])["certified_height"] + 5
        until(lambda: counters(api).get("certified_height", 0) >= later or None, 60)
        until(lambda: counters(api).get("behind_blocks", 99) <= 8 or None, 30)
        assert 0 < counters(api)["certified_age_ms"] < 30_000
    finally:
        stop.set()
        working.join(90)
        if reader is not None:
            reader.terminate()
            assert reader.wait(30) == 0
            assert reader.stdout is not None
            reader.stdout.close()
