"""Validators come, change and go on real processes: a fifth node joins, one rotates its keys, one leaves."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from devnet.plan import POWER_UNIT
from tests.functional.harness import Devnet, until


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devnet]:
    """A devnet for these tests alone, since they change its validator set."""
    top = tmp_path_factory.mktemp("validators")
    net = Devnet(top / "net", top / "run")
    try:
        outcome = net.run("devnet", "up", "--nodes", "4", "--home", net.home, "--detach", "--json")
        assert outcome.code == 0, outcome.err
        yield net
    finally:
        if net.home.exists():
            assert net.run("devnet", "down").code == 0


@contextmanager
def running(net: Devnet, home: Path) -> Iterator[None]:
    """The node of a home as a process of its own, beside the devnet's."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mpisa.cli", "node", "run", "--home", str(home)],
        env=net.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: True if is_ready(net, home) else None)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def is_ready(net: Devnet, home: Path) -> bool:
    outcome = net.run("node", "status", "--home", home, "--json")
    return outcome.code == 0 and bool(outcome.json["ready"])


def powers(net: Devnet) -> dict[str, tuple[int, int, str]]:
    """Each validator's power now and next, and what the epoch's end does to it."""
    found = net.json("chain", "validators")["staking"]["validators"]
    return {item["name"]: (item["power"], item["next_power"], item["change"]) for item in found}


def becomes(net: Devnet, expected: dict[str, tuple[int, int, str]]) -> None:
    """Wait for these powers; transfers meanwhile save waiting for the heartbeat's block."""

    def probe() -> bool | None:
        if powers(net) == expected:
            return True
        net.json("wallet", "send", "bob", "1")
        return None

    until(probe)


def operate(net: Devnet, home: Path, *words: str | Path) -> Any:
    return net.json("node", *words, "--home", home)


def test_a_node_joins_grows_and_leaves_while_another_rotates_its_keys(own: Devnet, tmp_path: Path) -> None:
    four = {f"node{number}": (1, 1, "none") for number in (1, 2, 3, 4)}
    assert powers(own) == four
    home, alice = tmp_path / "node5", own.home / "accounts" / "alice.json"
    own.json("node", "init", "--home", home, "--name", "node5", "--role", "validator", "--join", own.nodes()[0]["api"])
    with running(own, home):
        joined = operate(own, home, "join", "--stake", str(2 * POWER_UNIT), "--key", alice)
        assert joined["status"] == "certified"
        becomes(own, four | {"node5": (2, 2, "none")})
        until(lambda: True if own.json("node", "status", "--home", home)["authority"] == "node5" else None)
        assert own.json("node", "status", "--home", home)["sitting_out"] is None

        first = Path(own.nodes()[0]["home"])
        before = own.json("chain", "validators")["staking"]["validators"]
        operate(own, first, "rotate-keys")
        operate(own, home, "bond", str(POWER_UNIT), "--key", alice)
        becomes(own, four | {"node5": (3, 3, "none")})
        after = own.json("chain", "validators")["staking"]["validators"]
        old, new = ({item["name"]: item["address"] for item in found} for found in (before, after))
        assert {name for name in old if old[name] != new[name]} == {"node1"}
        until(lambda: True if own.json("node", "status", node=1)["authority"] == "node1" else None)
        assert own.json("wallet", "send", "bob", "1", node=1)["status"] == "certified"
        until(lambda: True if list(first.glob("keys/former-certificate-1.json")) else None)

        operate(own, home, "leave", "--key", alice)
        becomes(own, four)
        stake = own.json("chain", "stake", "alice")
        assert (stake["validator"], [item["amount"] for item in stake["returns"]]) == (None, [3 * POWER_UNIT])
        until(lambda: True if own.json("node", "status", "--home", home)["authority"] is None else None)
    assert own.json("wallet", "send", "bob", "1", node=2)["status"] == "certified"
    assert own.json("chain", "verify")["valid"] is True


def test_a_validator_that_rotated_its_keys_starts_again_and_its_operator_still_signs(own: Devnet) -> None:
    first = Path(own.nodes()[0]["home"])
    own.json("devnet", "down")
    own.json("devnet", "up", "--detach")
    assert own.json("node", "status", node=1)["authority"] == "node1"
    operator = own.json("chain", "validators")["staking"]["validators"]
    (named,) = [item["operator"] for item in operator if item["name"] == "node1"]
    own.json("wallet", "send", named, str(POWER_UNIT), "--account", "alice")
    operate(own, first, "bond", str(POWER_UNIT))
    becomes(own, {f"node{number}": (2 if number == 1 else 1,) * 2 + ("none",) for number in (1, 2, 3, 4)})
