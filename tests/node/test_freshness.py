"""How far a node lags behind: by the age of what is certified here, and by blocks that others have."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from consensus.order.ranges import CertifiedBlock
from mpisa.node.applying import Applying
from mpisa.node.freshness import Freshness
from tests.node.cluster import add_follower, key_of, running, until

ALICE = key_of("account 0")
FOLLOWER = 4


def test_the_age_is_that_of_the_newest_block_when_its_certificate_came() -> None:
    now = iter((1_000, 1_450, 1_200))
    fresh = Freshness({1: 900, 2: 1_300, 3: 2_000}.__getitem__, lambda: next(now))
    assert fresh.age_ms == 0
    fresh.certified(1)
    assert fresh.age_ms == 100
    fresh.certified(2)
    fresh.certified(1)
    assert fresh.age_ms == 150
    fresh.certified(3)
    assert fresh.age_ms == 0, "a clock behind the chain's"


async def test_a_full_node_says_how_far_it_is_behind_validators_under_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its executing is held up and let go again, while validators go on."""
    honest, free = Applying.execute, asyncio.Event()
    free.set()

    async def held(self: Applying, blocks: Sequence[CertifiedBlock]) -> None:
        await free.wait()
        await honest(self, blocks)

    monkeypatch.setattr(Applying, "execute", held)
    async with running(tmp_path) as cluster:
        add_follower(cluster, FOLLOWER)
        await cluster.start(FOLLOWER)
        await cluster.ready(FOLLOWER)
        follower, loop = cluster.nodes[FOLLOWER], asyncio.get_running_loop()
        free.clear()
        since, height, nonce = loop.time(), 0, 0
        while follower.metrics()["behind_blocks"] < 1 or loop.time() < since + 0.4:
            status = await cluster.nodes[0].submit(cluster.transfer(ALICE, nonce), "certified")
            height, nonce = status.height or 0, nonce + 1
        waited_ms = (loop.time() - since) * 1000
        assert cluster.nodes[0].metrics()["behind_blocks"] == 0
        free.set()
        await until(lambda: follower.metrics()["certified_height"] >= height, "level")
        await until(lambda: follower.metrics()["behind_blocks"] == 0, "nothing left")
        ages = [cluster.nodes[number].metrics()["certified_age_ms"] for number in (0, FOLLOWER)]
        assert all(0 < age < waited_ms + 10_000 for age in ages)
