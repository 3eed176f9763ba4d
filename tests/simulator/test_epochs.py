"""Epochs change under load: by transactions, under faults, with nodes that come, go and change their keys."""

from consensus.parameters import Parameters
from tests.simulator.calm import BUSY, calm
from tests.simulator.invariants import check_progress, check_safety, check_settled
from tests.simulator.scenario import Change, Crash, LinkFaults, Loss, Move, partition
from tests.simulator.scenarios import FAST
from tests.simulator.world import World


def whole(world: World) -> World:
    check_progress(world, 10, 10_000)
    check_settled(world, 10_000)
    check_safety(world)
    return world


def members(world: World) -> set[int]:
    engine = world.nodes[0].engine
    assert engine is not None
    return {world.holders[item.address] for item in engine.committee.authorities}


def epochs(world: World) -> set[int]:
    return {int(node.engine.epoch) for node in world.nodes if node.engine is not None}


def test_a_node_joins_under_load_and_takes_part() -> None:
    world = whole(calm(1, spares=1, changes=(Change(4, 500, Move.JOIN),), parameters=BUSY))
    assert members(world) == {0, 1, 2, 3, 4}
    assert epochs(world) == {1}
    assert world.nodes[4].engine is not None
    assert world.nodes[4].engine.status().round > 0


def test_all_of_a_set_are_replaced() -> None:
    joins = tuple(Change(seat, 300 + seat, Move.JOIN) for seat in (4, 5, 6, 7))
    leaves = tuple(Change(seat, 700 + seat, Move.LEAVE) for seat in (0, 1, 2, 3))
    world = whole(calm(2, spares=4, changes=(*joins, *leaves), heal_ms=4_000, parameters=BUSY))
    assert members(world) == {4, 5, 6, 7}
    assert len(world.acknowledged) > 20


def test_keys_change_under_way() -> None:
    changes = tuple(Change(seat, 400 + 600 * seat, Move.CHANGE_KEYS) for seat in range(4))
    world = whole(calm(3, changes=changes, heal_ms=4_000, parameters=BUSY))
    assert members(world) == {0, 1, 2, 3}
    engine = world.nodes[0].engine
    assert engine is not None
    held = {item.address for item in engine.committee.authorities}
    assert held == {node.keys[1][1].address for node in world.nodes}


def test_stake_moves_and_so_do_quorums() -> None:
    changes = (Change(0, 300, Move.BOND, 3), Change(1, 320, Move.BOND, 3), Change(2, 340, Move.BOND, 2))
    world = whole(calm(4, changes=changes, parameters=BUSY))
    engine = world.nodes[0].engine
    assert engine is not None
    assert sorted(engine.committee.powers) == [1, 3, 4, 4]


def test_a_node_that_was_cut_off_over_epochs_comes_back() -> None:
    changes = tuple(Change(seat, 700 * (seat + 1), Move.BOND) for seat in (0, 1, 2))
    cuts = partition(frozenset({3}), 4, 300, 4_500)
    faults = LinkFaults(heal_ms=4_500, max_delay_ms=10)
    world = calm(5, changes=changes, cuts=cuts, faults=faults, heal_ms=4_500, parameters=FAST)
    assert epochs(world) == {0, 3} or epochs(world) == {0, 2}
    whole(world)
    assert len(epochs(world)) == 1


def test_a_crash_at_every_effect_around_the_epochs_end_signs_nothing_twice() -> None:
    """The operator asks at 300 ms; the epoch may close at 1,000 ms at the earliest."""
    for effects in range(0, 60, 2):
        crash = Crash(1, 1_000, 200, effects, Loss.TAIL)
        changes = (Change(2, 300, Move.BOND),)
        whole(calm(effects, changes=changes, crashes=(crash,), heal_ms=1_400, parameters=BUSY))


def test_a_lost_disk_takes_part_again_in_the_next_epoch() -> None:
    crash = Crash(3, 1_000, 300, 0, Loss.DISK)
    changes = (Change(0, 2_500, Move.BOND),)
    parameters = Parameters(idle_delay_ms=0)
    world = calm(6, powers=(1,) * 5, crashes=(crash,), changes=changes, heal_ms=2_400, parameters=parameters)
    engine = world.nodes[3].engine
    assert engine is not None
    assert engine.status().sitting_out is not None
    world.advance(2_600)
    whole(world)
    assert engine.epoch == 1
    assert engine.status().sitting_out is None
    assert engine.status().round > 0
