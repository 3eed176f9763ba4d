"""A bug is planted in the order: a seed finds it, is cut down, and prints what a person can follow."""

import re
from dataclasses import replace
from random import Random

import pytest

from consensus.dag.graph import Graph, Node
from consensus.dag.vertex import VertexRef
from consensus.order.linearizer import Linearizer
from tests.simulator.runner import Outcome, examine
from tests.simulator.scenario import Crash, Jump, LinkFaults, Scenario, partition
from tests.simulator.scenarios import FAST
from tests.simulator.shrink import kind, report, shrink

HEAL_MS = 2_000
SEEDS = 60


def busy_scenario(seed: int) -> Scenario:
    """More faults than it takes."""
    random = Random(seed)
    return Scenario(
        seed,
        powers=(1, 1, 1, 1),
        parameters=replace(FAST, idle_delay_ms=0),
        heal_ms=HEAL_MS,
        faults=LinkFaults(HEAL_MS, drop=0.15, duplicate=0.1, slow=0.2, slow_ms=300, max_delay_ms=20),
        cuts=partition(frozenset({random.randrange(3)}), 4, 700, 1_100),
        crashes=(Crash(random.randrange(3), 1_200, 200, 5),),
        jumps=(Jump(1, 600, 50),),
        byzantine=((3, "mixed"),),
    )


@pytest.fixture
def forgetful_linearizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that came back from its store orders the vertices of a commit by their arrival."""
    order, restore = Linearizer.order, Linearizer.restore
    restored: list[Graph] = []

    def note(self: Linearizer) -> VertexRef | None:
        restored.append(self._graph)
        return restore(self)

    def by_arrival(self: Linearizer, leader: Node) -> list[Node]:
        nodes = order(self, leader)
        if any(graph is self._graph for graph in restored):
            arrived = list(self._graph._nodes)
            nodes.sort(key=lambda node: arrived.index(node.id), reverse=True)
        return nodes

    monkeypatch.setattr(Linearizer, "restore", note)
    monkeypatch.setattr(Linearizer, "order", by_arrival)


def find() -> Outcome:
    for seed in range(SEEDS):
        outcome = examine(busy_scenario(seed))
        if outcome.failure is not None and "differ at commit" in outcome.failure:
            return outcome
    raise AssertionError(f"no seed of {SEEDS} found the planted bug")


@pytest.mark.usefixtures("forgetful_linearizer")
def test_a_planted_bug_is_found_cut_down_and_shown() -> None:
    outcome = find()
    small = shrink(outcome)
    assert small.failure is not None
    assert kind(small.failure) == kind(outcome.failure or "")
    left = small.scenario
    assert (left.cuts, left.jumps, left.byzantine) == ((), (), ())
    assert sum(share > 0 for share in (left.faults.drop, left.faults.duplicate, left.faults.slow)) <= 1
    assert len(left.crashes) == 1, "a crash is what the bug needs"
    assert examine(left).failure == small.failure, "what was cut down replays"
    text = report(small, shrunk_from=outcome.scenario)
    assert f"seed {left.seed}: {small.failure}" in text
    assert f"replay: make simulate SEED={outcome.scenario.seed}" in text
    assert "cut down to: powers [1, 1, 1, 1]" in text
    assert re.search(r"^  node \d crashes \d+ effects after \d+ ms for \d+ ms, loses", text, re.MULTILINE)
    assert re.search(r"^round +0 +1 +2 +3 +verdicts of node \d in epoch 0$", text, re.MULTILINE)
    assert re.search(r"^\d+ .*\d: commit \d+", text, re.MULTILINE)
    assert re.search(r"^commit \d+ differs:$", text, re.MULTILINE)
    assert re.search(r"^  node \d: leader [0-9a-f]{8} of round \d+ by \d", text, re.MULTILINE)
    assert re.search(r"^ +\d+ ms  node \d   block \d+ by commit \d+", text, re.MULTILINE)


def test_without_the_bug_the_same_seeds_are_sound() -> None:
    assert [examine(busy_scenario(seed)).failure for seed in range(6)] == [None] * 6


def test_failures_of_one_kind_differ_in_numbers_only() -> None:
    assert kind("nodes 0 and 1 differ at commit 7") == kind("nodes 3 and 2 differ at commit 141")
    assert kind("node 1 signed 2 vertices for round 9 of 0") != kind("nodes 0 and 1 differ at commit 7")
