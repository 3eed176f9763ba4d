"""`mpisa node doctor` and `node verify`: at a running node and in the home of a stopped one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mpisa.cli.main import run
from mpisa.node.home import Home, HomeLock
from tests.api.fake_node import FakeNode
from tests.cli.test_bytes import Mpisa, answer, mpisa, node
from tests.node.cluster import make_cluster

__all__ = ["mpisa", "node"]


async def test_a_node_that_is_well(mpisa: Mpisa) -> None:
    found = await answer(mpisa, "node", "doctor")
    assert (found["findings"], found["pins"], found["pins_checked"]) == ([], 1, 1)
    code, out, _ = await mpisa("doctor")
    assert (code, out.startswith(b"nothing is wrong with the node at http://")) == (0, True)


async def test_what_is_wrong_is_said_and_the_code_is_1(mpisa: Mpisa, node: FakeNode) -> None:
    node.known_facts = replace(node.known_facts, disk_free=1 << 20, connected=0, pins=9, pins_checked=4)
    code, out, err = await mpisa("node", "doctor")
    assert code == 1
    assert [line for line in out.decode().splitlines() if not line.startswith("  ")] == [
        "1 MiB are free on the disk of /home",
        "",
        "connected to no peer",
    ]
    assert "4 of 9 pins were looked through" in err
    code, out, _ = await mpisa("node", "doctor", "--json")
    assert (code, len(json.loads(out)["findings"])) == (1, 2)


async def test_a_running_node_verifies_itself(mpisa: Mpisa, node: FakeNode, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    put = await answer(mpisa, "put", "file")
    assert await answer(mpisa, "node", "verify") == {"blocks": 1, "bytes_hashed": 7, "damaged": 0, "damages": []}
    (key,) = node.blobs.store._blocks
    node.blobs.store._blocks[key] = (node.blobs.store._blocks[key][0], b"wrong")
    code, out, err = await mpisa("node", "verify")
    assert code == 5
    assert b"1 damaged" in out
    assert "1 damaged places, the first in memory at byte 0" in err
    assert put["cid"]


def test_the_home_of_a_stopped_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = make_cluster(tmp_path, 1)
    home = cluster.home(0)
    words = ["node", "doctor", "--home", str(home), "--endpoint", "http://127.0.0.1:9", "--json"]
    assert run(words) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["endpoint"] is None
    assert [finding["what"] for finding in found["findings"]] == ["the node isn't running"]
    assert found["findings"][0]["do"] == f"mpisa node run --home {home}"
    with HomeLock(Home(home)):
        assert run(words) == 1
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert finding["what"].startswith("a node runs on this home but doesn't answer")
    (home / "config.toml").write_text("nonsense = ")
    assert run(words) == 1
    assert "config.toml" in json.loads(capsys.readouterr().out)["findings"][0]["what"]
    assert run(["node", "doctor", "--home", str(tmp_path / "none"), "--endpoint", "http://127.0.0.1:9"]) == 1
    assert "there is no node in" in capsys.readouterr().out
