"""What authorities cost that miss their leader slots, and that those who come back lead again."""

from typing import Any

import pytest

from consensus.parameters import Parameters
from tests.simulator.calm import calm
from tests.simulator.invariants import check_progress, check_safety
from tests.simulator.scenario import Crash
from tests.simulator.world import World


def run(*, suspension_commits: int = 256, **changes: Any) -> World:
    parameters = Parameters(idle_delay_ms=0, suspension_commits=suspension_commits)
    world = calm(**({"heal_ms": 5_000, "parameters": parameters} | changes))
    check_safety(world)
    return world


def commits_of(world: World) -> int:
    return min(len(node.commits) for node in world.honest())


def suspended_in(world: World) -> set[tuple[int, ...]]:
    return {node.engine.status().suspended for node in world.honest() if node.engine is not None}


def test_one_silent_of_four_costs_a_fifth_of_the_commits_instead_of_a_third() -> None:
    everyone = commits_of(run())
    without = commits_of(run(silent=frozenset({2}), suspension_commits=0))
    world = run(silent=frozenset({2}))
    assert suspended_in(world) == {(2,)}
    assert without < 0.72 * everyone
    assert commits_of(world) > 0.8 * everyone


@pytest.mark.parametrize("seed", range(3))
def test_small_silent_stakes_neither_stop_commits_nor_keep_their_slots(seed: int) -> None:
    powers = (1, 4, 4, 1, 4, 4)
    everyone = commits_of(run(powers=powers))
    world = run(seed=seed, powers=powers, silent=frozenset({0, 3}))
    assert suspended_in(world) == {(0, 3)}
    assert commits_of(world) > 0.7 * everyone
    check_progress(world, 40, 1_000)


def test_whoever_comes_back_leads_again() -> None:
    world = run(crashes=(Crash(1, 500, 2_000, 0),), suspension_commits=64, heal_ms=2_000)
    assert suspended_in(world) == {(1,)}
    check_progress(world, 160, 5_000)
    check_safety(world)
    assert suspended_in(world) == {()}
    behind = max(world.nodes[0].commits) - 40
    assert any(commit.leader.author == 1 for index, commit in world.nodes[0].commits.items() if index > behind)
