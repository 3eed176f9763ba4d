"""Real nodes that fell far behind come back by certified blocks, and propose again only once they are level."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from consensus.dag.vertex import ExecutionSignature
from consensus.events import ExecutionSignatureReceived
from mpisa.network.ports import PeerId
from mpisa.node import syncing
from mpisa.node.keeping_up import MAX_SIGNATURES, SignatureShelf
from mpisa.node.links import RANGE
from mpisa.primitives.errors import NotFound
from mpisa.primitives.identifiers import AuthorityIndex, Epoch, Height
from tests.node.cluster import Cluster, add_follower, key_of, running, until

ALICE = key_of("account 0")


@pytest.fixture
def soon_far(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few blocks count as far behind."""
    monkeypatch.setattr(syncing, "FAR_BLOCKS", 10)


def forget_vertices(cluster: Cluster) -> None:
    """The nodes hand out no ranges of vertices any more: what is left is certified blocks."""

    async def none(peer: PeerId, body: bytes) -> bytes:
        raise NotFound("no vertices are kept here")

    for node in cluster.nodes.values():
        node.network.authorities.set_request_handler(RANGE, none)


async def grow(cluster: Cluster, count: int, first: int = 0) -> int:
    height = 0
    for nonce in range(first, first + count):
        status = await cluster.nodes[0].submit(cluster.transfer(ALICE, nonce), "certified")
        height = status.height or 0
    return height


async def test_a_node_far_behind_comes_back_by_certified_blocks_and_proposes_again(
    tmp_path: Path, soon_far: None
) -> None:
    async with running(tmp_path) as cluster:
        await grow(cluster, 2)
        await cluster.stop(3)
        height = await grow(cluster, 24, first=2)
        forget_vertices(cluster)
        await cluster.start(3)
        await until(lambda: cluster.nodes[3].metrics()["sync_blocks_applied_total"] >= 10, "blocks applied")
        await cluster.ready(3)
        await cluster.level(height)
        node = cluster.nodes[3]
        proposed = node.metrics()["vertices_proposed_total"]
        status = await node.submit(cluster.transfer(ALICE, 26), "certified")
        assert status.height is not None
        await cluster.level(status.height)
        assert node.metrics()["vertices_proposed_total"] > proposed
        assert node.status().syncing is None


async def test_a_cut_off_node_comes_back_without_a_restart(tmp_path: Path, soon_far: None) -> None:
    async with running(tmp_path) as cluster:
        await grow(cluster, 2)
        away = cluster.nodes[3]
        others = [node.peer_id for number, node in cluster.nodes.items() if number != 3]
        for other in others:
            cluster.hub.cut(away.peer_id, other)  # type: ignore[arg-type]
        height = await grow(cluster, 24, first=2)
        assert away.chain.head().height < height - 10
        forget_vertices(cluster)
        for other in others:
            cluster.hub.heal(away.peer_id, other)  # type: ignore[arg-type]
        await until(lambda: away.metrics()["sync_blocks_applied_total"] >= 10, "blocks applied")
        await cluster.level(height)
        await cluster.ready(3)
        status = await away.submit(cluster.transfer(ALICE, 26), "certified")
        assert status.height is not None


async def test_a_lost_disk_far_behind_sits_the_epoch_out_and_serves_as_a_full_node(
    tmp_path: Path, soon_far: None
) -> None:
    async with running(tmp_path) as cluster:
        await grow(cluster, 16)
        await cluster.stop(3)
        home = cluster.home(3)
        for name in ("ledger", "consensus"):
            (home / name).rename(home / f"{name}.gone")
        height = await grow(cluster, 8, first=16)
        await cluster.start(3)
        await cluster.level(height)
        node = cluster.nodes[3]
        await until(lambda: node.status().sitting_out is not None, "sitting out")
        assert node.metrics()["vertices_proposed_total"] == 0
        await cluster.ready(3)
        status = await node.submit(cluster.transfer(ALICE, 24), "certified")
        assert status.height is not None
        await cluster.level(status.height)


async def test_a_follower_applies_blocks_as_they_are_certified(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        await grow(cluster, 4)
        add_follower(cluster, 4)
        await cluster.start(4)
        await cluster.ready(4)
        height = await grow(cluster, 4, first=4)
        await cluster.level(height)
        metrics = cluster.nodes[4].metrics()
        assert metrics["sync_blocks_applied_total"] >= height
        assert cluster.nodes[4].status().commit_index >= height
        assert cluster.nodes[4].status().round > 0


def test_the_shelf_keeps_the_newest_signatures_of_each_authority() -> None:
    shelf = SignatureShelf()
    for height in range(1, MAX_SIGNATURES + 10):
        for who in (0, 1):
            signature = ExecutionSignature(Height(height), bytes(32), AuthorityIndex(who), bytes(64))
            shelf.take_in(ExecutionSignatureReceived(AuthorityIndex(who), signature, Epoch(2)))
            shelf.take_in(ExecutionSignatureReceived(AuthorityIndex(1 - who), signature, Epoch(2)))
    events = shelf.events_above(MAX_SIGNATURES)
    assert [(event.sender, event.signature.height) for event in events] == [  # type: ignore[union-attr]
        (who, height) for who in (0, 1) for height in range(MAX_SIGNATURES + 1, MAX_SIGNATURES + 10)
    ]
    assert len(shelf.events_above(0)) == 2 * MAX_SIGNATURES


async def test_nothing_waits_for_ever_when_a_far_node_is_stopped(tmp_path: Path, soon_far: None) -> None:
    async with running(tmp_path) as cluster:
        await cluster.stop(3)
        await grow(cluster, 20)
        await cluster.start(3)
        await asyncio.wait_for(cluster.stop(3), 10)
