"""Certified blocks pulled across the ends of epochs by nodes that were away, whoever the validators are now."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mpisa.network.ports import PeerId
from mpisa.node import syncing
from mpisa.node.links import RANGE
from mpisa.node.node import Node
from mpisa.node.snapshots import EPOCHS, decode_epochs
from mpisa.primitives import codec
from mpisa.primitives.errors import NotFound
from tests.node.cluster import Cluster, add_follower, key_of, until
from tests.node.syncer import syncer
from tests.node.validators import Town, town

CLIENT = key_of("account 0")
OLD, NEW = range(4), range(4, 8)
READER = 9


@pytest.fixture(autouse=True)
def soon_far(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few blocks count as far behind."""
    monkeypatch.setattr(syncing, "FAR_BLOCKS", 10)


def forget_vertices(cluster: Cluster) -> None:
    """The nodes hand out no ranges of vertices any more: what is left is certified blocks."""

    async def none(peer: PeerId, body: bytes) -> bytes:
        raise NotFound("no vertices are kept here")

    for node in cluster.nodes.values():
        node.network.authorities.set_request_handler(RANGE, none)


async def grow(made: Town, count: int) -> int:
    """So many blocks more, through the last of the nodes that run; the height of the last."""
    through, height = max(made.cluster.nodes), 0
    for _ in range(count):
        nonce = made.cluster.nodes[through].pending_nonce(CLIENT.public_key.address)
        status = await made.submit(made.cluster.transfer(CLIENT, nonce), through=through)
        height = status.height or 0
    return height


def applied(node: Node) -> int:
    return int(node.metrics()["sync_blocks_applied_total"])


async def test_blocks_come_past_a_wholly_disjoint_hand_over_of_whose_old_set_nobody_is_left(tmp_path: Path) -> None:
    async with town(tmp_path, 4, 4) as made:
        await grow(made, 4)
        closing = await made.hand_over(OLD, NEW)
        height = await grow(made, 6)
        await made.cluster.stop(*OLD)
        async with syncer(made.cluster, span_blocks=3) as one:
            assert await one.syncing.gap() == height
            assert await one.syncing.is_far()
            await asyncio.wait_for(one.syncing.catch_up(), 20)
            last = one.store.height
            assert last >= max(closing, height - syncing.LEVEL_BLOCKS)
            assert one.heard.certified == list(range(1, last + 1))
            other = made.cluster.nodes[4].chain
            assert [one.store.header(at) for at in range(last + 1)] == [other.header(at) for at in range(last + 1)]
            assert one.store.epoch(1).validator_set == other.validators(height)
            assert one.sources.liars_dropped == 0


async def test_a_few_blocks_are_pulled_too_where_nobody_of_the_own_epoch_is_left(tmp_path: Path) -> None:
    """Too few to count as far behind, but no engine could get them: those it would ask are gone."""
    async with town(tmp_path, 4, 4) as made:
        await made.hand_over(OLD, NEW)
        height = await grow(made, 2)
        async with syncer(made.cluster) as one:
            assert (await one.syncing.gap(), await one.syncing.is_far()) == (height, False)
            await made.cluster.stop(*OLD)
            assert (await one.syncing.gap(), await one.syncing.is_far()) == (height, True)
            await asyncio.wait_for(one.syncing.catch_up(), 20)
            assert one.store.height >= 1
            assert not await one.syncing.is_far(), "the authorities of the next epoch are there"


async def test_a_forged_hand_over_leads_nowhere(tmp_path: Path) -> None:
    """A peer with more blocks shows a proof with another set in it: it is dropped, and the node stays where it is."""
    async with town(tmp_path, 4, 4) as made:
        height = await grow(made, 3)
        await made.hand_over(OLD, NEW)
        await grow(made, 1)
        proof = await made.cluster.nodes[4].network.authorities.request(
            PeerId(made.cluster.nodes[5].peer_id), EPOCHS, codec.encode(0), timeout=5
        )
        assert [item.header.epoch for item in decode_epochs(proof)] == [0]
        liar = made.cluster.nodes[7]
        forged = proof.replace(b"node5", b"node6")
        assert forged != proof

        async def lie(peer: PeerId, body: bytes) -> bytes:
            return forged

        liar.network.authorities.set_request_handler(EPOCHS, lie)
        await made.cluster.stop(*OLD, 4, 5, 6)
        async with syncer(made.cluster) as one:
            assert await one.syncing.gap() == 0
            assert one.sources.liars_dropped == 1
            assert PeerId(liar.peer_id) not in one.sources.usable()
            assert one.store.height == 0 < height


@pytest.mark.parametrize("is_old_set_gone", [False, True], ids=["old set serves", "old set gone"])
async def test_a_validator_that_missed_its_own_dismissal_comes_back_as_a_full_node(
    tmp_path: Path, is_old_set_gone: bool
) -> None:
    async with town(tmp_path, 4, 4) as made:
        await grow(made, 3)
        await made.cluster.stop(3)
        await made.hand_over(OLD, NEW)
        height = await grow(made, 14)
        forget_vertices(made.cluster)
        if is_old_set_gone:
            await made.cluster.stop(0, 1, 2)
        await made.cluster.start(3)
        node = made.cluster.nodes[3]
        await until(lambda: node.chain.head().height >= height, "caught up")
        await made.cluster.ready(3)
        assert applied(node) >= 10
        assert (node.status().epoch, node.status().authority, node.status().syncing) == (1, None, None)
        later = await grow(made, 2)
        await made.cluster.level(later)


async def test_a_validator_to_be_that_missed_epochs_takes_its_seat(tmp_path: Path) -> None:
    """Elected while it was away; the set changes once more, and nobody of the first is left when it comes."""
    async with town(tmp_path, 4, 5) as made:
        await grow(made, 2)
        await made.cluster.stop(8)
        closing = await made.hand_over(OLD, range(4, 9))
        await grow(made, 3)
        await made.hand_over(range(4, 5), range(0))
        height = await grow(made, 8)
        await made.cluster.stop(*OLD, 4)
        await made.cluster.start(8)
        node = made.cluster.nodes[8]
        await made.in_epoch(2, 8)
        await made.cluster.ready(8)
        assert applied(node) >= closing
        assert node.chain.head().height >= height
        assert (node.status().authority, node.status().sitting_out) == ("node9", None)
        proposed = node.metrics()["vertices_proposed_total"]
        later = await grow(made, 2)
        await made.cluster.level(later)
        assert node.metrics()["vertices_proposed_total"] > proposed
        await made.cluster.stop(*made.cluster.nodes)
        made.assert_no_double_signature()


async def test_a_full_node_with_nothing_but_genesis_becomes_ready_where_the_first_set_is_gone(tmp_path: Path) -> None:
    async with town(tmp_path, 4, 4) as made:
        await made.hand_over(OLD, NEW)
        height = await grow(made, 4)
        await made.cluster.stop(*OLD)
        add_follower(made.cluster, READER)
        await made.cluster.start(READER)
        await made.cluster.ready(READER)
        assert made.cluster.nodes[READER].chain.head().height >= height
        await made.level()


async def test_a_cut_off_validator_finds_its_way_past_a_hand_over(tmp_path: Path) -> None:
    """It never stopped: its engine of the old epoch runs on and finds nobody."""
    async with town(tmp_path, 4, 4) as made:
        await grow(made, 2)
        away = made.cluster.nodes[3]
        others = [PeerId(node.peer_id) for number, node in made.cluster.nodes.items() if number != 3]
        for other in others:
            made.cluster.hub.cut(PeerId(away.peer_id), other)
        await made.hand_over(OLD, NEW)
        height = await grow(made, 12)
        await made.cluster.stop(0, 1, 2)
        forget_vertices(made.cluster)
        assert away.chain.head().height < height - 10
        for other in others:
            made.cluster.hub.heal(PeerId(away.peer_id), other)
        await until(lambda: away.chain.head().height >= height, "caught up")
        await until(lambda: away.ready()[0], "ready")
        assert (away.status().epoch, away.status().authority) == (1, None)
