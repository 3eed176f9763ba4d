"""The ledger made again from the vertices: the same bytes, page by page, and whatever stops it on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mpisa.node.database import Database
from mpisa.primitives.errors import NotReady
from tests.node.cluster import Cluster, key_of, running
from tests.node.rebuilding import rebuild

ROOT = Path(__file__).parents[2]
PAGE_ROUNDS = 4
TRANSFERS = 45
ALICE = key_of("account 0")


def content(ledger: Path) -> dict[bytes, bytes]:
    database = Database(ledger, "chain store")
    try:
        return dict(database.scan(b""))
    finally:
        database.close()


def without_certificates(entries: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """A certificate is any quorum's signatures: which, each node chooses; so is up to where it has them all."""
    return {key: value for key, value in entries.items() if key[:1] != b"c" and key != b"mcomplete"}


async def made(cluster: Cluster) -> dict[bytes, bytes]:
    """A chain of a hundred rounds or so; its node stops. What its ledger held, which is moved away."""
    for nonce in range(TRANSFERS):
        await cluster.nodes[0].submit(cluster.transfer(ALICE, nonce), "certified")
    await cluster.stop(0)
    home = cluster.home(0)
    before = content(home / "ledger")
    (home / "ledger").rename(home / "ledger.aside")
    return before


def assert_rebuilt(home: Path, before: dict[bytes, bytes]) -> None:
    after = content(home / "ledger")
    assert without_certificates(after) == without_certificates(before)
    heights = [key for key in before if key[:1] == b"c"]
    rebuilt = [key for key in after if key[:1] == b"c"]
    assert set(rebuilt) <= set(heights)
    assert len(rebuilt) > len(heights) // 2, "vertices carry the signatures of all blocks but the latest"


async def test_the_same_ledger_comes_out_page_by_page(tmp_path: Path) -> None:
    async with running(tmp_path, 1) as cluster:
        before = await made(cluster)
        heights: list[int] = []

        def note(height: int) -> bool:
            heights.append(height)
            return False

        executed = rebuild(cluster.home(0), PAGE_ROUNDS, note)
        assert executed == heights[-1] > 0
        assert len(set(heights)) > 3, "more than one page"
        assert_rebuilt(cluster.home(0), before)
        await cluster.start(0)
        await cluster.ready(0)
        status = await cluster.nodes[0].submit(cluster.transfer(ALICE, TRANSFERS), "certified")
        assert status.height is not None
        assert status.height > len(heights)


async def test_a_rebuild_that_is_stopped_or_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    async with running(tmp_path, 1) as cluster:
        before = await made(cluster)
        home = cluster.home(0)
        with pytest.raises(NotReady, match="stopped while it rebuilt its ledger"):
            rebuild(home, PAGE_ROUNDS, lambda _height: True)
        reached = len([key for key in content(home / "ledger") if key[:1] == b"h"])
        assert reached > 1
        killed = 0
        for lines in (1, 2, 3):
            child = subprocess.Popen(
                [sys.executable, str(ROOT / "tests" / "node" / "rebuilding.py"), str(home), str(PAGE_ROUNDS)],
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
            )
            assert child.stdout is not None
            seen = [child.stdout.readline() for _ in range(lines)]
            child.send_signal(signal.SIGKILL)
            child.communicate(timeout=30)
            killed += child.returncode == -signal.SIGKILL and bool(seen[-1])
            headers = len([key for key in content(home / "ledger") if key[:1] == b"h"])
            assert headers >= reached
            reached = headers
        assert killed > 0
        rebuild(home, PAGE_ROUNDS, lambda _height: False)
        assert_rebuilt(home, before)
