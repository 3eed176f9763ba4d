"""The recent DAG of real nodes: what it shows fits what they ordered."""

from pathlib import Path

import pytest

from consensus.order.committer import Verdict
from mpisa.primitives.errors import NotFound, UsageError
from tests.node.cluster import key_of, running


async def test_the_dag_of_a_running_node_and_its_vertices(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        raw = cluster.transfer(key_of("account 0"), 0)
        status = await cluster.nodes[0].submit(raw, "certified")
        assert status.height is not None
        node = cluster.nodes[1]
        view = node.dag(200)
        assert view.names == ("node1", "node2", "node3", "node4")
        assert view.own == 1
        survey = view.survey
        vertices = [vertex for item in survey.rounds for vertex in item.vertices]
        verdicts = [slot.verdict for item in survey.rounds for slot in item.slots if slot.final]
        assert Verdict.COMMIT in verdicts
        assert Verdict.UNDECIDED not in verdicts
        loaded = next(vertex for vertex in vertices if vertex.payload_bytes)
        shown = node.vertex(loaded.id)
        assert (shown.seen.author, shown.author_name) == (loaded.author, f"node{loaded.author + 1}")
        assert (shown.transactions, shown.evidence) == (1, 0)
        assert shown.size_bytes is not None
        assert shown.size_bytes > loaded.payload_bytes
        assert node.vertex(loaded.id[:8]).seen == shown.seen
        assert len(node.dag(2).survey.rounds) == 2
        with pytest.raises(UsageError, match="at least the first 8 digits"):
            node.vertex(loaded.id[:3])
        with pytest.raises(NotFound, match="no vertex 00000000 in the recent DAG"):
            node.vertex(bytes(4))
        assert all(part.last_round > 0 for part in survey.parts)
