"""Nodes that need what nobody keeps any more: they join from a snapshot, follow by ranges, and take part again."""

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from consensus.order.ranges import decode_answer
from mpisa.node.serving import BLOCKS, RangeRequest
from mpisa.node.snapshots import EPOCHS, SNAPSHOTS, STATE, encode_state_request
from mpisa.primitives.errors import Rejection
from mpisa.primitives.identifiers import Epoch
from tests.simulator.calm import CALM
from tests.simulator.invariants import check_progress, check_safety, check_settled
from tests.simulator.lies import HONEST_FOR_ONCE, lie_about
from tests.simulator.node import Node
from tests.simulator.provider import REFUSED
from tests.simulator.runner import examine
from tests.simulator.scenario import Arrival, Change, Crash, History, Loss, Move, Scenario
from tests.simulator.scenarios import FAST
from tests.simulator.strategies import Strategy
from tests.simulator.world import World

QUICK = replace(FAST, gc_depth=10, idle_delay_ms=0)
LATE = Arrival(4, 3_500)


def long_run(seed: int = 1, **changes: Any) -> World:
    """A chain that grows fast and forgets fast, looked at as every scenario is."""
    values: dict[str, Any] = {
        "seed": seed,
        "faults": CALM,
        "heal_ms": 4_500,
        "parameters": QUICK,
        "history": History(),
        "clients": 8,
        "pause_ms": 20,
    }
    outcome = examine(Scenario(**(values | changes)))
    assert outcome.failure is None
    return outcome.world


def assert_joined(node: Node) -> None:
    """It began with a snapshot, nothing below is there, and what it has is what the others have."""
    assert node.joins, "it joined from a snapshot"
    assert min(node.history) == node.joins[0] + 1 > 2
    others = node.world.nodes[0].history
    assert {height: block.hash for height, block in node.history.items()} == {
        height: others[height].hash for height in node.history
    }


def test_who_comes_with_genesis_alone_joins_where_nobody_keeps_the_first_blocks() -> None:
    world = long_run(spares=1, arrivals=(LATE,))
    assert_joined(world.nodes[4])
    assert all(not node.joins and node.disk.lowest > 1 for node in world.nodes[:4])


def test_a_follower_takes_every_block_behind_its_snapshot_without_an_engine() -> None:
    world = long_run(spares=1, arrivals=(LATE,))
    node = world.nodes[4]
    assert node.engine is None
    assert list(node.history) == list(range(node.joins[0] + 1, node.disk.height + 1))
    assert node.disk.height >= world.nodes[0].disk.height - 2


def test_across_epochs_by_one_proof_each() -> None:
    changes = (Change(0, 500, Move.BOND), Change(1, 1_700, Move.BOND), Change(2, 2_000, Move.CHANGE_KEYS))
    world = long_run(spares=1, arrivals=(Arrival(4, 5_500),), changes=changes, heal_ms=6_500)
    node = world.nodes[4]
    assert_joined(node)
    assert node.disk.epoch >= 2
    assert node.disk.base.header.epoch >= 1, "the snapshot lies behind a change of set"
    assert set(node.disk.entries) == set(range(1, node.disk.epoch + 1))


def test_who_was_away_for_long_joins_and_remembers_what_it_signed() -> None:
    world = long_run(crashes=(Crash(3, 1_000, 3_000, 0),))
    node = world.nodes[3]
    assert node.joins
    assert node.disk.loss is None
    assert node.engine is not None
    assert node.engine.sitting_out is None, "its own proposals are on its disk"
    assert node.engine.status().round > 0


def test_who_lost_its_disk_joins_and_sits_the_epoch_out() -> None:
    world = long_run(crashes=(Crash(3, 1_000, 3_000, 0, Loss.DISK),))
    node = world.nodes[3]
    assert_joined(node)
    assert node.engine is not None
    assert node.engine.sitting_out is not None
    assert 3 not in {world.holders[address] for _, address, number in world.signed if number > 200}


def test_a_newcomer_joins_gets_a_seat_and_signs() -> None:
    world = long_run(spares=1, arrivals=(LATE,), changes=(Change(4, 4_200, Move.JOIN),))
    check_progress(world, 10, 10_000)
    node = world.nodes[4]
    assert_joined(node)
    assert node.engine is not None
    assert node.engine.own is not None
    assert node.engine.status().round > 0


@pytest.mark.parametrize("first", range(3))
def test_a_crash_anywhere_in_a_join_costs_nothing_but_time(first: int) -> None:
    """It strikes between any two questions, chunks, batches of vertices, the replacement of the ledger, and blocks."""
    joins = set()
    for effects in range(first, 42, 7):
        loss = list(Loss)[effects % 3]
        crash = Crash(4, LATE.at_ms, 150, effects, loss)
        node = long_run(effects, spares=1, arrivals=(LATE,), crashes=(crash,)).nodes[4]
        assert node.starts == 2
        joins.add(len(node.joins))
    assert joins & {1, 2}


def test_what_was_verified_of_a_state_survives_a_crash_and_is_not_asked_for_again() -> None:
    asked: list[bytes] = []
    scenario = Scenario(
        1, faults=CALM, heal_ms=3_450, parameters=QUICK, spares=1, arrivals=(LATE,), clients=8, pause_ms=20,
        history=History(chunk_bytes=150, snapshot_blocks=40),
    )  # fmt: skip
    world = World(scenario).run()
    node = world.nodes[4]
    answer = world.nodes[0].strategy.provide

    def listen(peer: Node, kind: str, body: bytes) -> bytes | None:
        if kind == STATE:
            asked.append(body)
        return answer(peer, kind, body)

    for peer in world.nodes[:4]:
        peer.strategy = type(peer.strategy)()
        peer.strategy.provide = listen  # type: ignore[method-assign]
    while node.disk.loading is None or len(node.disk.loading.chunks) < 12:
        world.advance(world.now + 1)
    root, kept = node.disk.loading.root, len(node.disk.loading.chunks)
    before = set(asked)
    node.crash(Loss.NOTHING)
    node.boot()
    asked.clear()
    world.advance(world.now + 3_000)
    assert node.joins
    assert node.disk.base.header.state_root == root
    height = node.joins[0]
    repeated = [body for body in asked if body in before and body != encode_state_request(height, bytes(32))]
    assert kept >= 12
    assert len(repeated) <= 1, "at most the chunk that was under way"


@pytest.mark.parametrize("seed", range(6))
def test_a_lying_provider_is_dropped_and_the_others_are_asked(seed: int) -> None:
    world = long_run(seed, byzantine=((2, "lie-in-answers"),), spares=1, arrivals=(LATE,))
    assert_joined(world.nodes[4])
    assert (4, 2) in {(seat, peer) for seat, peer, _ in world.dropped}


def test_a_provider_that_says_nothing_stops_nobody() -> None:
    world = long_run(byzantine=((2, "withhold"),), spares=1, arrivals=(Arrival(4, 8_000),), heal_ms=9_000)
    assert_joined(world.nodes[4])


def test_nobody_makes_a_vertex_while_it_catches_up() -> None:
    """The invariant itself: an engine that begins before its node is level is found."""
    world = World(
        Scenario(1, faults=CALM, heal_ms=4_000, parameters=QUICK, history=History(), clients=8, pause_ms=20,
                 crashes=(Crash(3, 500, 3_000, 0, Loss.DISK),))
    ).run()  # fmt: skip
    check_safety(world)
    node = world.nodes[3]
    node._owed = node.disk.height + 1_000
    node.proposed_early.clear()
    vertex = next(iter(world._decoded.values()))
    assert not isinstance(vertex, Rejection)
    assert node.engine is not None
    node._look_early(vertex)
    assert len(node.proposed_early) == 1
    check_settled(world, 10_000)


def test_lies_are_lies() -> None:
    """Most answers of a liar aren't the truth, and those about blocks often decode."""
    world = World(
        Scenario(1, faults=CALM, heal_ms=3_000, parameters=QUICK, history=History(), clients=8, pause_ms=20)
    ).run()
    provider, random = world.nodes[0].provider, Random(1)
    assert provider is not None
    for kind, body in ((BLOCKS, RangeRequest(1, 0, 4, 0).encode()), (SNAPSHOTS, b"")):
        truth = provider.answer(kind, body)
        lies = [lie_about(kind, truth, QUICK, random) for _ in range(200)]
        assert sum(lie == truth for lie in lies) < 1.5 * HONEST_FOR_ONCE * 200
        if kind == BLOCKS:
            assert sum(_decodes(lie) for lie in lies) > 100


def _decodes(raw: bytes) -> bool:
    try:
        decode_answer(raw, 4, QUICK)
    except Rejection:
        return False
    return True


def test_who_died_right_behind_an_epoch_s_last_block_has_its_end_proven_again() -> None:
    """The certificate wasn't there yet or was lost: when it joins much later, the peers show what it needs to begin."""
    scenario = Scenario(
        1, faults=CALM, heal_ms=5_500, parameters=QUICK, history=History(), clients=8, pause_ms=20,
        changes=(Change(0, 300, Move.BOND),), spares=1,
    )  # fmt: skip
    world = World(scenario)
    node = world.nodes[4]
    world.later(0, lambda: _die_behind_an_end(node))
    world.run()
    check_progress(world, 10, 10_000)
    check_settled(world, 10_000)
    check_safety(world)
    assert node.joins
    assert node.starts == 2
    assert node.disk.base.header.epoch == 1
    closing = node.disk.records[Epoch(1)].base
    assert closing in node.disk.certificates
    assert Epoch(1) in node.disk.entries
    assert world.dropped == []


def _die_behind_an_end(node: Node) -> None:
    """Dies as soon as its last block has closed an epoch, without that one's certificate, for three seconds."""
    if not node.disk.head.header.closes_epoch:
        node.world.later(1, lambda: _die_behind_an_end(node))
        return
    node.crash(Loss.NOTHING)
    node.disk.certificates.pop(node.disk.height, None)
    node.world.later(3_000, node.boot)


class Unproven(Strategy):
    """Honest, and for a while without the certificate that ended an epoch, as after a power cut."""

    def provide(self, node: Node, kind: str, body: bytes) -> bytes | None:
        is_early = kind == EPOCHS and node.world.now < node.world.scenario.heal_ms - 500
        return REFUSED if is_early else super().provide(node, kind, body)


def test_an_offer_of_an_epoch_that_nobody_can_prove_yet_is_no_lie() -> None:
    changes = (Change(0, 300, Move.BOND),)
    scenario = Scenario(
        1, faults=CALM, heal_ms=5_500, parameters=QUICK, history=History(), clients=8, pause_ms=20,
        spares=1, arrivals=(Arrival(4, 4_500),), changes=changes,
    )  # fmt: skip
    world = World(scenario)
    for node in world.nodes:
        node.strategy = Unproven()
    world.run()
    check_progress(world, 10, 10_000)
    check_settled(world, 10_000)
    check_safety(world)
    assert_joined(world.nodes[4])
    assert world.nodes[4].disk.base.header.epoch == 1
    assert world.dropped == []
