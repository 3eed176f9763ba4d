"""What each Byzantine strategy may cost, and that it does what its name says."""

import pytest

from consensus.parameters import Parameters
from mpisa.ledger.offences import OffenceKind
from tests.simulator.calm import BUSY, calm
from tests.simulator.invariants import check_bounds, check_progress, check_safety, check_settled
from tests.simulator.scenarios import FAST
from tests.simulator.strategies import STRATEGIES
from tests.simulator.world import World

OFFENDING = sorted(name for name, strategy in STRATEGIES.items() if strategy.offends)


def whole(world: World) -> World:
    check_bounds(world)
    check_progress(world, 10, 10_000)
    check_settled(world, 10_000)
    check_safety(world)
    check_bounds(world)
    return world


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_one_of_four_may_do_what_it_likes(name: str) -> None:
    for seed in range(3):
        whole(calm(seed, byzantine=((seed % 4, name),), parameters=FAST))


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_two_of_seven_may_do_what_they_like(name: str) -> None:
    whole(calm(1, powers=(1,) * 7, byzantine=((1, name), (4, name)), parameters=FAST))


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_unequal_stake_stays_live_with_its_small_authorities_byzantine(name: str) -> None:
    """Round robin halts with these stakes: leaders are drawn by stake."""
    whole(calm(2, powers=(1, 4, 4, 1, 4, 4), byzantine=((0, name), (3, name)), parameters=FAST))


@pytest.mark.parametrize("name", OFFENDING)
def test_an_offender_is_charged_and_leaves_with_the_epoch(name: str) -> None:
    world = whole(calm(3, powers=(1,) * 5, byzantine=((2, name),), parameters=BUSY))
    for node in world.honest():
        charged = {world.holders[offence.address] for block in node.disk.blocks for offence in block.offences}
        assert charged == {2}
        assert node.engine is not None
        assert node.engine.epoch == 1
        assert {world.holders[item.address] for item in node.engine.committee.authorities} == {0, 1, 3, 4}


@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - set(OFFENDING) - {"flood", "replay"}))
def test_the_others_leave_no_evidence(name: str) -> None:
    world = whole(calm(3, byzantine=((2, name),), parameters=BUSY))
    for node in world.honest():
        assert node.accused == set()
        assert node.engine is not None
        assert node.engine.epoch == 0


def test_a_withholding_peer_stalls_nobody() -> None:
    sound, withholding = (calm(4, byzantine=faulty, parameters=BUSY) for faulty in ((), ((1, "withhold"),)))
    rounds = [world.nodes[0].engine.status().round for world in (sound, withholding) if world.nodes[0].engine]
    # What one peer alone was shown must be fetched before its next vertex can be taken: a wait and a round trip more.
    assert rounds[1] >= 0.3 * rounds[0], f"{rounds} rounds"
    assert len(withholding.acknowledged) >= 0.25 * len(sound.acknowledged)


def test_a_flood_of_unknown_parents_costs_bounded_memory() -> None:
    parameters = Parameters(max_pending=64, far_behind_rounds=10, gc_depth=20, idle_delay_ms=0)
    world = calm(5, byzantine=((3, "flood"),), parameters=parameters)
    junk = world.messages
    assert junk > 1_500
    for node in world.honest():
        assert node.engine is not None
        status = node.engine.status()
        assert status.pending <= 16, "an author's share of the waiting room"
        assert status.missing <= 16 * 4
    check_progress(world, 10, 5_000)
    check_safety(world)


def test_a_fork_bomb_over_the_whole_window_stays_within_bounds() -> None:
    """Two of seven send twelve twins a round that build on each other's; rounds go far beyond the GC depth."""
    parameters = Parameters(gc_depth=12, idle_delay_ms=0, far_behind_rounds=10)
    bombers = ((2, "fork-bomb"), (5, "fork-bomb"))
    world = calm(6, powers=(1,) * 7, byzantine=bombers, parameters=parameters, min_epoch_ms=60_000)
    check_bounds(world)
    for node in world.honest():
        assert node.engine is not None
        status = node.engine.status()
        assert status.epoch == 0, "a bomb that goes on within one epoch"
        assert status.round > 3 * parameters.gc_depth
        kept = status.highest_accepted_round - status.gc_round
        assert status.vertices <= kept * (5 + 2 * 8), "eight twins an author and round at most"
    check_progress(world, 10, 5_000)
    check_safety(world)


def test_what_replays_other_epochs_and_chains_is_refused() -> None:
    world = calm(8, byzantine=((0, "replay"),), parameters=BUSY)
    reasons = {reason for sender, reason in world.rejected if sender == 0}
    assert "wrong-chain" in reasons
    assert all(node.engine is not None and node.engine.epoch == 0 for node in world.honest())
    check_safety(world)


def test_forged_header_signatures_certify_nothing() -> None:
    world = calm(9, byzantine=((1, "forge-headers"),), parameters=BUSY)
    check_settled(world, 3_000)
    check_safety(world)
    assert all(len(node.certified) > 10 for node in world.honest())
    kinds = {offence.kind for block in world.nodes[0].disk.blocks for offence in block.offences}
    assert OffenceKind.DOUBLE_HEADER in kinds
