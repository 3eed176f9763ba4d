"""Rounds open by a quorum of authors that may be built on."""

from consensus.dag.graph import Graph
from consensus.dag.threshold_clock import ThresholdClock
from tests.consensus.forge import Forge


def test_a_round_opens_when_a_quorum_below_is_held() -> None:
    forge = Forge()
    graph = Graph(forge.committee)
    clock = ThresholdClock(forge.committee, graph, 5)
    opened = []
    for vertex in forge.layer(1, range(4)):
        graph.add(vertex)
        opened.append(clock.observe(1, set(), 10 + vertex.author))
    assert opened == [False, False, True, False]
    assert (clock.round, clock.opened_ms) == (2, 12)


def test_twins_count_once() -> None:
    forge = Forge()
    graph = Graph(forge.committee)
    clock = ThresholdClock(forge.committee, graph, 0)
    for mark in range(4):
        graph.add(forge.vertex(1, 1, payload=bytes([mark]), keep=False))
        assert not clock.observe(1, set(), 1)


def test_an_equivocator_counts_only_where_another_built_on_it() -> None:
    forge = Forge()
    graph = Graph(forge.committee)
    clock = ThresholdClock(forge.committee, graph, 0)
    for vertex in forge.layer(1, (1, 2, 3)):
        graph.add(vertex)
    assert not clock.observe(1, {1}, 1)
    graph.vouch(graph.add(forge.vertex(2, 2)))
    assert clock.observe(2, {1}, 2), "author 2 built on it before the evidence came"
    assert clock.round == 2


def test_it_jumps_to_the_highest_round() -> None:
    forge = Forge()
    graph = Graph(forge.committee)
    clock = ThresholdClock(forge.committee, graph, 0)
    for number in (1, 2, 3):
        for vertex in forge.layer(number, (1, 2, 3)):
            graph.add(vertex)
    assert clock.observe(3, set(), 7)
    assert clock.round == 4
    assert not clock.observe(1, set(), 8)


def test_evidence_closes_a_round_that_an_equivocator_opened() -> None:
    forge = Forge()
    graph = Graph(forge.committee)
    clock = ThresholdClock(forge.committee, graph, 0)
    for vertex in forge.layer(1, (1, 2, 3)):
        graph.add(vertex)
        clock.observe(1, set(), 1)
    assert clock.round == 2
    clock.reconsider(set())
    assert clock.round == 2
    clock.reconsider({1})
    assert clock.round == 1, "a vertex of round 1 can be made again, and only two of three may be built on"
    graph.vouch(graph.add(forge.vertex(2, 2)))
    assert clock.observe(2, {1}, 2)
    clock.reconsider({1})
    assert clock.round == 2, "author 2 stands in round 2, so the others must be able to reach it"


def test_nothing_below_what_was_pruned_is_reconsidered() -> None:
    forge = Forge()
    graph = Graph(forge.committee)
    clock = ThresholdClock(forge.committee, graph, 0)
    for vertex in forge.layer(1, (1, 2, 3)):
        graph.add(vertex)
        clock.observe(1, set(), 1)
    graph.prune(1)
    clock.reconsider({1})
    assert clock.round == 2
