"""Killed nodes, second nodes, damaged stores, wrong settings, lying servers: clear errors, and nothing lost."""

from __future__ import annotations

import http.client
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from devnet import process, state
from tests.functional.harness import Devnet, until


def kill(net: Devnet, name: str) -> None:
    identity = state.read_processes(net.home)[name]
    os.kill(identity.pid, signal.SIGKILL)
    assert process.wait_gone([identity], 10) == ()


def test_a_killed_validator_rejoins_with_the_same_state(net: Devnet, tmp_path: Path) -> None:
    before = {node["name"]: node["pid"] for node in net.nodes()}
    kill(net, "node2")
    small = tmp_path / "small"
    small.write_text("published while node2 was dead")
    assert net.json("publish", small, node=1)["certified"] is True
    after = {node["name"]: node["pid"] for node in net.json("devnet", "up", "--detach")["nodes"]}
    assert {name for name in before if before[name] != after[name]} == {"node2"}
    until(net.equal_heads)
    assert net.run("get", net.json("blob", "cid", small)["cid"], "-o", "-", node=2).out == small.read_bytes()


def test_a_second_node_on_the_same_home_says_so(net: Devnet) -> None:
    node = net.nodes()[0]
    outcome = net.spawn("node", "run", "--home", node["home"], "--json")
    assert outcome.code == 1, outcome.err
    assert outcome.out == b""
    assert outcome.error["code"] == "store-busy"
    assert f"(pid {node['pid']})" in outcome.error["message"]
    assert net.json("chain", "head", node=1)["height"] >= 0


def test_down_ends_exactly_those_processes_and_up_continues_the_chain(net: Devnet) -> None:
    head = net.json("chain", "head")
    identities = state.read_processes(net.home)
    stopped = net.json("devnet", "down")
    assert stopped == {"ended": ["node1", "node2", "node3", "node4"], "killed": [], "already_down": []}
    assert not any(process.is_alive(identity) for identity in identities.values())
    unreachable = net.run("chain", "head", "--json")
    assert unreachable.code == 6, unreachable.err
    net.json("devnet", "up", "--detach")
    assert net.json("chain", "head")["height"] >= head["height"]
    assert net.json("chain", "block", str(head["height"]), node=3)["state_root"] == head["state_root"]


def test_a_wrong_setting_is_named_and_nothing_is_left_running(net: Devnet) -> None:
    net.json("devnet", "down")
    config = Path(net.nodes()[2]["home"]) / "config.toml"
    good = config.read_text()
    config.write_text(good.replace("[limits]\n", '[limits]\nmempool_bites = "many"\n'))
    try:
        outcome = net.run("devnet", "up", "--detach")
        assert outcome.code == 6
        assert f"{config}: limits.mempool_bites: unknown key" in outcome.err
        assert not any(node["running"] for node in net.status())
    finally:
        config.write_text(good)
    net.json("devnet", "up", "--detach")


def test_a_damaged_store_is_refused_and_repaired(net: Devnet, published: Any, tmp_path: Path) -> None:
    net.json("blob", "pin", published["cid"], node=3)  # a second copy, to fetch what will be lost
    net.json("devnet", "down")
    home = net.nodes()[0]["home"]
    packs = sorted((Path(home) / "blocks" / "packs").iterdir())
    with packs[0].open("r+b") as stream:
        stream.seek(4096)
        original = stream.read(64)
        stream.seek(4096)
        stream.write(bytes(byte ^ 0xFF for byte in original))
    verified = net.run("node", "verify", "--home", home, "--json")
    assert verified.code == 5, verified.err
    assert verified.error["hint"] == f"mpisa node repair --home {home}"
    repaired = net.run("node", "repair", "--home", home, "--json")
    assert repaired.code == 0, repaired.err
    assert repaired.json["lost"]
    assert net.run("node", "verify", "--home", home).code == 0
    net.json("devnet", "up", "--detach")
    assert net.run("get", published["cid"], "-o", tmp_path / "copy", node=1).code == 0


class _Tampering(http.server.BaseHTTPRequestHandler):
    """Passes everything on to the node, but spoils the bytes of /ipfs answers."""

    target = ""
    mode = ""

    def do_GET(self) -> None:
        address = urlsplit(self.target)
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        connection.request("GET", self.path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        if self.path.startswith("/ipfs/"):
            middle = len(body) // 2
            flipped = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
            body = body[:middle] if self.mode == "truncate" else flipped
        self.send_response(answer.status)
        for name in ("Content-Type", "ETag"):
            if answer.headers[name]:
                self.send_header(name, answer.headers[name])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        return


@contextmanager
def tampering(target: str, mode: str) -> Iterator[str]:
    handler = type("Handler", (_Tampering,), {"target": target, "mode": mode})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("mode", ["truncate", "flip"])
def test_a_tampered_download_is_an_integrity_error_and_writes_nothing(
    net: Devnet, published: Any, tmp_path: Path, mode: str
) -> None:
    with tampering(net.nodes()[0]["api"], mode) as url:
        outcome = net.run("get", published["cid"], "-o", tmp_path / "copy", "--endpoint", url, "--json")
    assert outcome.code == 5, outcome.err
    assert outcome.error["code"] == "integrity"
    assert list(tmp_path.iterdir()) == []


def test_a_follower_joins_reads_and_verifies(net: Devnet, published: Any, tmp_path: Path) -> None:
    home = tmp_path / "reader"
    api = net.nodes()[0]["api"]
    made = net.json("node", "init", "--home", home, "--name", "reader", "--join", api)
    assert set(made) == {"name", "role", "home", "peer_id", "config"}
    assert net.run("node", "init", "--home", home, "--join", api).code == 2
    reader = subprocess.Popen(
        [sys.executable, "-m", "mpisa.cli", "node", "run", "--home", str(home), "--json", "--quiet"],
        env=net.environment(),
        stdout=subprocess.PIPE,
    )
    try:
        assert reader.stdout is not None
        url = json.loads(reader.stdout.readline())["api"]
        until(lambda: net.json("node", "status", "--endpoint", url)["ready"] or None)
        height = published["height"]
        until(lambda: net.json("chain", "head", "--endpoint", url)["height"] >= height or None)
        got = net.json("get", published["cid"], "-o", tmp_path / "copy", "--endpoint", url)
        assert got["cid"] == published["cid"]
        assert net.json("verify", published["cid"], "--endpoint", url)["valid"] is True
        assert net.json("chain", "verify", "--endpoint", url)["valid"] is True
    finally:
        reader.terminate()
        reader.communicate(timeout=30)
    assert reader.returncode == 0


def test_a_node_started_by_hand_is_part_of_the_devnet(net: Devnet) -> None:
    kill(net, "node4")
    by_hand = subprocess.Popen(
        [sys.executable, "-m", "mpisa.cli", "node", "run", "--home", net.nodes()[3]["home"], "--quiet"],
        env=net.environment(),
        stdout=subprocess.PIPE,
    )
    try:
        assert by_hand.stdout is not None
        by_hand.stdout.readline()
        pids = [node["pid"] for node in net.json("devnet", "up", "--detach")["nodes"]]
        assert pids[3] == by_hand.pid
    finally:
        by_hand.terminate()
        by_hand.communicate(timeout=30)


def test_ctrl_c_stops_a_foreground_devnet(net: Devnet, tmp_path: Path) -> None:
    home = tmp_path / "single"
    foreground = subprocess.Popen(
        [sys.executable, "-m", "mpisa.cli", "devnet", "up", "--nodes", "1", "--home", str(home), "--json"],
        env=net.environment(),
        stdout=subprocess.PIPE,
    )
    assert foreground.stdout is not None
    (node,) = json.loads(foreground.stdout.readline())["nodes"]
    identities = [*state.read_processes(home).values()]
    assert [identity.pid for identity in identities] == [node["pid"]]
    foreground.send_signal(signal.SIGINT)
    foreground.communicate(timeout=60)
    assert foreground.returncode == 130
    assert not any(process.is_alive(identity) for identity in identities)
