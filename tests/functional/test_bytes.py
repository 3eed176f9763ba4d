"""kill -9 of `mpisa put` and `mpisa get` at random places: the same command goes on, and nothing half-done is taken
for whole."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mpisa.sdk.client import Client
from tests.functional.harness import Devnet

MIB = 1 << 20
KILLS = 5
SEED = int(os.environ.get("MPISA_TEST_SEED", "0")) or random.randrange(1 << 32)


_NEVER = threading.Event()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Random, so that no node has any of it: large files and small ones."""
    root = tmp_path / "model"
    (root / "small").mkdir(parents=True)
    for number in range(8):
        (root / f"{number}.bin").write_bytes(os.urandom(6 * MIB + number))
    for number in range(300):
        (root / "small" / f"{number}").write_bytes(os.urandom(1000 + number))
    return root


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def killed(net: Devnet, words: list[str], is_time: Callable[[], bool]) -> bool:
    """Run a command and kill it when it is time; whether it was killed before it ended."""
    child = subprocess.Popen(
        [sys.executable, "-m", "mpisa.cli", *words, "--home", str(net.home), "--json"],
        env=net.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        while child.poll() is None and not is_time():
            _NEVER.wait(0.003)
    finally:
        child.kill()
    out, err = child.communicate()
    assert child.returncode in (0, -9), err.decode()
    assert child.returncode == 0 or not out  # nothing was announced as done
    return child.returncode == -9


def test_a_put_that_is_killed_goes_on(net: Devnet, tree: Path) -> None:
    print(f"seed {SEED}")
    dice = random.Random(SEED)
    total = sum(map(len, files(tree).values()))
    kills = 0
    with Client(home=net.home, timeout=60) as client:
        start = client.node().bytes_held
        for _ in range(KILLS):
            mark = client.node().bytes_held + dice.randrange(total // 6)
            kills += killed(net, ["put", str(tree)], lambda mark=mark: client.node().bytes_held > mark)
        assert kills >= 1
        held = client.node().bytes_held - start
        result = net.json("put", tree)
        assert result["cid"] == net.json("blob", "cid", tree)["cid"]
        assert result["sent"] <= total + 2 * MIB - min(held, total) + total // 20
        assert net.json("blob", "verify", result["cid"])["missing"] == 0
    print(f"{kills} kills, {held} of {total} bytes were there before the last put, which sent {result['sent']}")


def test_a_get_that_is_killed_goes_on(net: Devnet, tree: Path, tmp_path: Path) -> None:
    print(f"seed {SEED}")
    dice = random.Random(SEED)
    cid = net.json("put", tree)["cid"]
    total = sum(map(len, files(tree).values()))
    part = tmp_path / f".copy.mpisa-part-{cid[-12:]}"
    kills = 0
    for _ in range(KILLS):
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)  # one that was too fast to be killed
        mark = size_of(part) + dice.randrange(total // 6)
        kills += killed(net, ["get", cid, "-o", str(tmp_path / "copy")], lambda mark=mark: size_of(part) > mark)
        assert (tmp_path / "copy").exists() is not part.exists()
    assert kills >= 1
    if part.exists():
        left = size_of(part)
        result = net.json("get", cid, "-o", tmp_path / "copy")
        assert result["reused"] >= min(left, total) - 3 * MIB  # a leaf that was cut, and what a buffer held
        print(f"{kills} kills, {left} of {total} bytes were here, {result['reused']} were used")
    assert files(tmp_path / "copy") == files(tree)
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []


def size_of(part: Path) -> int:
    """Bytes that lie in a part."""
    total = 0
    for path in part.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # it was renamed meanwhile
            continue
    return total
