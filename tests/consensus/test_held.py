"""Vertices from the future: held, let go by the clock or by a validity threshold, bounded."""

from consensus.dag.held import Held
from consensus.events import TimerFired, TimerKind
from consensus.parameters import Parameters
from tests.consensus.forge import NOW, Forge, receive, receive_all, timer


def test_a_future_vertex_waits_for_the_clock() -> None:
    forge = Forge()
    engine = forge.engine()
    engine.start(NOW)
    effects = receive(engine, forge.vertex(1, 1, timestamp_ms=NOW + 500))
    assert timer(effects, TimerKind.HELD) == NOW + 500
    assert (engine.status().held, engine.status().vertices) == (1, 0)
    engine.handle(TimerFired(TimerKind.HELD), NOW + 499)
    assert engine.status().held == 1
    engine.handle(TimerFired(TimerKind.HELD), NOW + 500)
    assert (engine.status().held, engine.status().vertices) == (0, 1)


def test_a_validity_threshold_of_references_lets_it_in_at_once() -> None:
    forge = Forge()
    engine = forge.engine()
    engine.start(NOW)
    receive(engine, forge.vertex(1, 1, timestamp_ms=NOW + 90_000))
    receive_all(engine, forge.layer(1, (2, 3)))
    receive(engine, forge.vertex(2, 2))
    assert (engine.status().held, engine.status().pending) == (1, 1)
    receive(engine, forge.vertex(2, 3))
    assert (engine.status().held, engine.status().pending) == (0, 0)
    assert engine.status().vertices == 5


def test_with_a_slow_clock_the_references_of_held_vertices_count_too() -> None:
    forge = Forge()
    engine = forge.engine()
    engine.start(NOW)
    late = NOW + 60_000
    for author in (1, 2, 3):
        receive(engine, forge.vertex(1, author, timestamp_ms=late))
    assert engine.status().held == 3
    for author in (1, 2, 3):
        receive(engine, forge.vertex(2, author, timestamp_ms=late + 50))
    assert engine.status().vertices == 3, "round 1 is in, round 2 is held"
    assert engine.status().held == 3


def test_references_that_came_first_count() -> None:
    forge = Forge()
    engine = forge.engine()
    engine.start(NOW)
    future = forge.vertex(1, 1, timestamp_ms=NOW + 60_000)
    receive_all(engine, forge.layer(1, (2, 3)))
    receive_all(engine, forge.layer(2, (2, 3)))
    assert engine.status().pending == 2
    receive(engine, future)
    assert (engine.status().held, engine.status().pending, engine.status().vertices) == (0, 0, 5)


def test_room_is_shared_and_bounded() -> None:
    forge = Forge()
    held = Held(Parameters(max_held=8, max_held_bytes=1 << 20), forge.committee)
    ahead = [forge.vertex(1, 1, payload=bytes([mark]), keep=False) for mark in range(3)]
    assert [held.add(vertex, ()) for vertex in ahead] == [True, True, False]
    small = Held(Parameters(max_held_bytes=10), forge.committee)
    assert [small.add(vertex, ()) for vertex in ahead] == [True, False, False], "one always fits"
    assert small.add(forge.vertex(1, 2), ()), "another author has its own share"
    held.prune(1)
    assert (len(held), held.next_due()) == (0, None)
