"""Thousands of rounds behind: one range at a time, no proposals, bounded memory, the same commits in the end."""

from consensus.dag.vertex import Vertex
from consensus.engine import Engine
from consensus.events import (
    Broadcast,
    Commit,
    Effect,
    PayloadWaiting,
    RequestAncestors,
    RequestPayload,
    RequestRange,
    TimerFired,
    TimerKind,
)
from consensus.parameters import Parameters
from tests.consensus.forge import NOW, Forge, of_kind, propose, receive, receive_all, timer
from tests.consensus.test_certifier import header, signature

ROUNDS = 1_200
PARAMETERS = Parameters(idle_delay_ms=0, first_proposal_delay_ms=0, range_rounds=400, suspension_commits=0)


def test_a_thousand_rounds_in_ranges() -> None:
    forge = Forge()
    history: list[Vertex] = [vertex for number in range(1, ROUNDS + 1) for vertex in forge.layer(number, range(1, 4))]
    engine = forge.engine(0, PARAMETERS)
    engine.start(NOW)
    effects = receive_all(engine, history[-2:])
    [request] = of_kind(effects, RequestRange)
    assert request.from_round == 1
    assert engine.status().catching_up
    assert of_kind(propose(engine, NOW + 900), Broadcast) == []
    commits = 0
    highest_memory = 0
    served = []
    while request is not None:
        served.append(int(request.from_round))
        answer = [
            vertex
            for vertex in history
            if request.from_round <= vertex.round < request.from_round + PARAMETERS.range_rounds
        ]
        request = None
        for vertex in answer:
            effects = receive(engine, vertex, NOW + 1_000)
            commits += len(of_kind(effects, Commit))
            request = next(iter(of_kind(effects, RequestRange)), request)
            status = engine.status()
            highest_memory = max(highest_memory, status.vertices + status.pending + status.held)
    assert served == [1, 400, 799]
    assert highest_memory <= 4 * (PARAMETERS.gc_depth + 10)
    assert not engine.status().catching_up
    commits += len(of_kind(receive_all(engine, history[-9:], NOW + 1_000), Commit))
    # Slot 0 and 1 of each round but for those of the silent authority 0.
    assert commits == sum(1 for number in range(1, ROUNDS - 1) for slot in (0, 1) if (number + slot) % 4)
    assert engine.status().round == 0
    assert len(of_kind(propose(engine, NOW + 3_000), Broadcast)) == 1
    assert engine.status().round == ROUNDS + 1, "only once it has caught up, and then for the open round"


def test_nothing_is_proposed_while_the_others_are_far_above() -> None:
    forge = Forge()
    engine = forge.engine(0, PARAMETERS)
    engine.start(NOW)
    receive_all(engine, forge.layer(1, range(1, 4)))
    assert len(of_kind(propose(engine, NOW + 300), Broadcast)) == 1
    history = [forge.layer(number, range(1, 4)) for number in range(2, 61)]
    receive_all(engine, history[0], NOW + 310)
    receive(engine, history[-1][0], NOW + 320)
    assert not engine.status().catching_up, "one author alone may lie"
    receive(engine, history[-1][1], NOW + 330)
    assert engine.status().catching_up
    assert engine.status().open_round == 3
    assert of_kind(propose(engine, NOW + 5_000), Broadcast) == []
    for layer in history[1:]:
        receive_all(engine, layer, NOW + 5_100)
    assert len(of_kind(propose(engine, NOW + 9_000), Broadcast)) == 1
    assert engine.status().round == 61


def test_execution_signatures_of_vertices_that_are_dropped_are_read() -> None:
    forge = Forge()
    engine = forge.engine(None, PARAMETERS)
    engine.start(NOW)
    for number in range(1, 60):
        forge.layer(number, range(4))
    for author in (1, 2, 3):
        receive(engine, forge.vertex(60, author, signatures=(signature(1, author),)))
    assert engine.status().vertices + engine.status().pending == 0
    assert header(1).height == 1
    assert engine.status().executed_height == 0
    assert len(engine._notary.certifier) == 1


def test_a_flood_of_vertices_with_unknown_parents_costs_bounded_memory() -> None:
    forge = Forge()
    engine = forge.engine(0, Parameters(max_pending=40, idle_delay_ms=0))
    engine.start(NOW)
    for number in range(1, 21):
        forge.layer(number, range(1, 4))
    requests: list[Effect] = []
    for number in range(2, 21):
        for mark in range(8):
            flood = forge.vertex(number, 1, payload=bytes([mark]), keep=False)
            requests += of_kind(receive(engine, flood, NOW + number), RequestAncestors)
    status = engine.status()
    assert status.pending <= 10
    assert status.missing <= 40
    assert status.evidence == (1,)


def test_a_small_gap_is_closed_by_asking_for_ancestors() -> None:
    forge = Forge()
    engine = forge.engine(0, PARAMETERS)
    engine.start(NOW)
    history = {vertex.ref: vertex for number in range(1, 11) for vertex in forge.layer(number, range(1, 4))}
    now = NOW
    effects = receive(engine, forge.made[10, 1], now)
    asked = 0
    while engine.status().pending:
        for request in of_kind(effects, RequestAncestors):
            for ref in request.refs:
                asked += 1
                effects = receive(engine, history[ref], now, sender=request.to)
        at = timer(effects, TimerKind.FETCH)
        now = max(now + 1, at or 0)
        effects = engine.handle(TimerFired(TimerKind.FETCH), now)
        assert now < NOW + 60_000
    assert engine.status().vertices >= 3 * 8
    assert asked >= 27


def followed(engine: Engine) -> list[Effect]:
    return engine.handle(PayloadWaiting(), NOW)


def test_a_follower_never_asks_for_payloads() -> None:
    forge = Forge()
    engine = forge.engine(None, PARAMETERS)
    engine.start(NOW)
    effects = [*followed(engine), *receive_all(engine, forge.layer(1, range(4)), NOW + 5_000)]
    effects += receive_all(engine, forge.layer(2, range(4)), NOW + 5_100)
    effects += receive_all(engine, forge.layer(3, range(4)), NOW + 5_200)
    assert of_kind(effects, RequestPayload) == []
    assert len(of_kind(effects, Commit)) == 2
