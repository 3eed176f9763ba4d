"""Validators come and go on real processes: a fifth node joins by transaction and proposes, one of the four leaves."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devnet.plan import POWER_UNIT
from mpisa.sdk.client import Client
from tests.functional.harness import Devnet, until

START_S = 60.0
EPOCH_S = 120.0


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Devnet]:
    """A devnet of its own: its validators change."""
    net = Devnet(tmp_path / "net", tmp_path / "run")
    try:
        outcome = net.run("devnet", "up", "--nodes", "4", "--home", net.home, "--detach", "--json")
        assert outcome.code == 0, outcome.err
        yield net
    finally:
        if net.home.exists():
            net.run("devnet", "down")


@pytest.fixture
def fifth(fresh: Devnet, tmp_path: Path) -> Iterator[str]:
    """The API of a fifth node, which runs along without a seat."""
    home = tmp_path / "node5"
    api = fresh.nodes()[0]["api"]
    made = fresh.run("node", "init", "--home", home, "--name", "node5", "--role", "validator", "--join", api, "--json")
    assert made.code == 0, made.err
    process = subprocess.Popen(
        [sys.executable, "-m", "mpisa.cli", "node", "run", "--home", str(home), "--json"],
        env=fresh.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "http://" in line, line
        yield str(next(word for word in line.replace('"', " ").replace(",", " ").split() if word.startswith("http://")))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def node_info(api: str) -> Any:
    with Client(api) as client:
        return client.node()


def metric(api: str, name: str) -> float:
    """One figure of /metrics."""
    with urllib.request.urlopen(f"{api}/metrics", timeout=10) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(f"mpisa_{name} "):
                return float(line.split()[1])
    raise AssertionError(f"no {name} in /metrics")


def in_epoch(apis: list[str], epoch: int) -> None:
    """All these nodes are in the epoch and certified a block of it."""

    def probe() -> bool | None:
        infos = [node_info(api) for api in apis]
        return True if all(info.epoch >= epoch and info.ready for info in infos) else None

    until(probe, EPOCH_S)


def test_a_fifth_node_joins_by_a_transaction_and_proposes_and_one_leaves(
    fresh: Devnet, fifth: str, tmp_path: Path
) -> None:
    apis = [node["api"] for node in fresh.nodes()]
    until(lambda: True if node_info(fifth).ready else None, START_S)
    assert node_info(fifth).authority is None

    home, key = str(tmp_path / "node5"), str(fresh.home / "accounts" / "alice.json")
    joined = fresh.spawn("node", "join", "--home", home, "--stake", str(POWER_UNIT), "--key", key, "--json")
    assert joined.code == 0, joined.err
    in_epoch([*apis, fifth], 1)
    assert node_info(fifth).authority == "node5"
    before = metric(fifth, "vertices_proposed_total")
    small = tmp_path / "small"
    small.write_text("published through the fifth node")
    published = fresh.spawn("publish", str(small), "--home", home, "--key", key, "--json")
    assert published.code == 0, published.err
    assert published.json["certified"] is True
    assert metric(fifth, "vertices_proposed_total") > before

    left = fresh.spawn("node", "leave", "--home", fresh.nodes()[3]["home"], "--json")
    assert left.code == 0, left.err
    in_epoch([*apis, fifth], 2)
    assert node_info(apis[3]).authority is None
    assert metric(apis[3], "epoch") == 2.0
    small.write_text("published through the one that left")
    assert fresh.json("publish", small, "--account", "alice", node=4)["certified"] is True

    with Client(fifth) as client:
        assert len(client.validators().validators) == 4
    verified = fresh.run("chain", "verify", "--genesis", fresh.home / "genesis.json", "--json", "--endpoint", fifth)
    assert verified.code == 0, verified.err
