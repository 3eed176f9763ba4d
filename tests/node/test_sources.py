"""Whom a node asks: claims of those who are there, whoever passed by before."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from mpisa.network.memory import MemoryHub, MemoryNetwork
from mpisa.network.ports import PeerId
from mpisa.node.sources import MAX_NAMED, Bounds, Sources
from tests.network.support import DictBlocks, config


async def test_passers_by_can_not_keep_out_the_claim_of_a_peer_that_stays() -> None:
    hub = MemoryHub()
    one, two = (MemoryNetwork(hub, config(number), DictBlocks()) for number in (1, 2))
    async with one, two:
        with ThreadPoolExecutor(1) as checker:
            sources = Sources(one, checker)
            for number in range(MAX_NAMED):
                sources.claim(PeerId(f"passer-by {number}"), Bounds(1_000, 1))
            assert len(sources.claims) == MAX_NAMED
            sources.claim(two.peer_id, Bounds(7, 1))
    assert sources.claims == {two.peer_id: Bounds(7, 1)}
