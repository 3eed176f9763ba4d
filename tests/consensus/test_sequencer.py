"""Commits under a schedule that changes: any order of arrival, one late call and any restart give the same ones."""

from dataclasses import replace
from random import Random

import pytest

from consensus.dag.graph import Graph
from consensus.dag.vertex import Vertex
from consensus.events import CommittedSubDag
from consensus.order.checkpoint import Checkpoint, decode_cursor
from consensus.order.conduct import Record
from consensus.order.rota import Rota
from consensus.order.sequencer import Sequencer, Step
from consensus.parameters import Parameters
from tests.consensus.forge import Forge
from tests.simulator.world import ANCHOR, CHAIN_HASH

ROUNDS = 120
PARAMETERS = Parameters(suspension_skips=2, suspension_commits=24, gc_depth=12)


def sequencer(forge: Forge, graph: Graph, at: Checkpoint | None = None) -> Sequencer:
    checkpoint = Forge().start.checkpoint if at is None else at
    rota = Rota(PARAMETERS, forge.committee, CHAIN_HASH, ANCHOR, checkpoint)
    return Sequencer(PARAMETERS, forge.committee, rota, graph, checkpoint)


def history(forge: Forge, seed: int) -> list[Vertex]:
    """Rounds in which authorities fall silent for a while and come back, one or two at a time for a committee of 7."""
    random = Random(seed)
    count = len(forge.committee)
    vertices: list[Vertex] = []
    silent: set[int] = set()
    for number in range(1, ROUNDS + 1):
        if number % 15 == 1:
            silent = set(random.sample(range(count), random.randint(0, (count - 1) // 3)))
        for author in range(count):
            if author in silent:
                continue
            known = [item for item in range(count) if number == 1 or (number - 1, item) in forge.made]
            own = next(r for r in range(number - 1, -1, -1) if r == 0 or (r, author) in forge.made)
            parents = [forge.ref(own, author), *(forge.ref(number - 1, item) for item in known if item != author)]
            vertices.append(forge.vertex(number, author, parents, payload=b"x" if number % 3 == 0 else b""))
    return vertices


def eager(forge: Forge, vertices: list[Vertex]) -> tuple[list[Step], list[frozenset[int]]]:
    graph = Graph(forge.committee)
    line = sequencer(forge, graph)
    steps: list[Step] = []
    changes = [line.rota.suspended]
    for vertex in vertices:
        line.add(graph.add(vertex))
        steps += line.advance()
        if line.rota.suspended != changes[-1]:
            changes.append(line.rota.suspended)
    return steps, changes


def commits_of(steps: list[Step]) -> list[CommittedSubDag]:
    return [step.commit for step in steps if step.commit is not None]


@pytest.mark.parametrize("powers", [(1, 1, 1, 1), (1,) * 7, (3, 2, 2, 3)])
@pytest.mark.parametrize("seed", range(3))
def test_arrival_and_number_of_calls_don_t_matter(seed: int, powers: tuple[int, ...]) -> None:
    forge = Forge(powers)
    vertices = history(forge, seed)
    steps, changes = eager(forge, vertices)
    assert len(changes) > 2, "the schedule changed and changed back"
    assert all(3 * forge.committee.stake_of(out) < forge.committee.total for out in changes)
    graph = Graph(forge.committee)
    late = sequencer(forge, graph)
    for vertex in vertices:
        late.add(graph.add(vertex))
    assert late.advance() == steps
    assert late.advance() == []


@pytest.mark.parametrize("seed", range(3))
def test_every_cursor_leads_to_the_same_commits(seed: int) -> None:
    forge = Forge()
    vertices = history(forge, seed)
    commits = commits_of(eager(forge, vertices)[0])
    assert len(commits) > ROUNDS
    for commit in commits:
        if not commit.cursor:
            continue
        at = decode_cursor(commit.cursor)
        graph = Graph(forge.committee)
        graph.prune(at.gc_round(PARAMETERS.gc_depth))
        line = sequencer(forge, graph, at)
        for vertex in vertices:
            if vertex.round > graph.pruned_round:
                line.add(graph.add(vertex))
        assert line.linearizer.restore() is None
        assert line.linearizer.window_root() == at.window_root
        assert commits_of(line.advance()) == commits[commit.index :]


def test_each_vertex_is_ordered_once_and_none_is_left_behind() -> None:
    forge = Forge()
    vertices = history(forge, 1)
    ordered = [vertex.id for commit in commits_of(eager(forge, vertices)[0]) for vertex in commit.vertices]
    assert len(ordered) == len(set(ordered))
    assert {vertex.id for vertex in vertices if vertex.round < ROUNDS - 8} <= set(ordered)


def test_a_byzantine_leader_can_t_stop_the_three_that_lead_while_an_honest_fourth_is_suspended() -> None:
    """Half of the authorities ever see its vertices, so none of its slots is decided directly. If three took turns, it
    would have slot 0 of every third round, and those are where each of its slots looks: nothing would be decided.
    """
    forge = Forge()
    graph = Graph(forge.committee)
    at = replace(Forge().start.checkpoint, conduct=(Record(0, 4, 10_000),))
    line = sequencer(forge, graph, at)
    steps: list[Step] = []
    for number in range(1, 61):
        for author in range(4):
            seen = range(4) if author in (1, 2) or number == 1 else (0, 2, 3)
            order = [author, *(other for other in seen if other != author)]
            line.add(graph.add(forge.vertex(number, author, [forge.ref(number - 1, other) for other in order])))
            steps += line.advance()
    assert {step.authority for step in steps} == {1, 2, 3}
    assert len(commits_of(steps)) > 60
    assert line.last_slot is not None
    assert line.last_slot.round > 50
