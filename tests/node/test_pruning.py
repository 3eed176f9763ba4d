"""What is outside of the window goes, what a later step needs stays, and asking for what went says from where on it is
kept."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from consensus.order.ranges import decode_answer
from consensus.parameters import Parameters
from mpisa.config import HistoryConfig
from mpisa.network.ports import PeerId
from mpisa.node.pruning import Pruning
from mpisa.node.serving import BLOCKS, RangeRequest
from mpisa.primitives.errors import NotFound
from tests.node.cluster import Cluster, key_of, running
from tests.node.syncer import syncer

ALICE = key_of("account 0")
PARAMETERS = Parameters()


async def grow(cluster: Cluster, count: int, first: int = 0) -> int:
    height = 0
    for nonce in range(first, first + count):
        status = await cluster.nodes[0].submit(cluster.transfer(ALICE, nonce), "certified")
        height = status.height or 0
    return height


async def test_old_blocks_and_vertices_go_and_the_window_stays(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        await grow(cluster, 60)
        async with syncer(cluster) as one:
            await one.syncing.catch_up()
            top = one.store.height
            first_vertices = len(list(one.vertices.all_from(0, 0)))
            hashes = {height: one.store.hash_at(height) for height in range(top + 1)}
            receipt = one.store.receipts(3)[0]
            assert one.store.place(receipt.tx_hash) is not None
            with ThreadPoolExecutor(1) as writer:
                pruning = Pruning(
                    HistoryConfig(blocks=10), one.store, one.vertices, PARAMETERS, writer, lambda: one.store.height
                )
                await pruning.prune()
                assert pruning.blocks_pruned == top - 10
            lowest = top - 10 + 1
            assert one.store.lowest_height == lowest
            for read in (one.store.header, one.store.transactions, one.store.receipts, one.store.raw_header):
                with pytest.raises(NotFound) as caught:
                    read(lowest - 1)
                assert caught.value.message == (
                    f"chain block {lowest - 1} isn't kept here, only those from height {lowest} on"
                )
                assert read(lowest)
            assert one.store.certificate(lowest - 1) is None
            with pytest.raises(NotFound, match="there is no chain block with hash"):
                one.store.height_of(hashes[3])
            assert one.store.place(receipt.tx_hash) is None
            assert one.store.hash_at(0) == hashes[0], "genesis stays"
            assert {height: one.store.hash_at(height) for height in range(lowest, top + 1)} == {
                height: hashes[height] for height in range(lowest, top + 1)
            }
            assert 0 < len(list(one.vertices.all_from(0, 0))) < first_vertices
            again = one.find()
            assert again.position.header.height == top, "what the next block builds on is still here"
        async with syncer(cluster) as one:
            assert one.store.lowest_height == lowest
            await one.syncing.catch_up()
            assert one.store.height >= top


async def test_who_asks_for_pruned_blocks_hears_from_where_on_they_are_kept(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        await grow(cluster, 30)
        async with syncer(cluster) as one:
            await one.syncing.catch_up()
        node = cluster.nodes[1]
        store, pruning = node._running.store, node._running.behind.pruning
        pruning._history = HistoryConfig(blocks=12)
        await pruning.prune()
        async with syncer(cluster, "late") as late:
            raw = await late.sources.ask(PeerId(node.peer_id), BLOCKS, RangeRequest(2, 0, 4, 0).encode())
            answer = decode_answer(raw, 4, PARAMETERS)
            assert (answer.lowest, answer.blocks) == (store.lowest_height, ())
            assert answer.lowest > 2
            await late.syncing.catch_up()
            assert late.store.height >= 30 - 8, "the others keep all"
        with pytest.raises(NotFound) as caught:
            node.chain.block(2)
        assert caught.value.message == f"chain block 2 isn't kept here, only those from height {store.lowest_height} on"
        assert caught.value.exit_code == 3


async def test_an_archive_keeps_all_and_nothing_goes_that_is_needed(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        await grow(cluster, 30)
        async with syncer(cluster) as one:
            await one.syncing.catch_up()
            with ThreadPoolExecutor(1) as writer:

                async def prune(history: HistoryConfig, needed_from: int, slack: int = 0) -> int:
                    await Pruning(history, one.store, one.vertices, PARAMETERS, writer, lambda: needed_from).prune(
                        slack
                    )
                    return one.store.lowest_height

                assert await prune(HistoryConfig(archive=True, blocks=5), 1 << 40) == 1
                assert await prune(HistoryConfig(blocks=5), 1) == 1
                assert await prune(HistoryConfig(blocks=5), 8, slack=10) == 1
                assert await prune(HistoryConfig(blocks=5), 8) == 8
