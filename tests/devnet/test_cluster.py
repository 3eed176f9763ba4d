"""Starting and stopping: which processes run, which are ended, what is left, with nodes that only answer /readyz."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devnet import process, state

STAND_IN = Path(__file__).with_name("stand_in.py")
ROOT = Path(__file__).parents[2]


def run(home: Path, action: str, *mode: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(STAND_IN), str(home), action, *mode],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def alive(home: Path) -> set[str]:
    return {name for name, identity in state.read_processes(home).items() if process.is_alive(identity)}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "net"
    yield place
    for identity in state.read_processes(place).values() if place.exists() else ():
        process.send_signal(identity, signal.SIGKILL)


def test_up_starts_all_and_down_ends_exactly_those(home: Path) -> None:
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        answer = run(home, "up")
        assert answer["started"] == ["node1", "node2", "node3", "node4"]
        assert alive(home) == set(answer["started"])
        pids = [node["pid"] for node in answer["manifest"]["nodes"]]
        assert len(set(pids)) == 4
        assert json.loads((home / "devnet.json").read_text()) == answer["manifest"]
        assert run(home, "down") == {
            "ended": ["node1", "node2", "node3", "node4"],
            "killed": [],
            "already_down": [],
        }
        assert not any(process.identify(pid) for pid in pids)
        assert bystander.poll() is None
        assert run(home, "down")["already_down"] == ["node1", "node2", "node3", "node4"]
    finally:
        bystander.kill()
        bystander.wait()


def test_up_again_starts_only_what_is_missing(home: Path) -> None:
    before = {node["name"]: node for node in run(home, "up")["manifest"]["nodes"]}
    victim = state.read_processes(home)["node3"]
    process.send_signal(victim, signal.SIGKILL)
    assert process.wait_gone([victim], 10) == ()
    answer = run(home, "up")
    assert answer["started"] == ["node3"]
    assert sorted(answer["running"]) == ["node1", "node2", "node4"]
    after = {node["name"]: node for node in answer["manifest"]["nodes"]}
    assert {name for name in before if before[name]["pid"] != after[name]["pid"]} == {"node3"}
    assert after["node3"]["api"] == before["node3"]["api"]
    again = run(home, "up")
    assert again["started"] == []
    assert again["manifest"] == answer["manifest"]


def test_a_node_that_dies_while_starting_is_shown_with_its_log_and_nothing_stays(home: Path) -> None:
    answer = run(home, "up", "dies")
    assert answer["code"] == "not-ready"
    assert answer["error"].startswith("node2 ended while starting; nothing that was started is left running.")
    assert "RuntimeError: the store of node2 is damaged" in answer["error"]
    assert alive(home) == set()


def test_a_node_that_never_gets_ready_is_an_error_and_nothing_stays(home: Path) -> None:
    answer = run(home, "up", "deaf")
    assert answer["error"].startswith("node2 was not ready in time: does not answer yet;")
    assert alive(home) == set()


def test_down_kills_what_ignores_the_request(home: Path) -> None:
    run(home, "up", "stubborn")
    assert run(home, "down") == {"ended": ["node1", "node3", "node4"], "killed": ["node2"], "already_down": []}
    assert alive(home) == set()


def test_a_pid_given_to_another_process_is_not_ours(home: Path) -> None:
    run(home, "up")
    run(home, "down")
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        stale = process.ProcessIdentity(bystander.pid, 1, process.boot_id())
        state.write_processes(home, {"node1": stale})
        assert run(home, "down")["ended"] == []
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_reset_empties_stores_and_keeps_keys_addresses_and_accounts(home: Path) -> None:
    made = run(home, "up")["manifest"]
    (home / "node1" / "ledger").mkdir()
    (home / "node1" / "ledger" / "data").write_text("chain")
    genesis = (home / "genesis.json").read_bytes()
    assert run(home, "reset") == {"emptied": ["node1", "node2", "node3", "node4"]}
    assert alive(home) == set()
    assert not (home / "node1" / "ledger").exists()
    assert (home / "genesis.json").read_bytes() == genesis
    again = run(home, "up")["manifest"]
    assert [node["peer_id"] for node in again["nodes"]] == [node["peer_id"] for node in made["nodes"]]
    assert again["accounts"] == made["accounts"]


def test_reset_of_a_foreign_directory_deletes_nothing(tmp_path: Path) -> None:
    kept = tmp_path / "node1" / "ledger" / "precious"
    kept.parent.mkdir(parents=True)
    kept.write_text("precious")
    answer = run(tmp_path, "reset")
    assert answer["error"] == f"{tmp_path} is not the home of a devnet: nothing was deleted"
    assert kept.read_text() == "precious"


def test_up_refuses_a_home_with_foreign_nodes(tmp_path: Path) -> None:
    (tmp_path / "node1").mkdir()
    assert run(tmp_path, "up")["error"] == f"{tmp_path} already holds node1, which no devnet made"


def test_an_interrupted_making_is_done_again(home: Path) -> None:
    home.mkdir()
    state.write_processes(home, {})
    (home / "node1").mkdir()
    (home / "node1" / "half").write_text("x")
    assert run(home, "up")["started"] == ["node1", "node2", "node3", "node4"]
    assert not (home / "node1" / "half").exists()


def test_two_commands_on_one_home_exclude_each_other(home: Path) -> None:
    run(home, "up")
    with state.locked(home):
        answer = run(home, "down")
    assert answer["code"] == "store-busy"
    assert len(alive(home)) == 4


def test_key_files_are_private(home: Path) -> None:
    run(home, "up")
    keys = [*home.glob("accounts/*.json"), *home.glob("node*/keys/*.json")]
    assert len(keys) == 3 + 4 * 3
    assert {oct(key.stat().st_mode & 0o777) for key in keys} == {"0o600"}


@pytest.mark.parametrize(
    ("ours", "another"),
    [('"version": ', '"version": 9'), ('"consensus": {}', '"consensus": {"evidence_epochs": 4}')],
)
def test_a_devnet_of_another_version_says_what_to_type_and_reset_makes_room(
    home: Path, ours: str, another: str
) -> None:
    made = run(home, "up")["manifest"]
    run(home, "down")
    genesis = home / "genesis.json"
    genesis.write_text(genesis.read_text().replace(ours, another))
    answer = run(home, "up")
    assert answer["error"].startswith(f"the devnet in {home} was made by another version of mpisa: {genesis}: ")
    assert answer["hint"] == (
        f"make it anew, with the same accounts: mpisa devnet reset --home {home}, then mpisa devnet up --home {home}"
    )
    assert run(home, "reset") == {"emptied": ["node1", "node2", "node3", "node4"]}
    again = run(home, "up")
    assert again["started"] == ["node1", "node2", "node3", "node4"]
    assert again["manifest"]["accounts"] == made["accounts"]
