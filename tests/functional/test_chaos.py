"""A short chaos run: nothing acknowledged is lost or doubled, whatever happens to processes, links and validators."""

from __future__ import annotations

from pathlib import Path

from tests.functional.harness import Devnet

SEED = 5
"""Kills a node, stops one and two, cuts one off, cuts the network in halves."""


def test_forty_seconds_of_faults_lose_nothing(tmp_path: Path) -> None:
    net = Devnet(tmp_path / "net", tmp_path / "run")
    page = tmp_path / "chaos.md"
    try:
        outcome = net.spawn(
            "devnet", "chaos", "--home", net.home, "--minutes", "0.6", "--seed", str(SEED), "--write", page, "--json"
        )
        assert outcome.code == 0, outcome.err
        found = outcome.json
        assert found["passed"] is True
        assert (found["seed"], found["nodes"]) == (SEED, 4)
        assert [found[name] for name in ("refused", "lost", "doubled", "forks", "halted", "astray", "stuck")] == [0] * 7
        assert found["made"] == found["acknowledged"] > 0
        assert sum(found["faults"].values()) >= 3
        assert sum(found["changes"].values()) >= 1
        assert found["epochs"] >= 1
        assert f"seed {SEED}" in page.read_text()
        assert all(node["state"] == "ready" for node in net.status())
    finally:
        assert net.run("devnet", "down").code == 0
