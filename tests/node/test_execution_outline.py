"""The outline that the ledger keeps with a block names every vertex that its commits ordered."""

from __future__ import annotations

from pathlib import Path

from consensus.order.ranges import decode_outline
from mpisa.node.chain_store import ChainStore
from mpisa.node.consensus_store import ConsensusStore
from mpisa.primitives.genesis_state import genesis_header, genesis_state
from tests.node.cluster import key_of, running

ALICE = key_of("account 0")


async def test_the_outlines_of_a_chain_name_each_of_its_vertices_once(tmp_path: Path) -> None:
    async with running(tmp_path, 4) as cluster:
        for nonce in range(6):
            await cluster.nodes[0].submit(cluster.transfer(ALICE, nonce), "certified")
        await cluster.stop(0)
        genesis = cluster.genesis
        store = ChainStore.open(
            cluster.home(0) / "ledger", genesis_header(genesis), genesis_state(genesis), genesis.hash
        )
        vertices = ConsensusStore(cluster.home(0) / "consensus")
        try:
            seen: list[bytes] = []
            for height in range(1, store.height + 1):
                header, raw = store.header(height), store.outline(height)
                assert raw is not None
                outline = decode_outline(raw, 10_000)
                assert len(outline.commits) == header.last_commit - header.first_commit + 1
                assert all(vertices.vertex(0, *ref) is not None for ref in outline.refs())
                seen += [ref.id for ref in outline.refs()]
            assert len(seen) == len(set(seen)) > store.height
        finally:
            store.close()
            vertices.close()
