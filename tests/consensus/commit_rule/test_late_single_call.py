"""One late call over many rounds gives what a call after every vertex gave."""

from consensus.dag.graph import Graph
from consensus.order.committer import Committer, Decision, Slot
from consensus.order.leader import RoundRobin
from consensus.replay import read_case
from tests.consensus.dags import Dag


def mixed() -> Dag:
    dag = Dag(leaders_per_round=2).layer(1, [0, 2, 3]).layers(2, 4).layer(5, without={1: [3], 2: [3]})
    return dag.layer(6, [0, 1, 2]).layer(7, [0, 1, 2]).layers(8, 12)


def test_ten_rounds_at_once() -> None:
    read = read_case(mixed().case())
    graph = Graph(read.committee)
    eager = Committer(read.committee, RoundRobin(4, 2), graph)
    seen: list[Decision] = []
    after: Slot | None = None
    for vertex in read.vertices:
        eager.add(graph.add(vertex))
        for decision in eager.decide(after):
            seen.append(decision)
            after = decision.slot
    late = Committer(read.committee, RoundRobin(4, 2), graph)
    for vertex in read.vertices:
        node = graph.get(vertex.id)
        assert node is not None
        late.add(node)
    assert late.decide(None) == seen
    assert late.decide(None) == seen, "deciding changes nothing"
    assert len(seen) >= 18
