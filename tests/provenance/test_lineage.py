"""Lineage: a walk over inputs and superseded versions, safe on cycles, bounded in every direction."""

import pytest

from mpisa.primitives.cid import Cid
from mpisa.primitives.identifiers import Address
from mpisa.primitives.record import ArtefactKind, ExternalReference, Input, ProvenanceRecord, StoredRecord
from mpisa.provenance.lineage import (
    MAX_RECORDS_PER_NODE,
    LineageEdge,
    NodeStatus,
    walk_lineage,
)

PUBLISHER = Address(bytes(20))
EXTERNAL = ExternalReference("huggingface", "google/bert", "main")


def cid(name):
    return Cid.of(str(name).encode())


class Records:
    """A lookup over claims `name -> inputs`."""

    def __init__(self):
        self.claims = {}

    def publish(self, name, *inputs, supersedes=None, publisher=PUBLISHER):
        links = tuple(
            Input("base-model", "derived", external=item)
            if isinstance(item, ExternalReference)
            else Input("dataset", "train", cid=cid(item))
            for item in inputs
        )
        record = ProvenanceRecord(
            ArtefactKind.MODEL, cid(name), 1, inputs=links, supersedes=None if supersedes is None else cid(supersedes)
        )
        stored = StoredRecord(record, publisher, 1, 2, bytes(32), 2)
        self.claims.setdefault(cid(name), []).append(stored)
        return stored

    def __call__(self, target):
        return self.claims.get(target, ())


@pytest.fixture
def records():
    return Records()


def edge(source, target, role="dataset", relation="train"):
    target_id = target if ":" in str(target) else str(cid(target))
    return LineageEdge(str(cid(source)), target_id, role, relation, PUBLISHER)


def test_a_small_graph_with_every_kind_of_node(records):
    records.publish("model", "data", EXTERNAL, supersedes="older")
    records.publish("older", "data")
    lineage = walk_lineage(cid("model"), records)
    assert [(node.id, node.depth, node.status) for node in lineage.nodes] == [
        (str(cid("model")), 0, NodeStatus.PUBLISHED),
        (str(cid("data")), 1, NodeStatus.UNPUBLISHED),
        ("huggingface:google/bert@main", 1, NodeStatus.UNRESOLVED),
        (str(cid("older")), 1, NodeStatus.PUBLISHED),
    ]
    assert lineage.edges == (
        edge("model", "data"),
        edge("model", "huggingface:google/bert@main", "base-model", "derived"),
        edge("model", "older", "earlier-version", "supersedes"),
        edge("older", "data"),
    )
    assert lineage.truncated is False


def test_an_unknown_root_is_one_unpublished_node(records):
    lineage = walk_lineage(cid("nothing"), records)
    assert lineage.to_json() == {
        "root": str(cid("nothing")),
        "nodes": [
            {
                "id": str(cid("nothing")),
                "depth": 0,
                "status": "unpublished",
                "cid": str(cid("nothing")),
                "external": None,
                "records": [],
            }
        ],
        "edges": [],
        "truncated": False,
    }


def test_cycles_end_where_they_close(records):
    records.publish("a", "b")
    records.publish("b", "c", supersedes="a")
    records.publish("c", "a")
    lineage = walk_lineage(cid("a"), records)
    assert [node.id for node in lineage.nodes] == [str(cid(name)) for name in "abc"]
    assert len(lineage.edges) == 4
    assert lineage.truncated is False


def test_two_publishers_claims_are_both_shown(records):
    other = Address(bytes([1]) * 20)
    records.publish("model", "data")
    records.publish("model", "data", publisher=other)
    lineage = walk_lineage(cid("model"), records)
    assert [item.publisher for item in lineage.edges] == [PUBLISHER, other]
    assert len(lineage.nodes[0].records) == 2


def test_depth_is_bounded_and_a_chain_longer_than_the_recursion_limit_is_walked(records):
    for number in range(3_000):
        records.publish(number, number + 1)
    deep = walk_lineage(cid(0), records, max_depth=5_000, max_nodes=5_000)
    assert (len(deep.nodes), deep.nodes[-1].depth, deep.truncated) == (3_001, 3_000, False)
    shallow = walk_lineage(cid(0), records, max_depth=10)
    assert (len(shallow.nodes), len(shallow.edges), shallow.truncated) == (11, 10, True)
    exact = walk_lineage(cid(2_990), records, max_depth=10)
    assert (len(exact.nodes), exact.truncated) == (11, False)


def test_nodes_are_bounded(records):
    records.publish("root", *range(60))
    at_bound = walk_lineage(cid("root"), records, max_nodes=61)
    assert (len(at_bound.nodes), at_bound.truncated) == (61, False)
    beyond = walk_lineage(cid("root"), records, max_nodes=60)
    assert (len(beyond.nodes), len(beyond.edges), beyond.truncated) == (60, 59, True)


def test_edges_are_bounded(records):
    records.publish("root", *range(60))
    assert walk_lineage(cid("root"), records, max_edges=60).truncated is False
    beyond = walk_lineage(cid("root"), records, max_edges=59)
    assert (len(beyond.edges), beyond.truncated) == (59, True)


def test_a_crowd_of_publishers_is_cut(records):
    for number in range(MAX_RECORDS_PER_NODE):
        records.publish("popular", publisher=Address(bytes([number]) * 20))
    assert walk_lineage(cid("popular"), records).truncated is False
    records.publish("popular", publisher=Address(bytes([255]) * 20))
    lineage = walk_lineage(cid("popular"), records)
    assert (len(lineage.nodes[0].records), lineage.truncated) == (MAX_RECORDS_PER_NODE, True)


def test_every_edge_joins_two_nodes_whatever_the_bounds(records):
    for number in range(50):
        records.publish(number, *[(number * 7 + step) % 50 for step in range(1, 6) if step * 7 % 50])
    for bound in (1, 5, 20, 49):
        lineage = walk_lineage(cid(0), records, max_nodes=bound)
        ids = {node.id for node in lineage.nodes}
        assert len(ids) == bound
        assert all(item.source in ids and item.target in ids for item in lineage.edges)
