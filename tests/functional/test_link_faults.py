"""`devnet fault` and `devnet heal` on real processes: what is asked for happens, shows, and can be undone."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

import pytest

from devnet import faults, process, state
from tests.functional.harness import Devnet, until


@pytest.fixture
def whole(net: Devnet) -> Any:
    """Nothing is broken before, and nothing stays broken behind."""
    yield net
    faults.mend(net.home, [node["name"] for node in net.nodes()])
    for identity in state.read_processes(net.home).values():
        process.send_signal(identity, signal.SIGCONT)


def shown(net: Devnet, name: str) -> Any:
    return next(node for node in net.status() if node["name"] == name)


def is_alone(shown: Any) -> bool:
    return shown["state"] == "no quorum" and shown["peers"] == 0


def all_ready(net: Devnet) -> bool | None:
    return all(node["ready"] for node in net.status()) or None


def send(net: Devnet, node: int) -> Any:
    bob = next(item["address"] for item in net.manifest()["accounts"] if item["name"] == "bob")
    return net.json("wallet", "send", bob, "1", "--account", "alice", node=node)


def test_a_partitioned_validator_loses_its_quorum_and_is_level_again_after_healing(whole: Devnet) -> None:
    net = whole
    until(lambda: all_ready(net))
    told = net.json("devnet", "fault", "partition", "node4")
    assert told == {
        "fault": "partition",
        "nodes": ["node4"],
        "told": ["node4", "node1", "node2", "node3"],
        "silent": [],
    }
    cut = until(lambda: found if is_alone(found := shown(net, "node4")) else None)
    assert cut["reasons"] == ["linked to authorities with 1 of 4 stake, a quorum is needed"]
    assert sorted(cut["faults"]) == ["to node1: cut", "to node2: cut", "to node3: cut"]
    assert shown(net, "node1")["faults"] == ["to node4: cut"]
    height = send(net, 1)["height"]
    assert shown(net, "node4")["height"] < height
    assert net.json("devnet", "heal") == {
        "resumed": [],
        "started": [],
        "links": ["node1", "node2", "node3", "node4"],
        "waiting": [],
    }
    until(lambda: shown(net, "node4")["height"] >= height or None)
    until(lambda: all_ready(net))
    until(net.equal_heads)
    assert all(node["faults"] == [] for node in net.status())


def test_two_halves_certify_nothing_until_they_are_healed(whole: Devnet) -> None:
    net = whole
    until(lambda: all_ready(net))
    net.json("devnet", "fault", "partition", "node1", "node2")
    until(lambda: all(node["state"] == "no quorum" for node in net.status()) or None)
    before = max(node["height"] for node in net.status())
    words = ("wallet", "send", "bob", "1", "--account", "carol", "--json", "--endpoint", net.nodes()[0]["api"])
    waiting = subprocess.Popen(
        [sys.executable, "-m", "mpisa.cli", *words], env=net.environment(), stdout=subprocess.PIPE
    )
    until(lambda: net.json("node", "status", node=1)["mempool"] or None)
    assert [node["height"] for node in net.status()] == [before] * 4
    assert waiting.poll() is None
    assert net.json("devnet", "heal", "node1", "node2")["links"] == ["node1", "node2", "node3", "node4"]
    out, _ = waiting.communicate(timeout=60)
    assert json.loads(out)["status"] == "certified"
    assert json.loads(out)["height"] > before
    until(lambda: all_ready(net))


def test_paused_and_killed_nodes_come_back_and_slow_links_are_slow(whole: Devnet) -> None:
    net = whole
    until(lambda: all_ready(net))
    pids = {node["name"]: node["pid"] for node in net.status()}
    assert net.json("devnet", "fault", "delay", "40", "node2", "--jitter", "10", "--from", "node1")["told"] == [
        "node2",
        "node1",
    ]
    net.json("devnet", "fault", "drop", "5", "node2", "--from", "node1")
    assert shown(net, "node1")["faults"] == ["to node2: 40 ms + up to 10 ms, drops 5%"]
    net.json("devnet", "fault", "partition", "node3", "--from", "node1", "--one-way")
    assert (shown(net, "node3")["faults"], shown(net, "node4")["faults"]) == (["to node1: drops 100%"], [])
    net.json("devnet", "heal", "node3")
    assert net.json("devnet", "fault", "pause", "node4")["told"] == ["node4"]
    assert (shown(net, "node4")["state"], shown(net, "node4")["faults"]) == ("paused", ["paused"])
    assert send(net, 1)["status"] == "certified"
    refused = net.run("devnet", "fault", "delay", "10", "node4", "--json")
    assert refused.code == 6, refused.err
    assert refused.json["silent"] == ["node4"]
    assert refused.error["message"] == "delay: node4 can't be told: paused, or not running"
    net.json("devnet", "heal", "node4")
    assert net.json("devnet", "fault", "kill", "node3")["told"] == ["node3"]
    assert shown(net, "node3")["state"] == "down"
    healed = net.spawn("devnet", "heal", "--home", net.home, "--json")
    assert healed.code == 0, healed.err
    assert json.loads(healed.out)["started"] == ["node3"]
    until(lambda: all_ready(net))
    until(net.equal_heads)
    after = {node["name"]: node["pid"] for node in net.status()}
    assert {name for name in pids if pids[name] != after[name]} == {"node3"}


def test_what_is_asked_wrong_is_said(net: Devnet) -> None:
    unknown = net.run("devnet", "fault", "kill", "node9", "--json")
    assert unknown.code == 3, unknown.err
    assert unknown.error["hint"] == "its nodes: node1, node2, node3, node4"
    nothing = net.run("devnet", "fault", "partition", "node1", "node2", "node3", "node4", "--json")
    assert nothing.code == 2, nothing.err
    assert nothing.error["message"] == "no link between node1, node2, node3, node4 and the rest"
