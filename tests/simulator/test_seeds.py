"""Real engines under faults drawn from a seed: agreement always, progress after the network heals.

A failing run names its seed; `make simulate SEED=n` replays it bit for bit and cuts it down.
"""

import pytest

from tests.simulator.runner import examine
from tests.simulator.scenarios import scenario_of
from tests.simulator.world import World

SEEDS = 180
BLOCK = 12


def trace(world: World) -> list[object]:
    """Everything that a replay must repeat."""
    blocks = [[block.hash for block in node.disk.blocks] for node in world.nodes]
    commits = [[commit.digest for commit in node.commits.values()] for node in world.nodes]
    vertices = [[of.order for of in node.disk.vertices.values()] for node in world.nodes]
    joins = [(node.joins, list(node.history)) for node in world.nodes]
    return [
        blocks,
        commits,
        vertices,
        joins,
        world.dropped,
        world.acknowledged,
        list(world.log),
        world.messages,
        world.now,
    ]


@pytest.mark.parametrize("first", range(0, SEEDS, BLOCK))
def test_every_invariant_holds(first: int) -> None:
    failing = {}
    for seed in range(first, first + BLOCK):
        outcome = examine(scenario_of(seed))
        if outcome.failure is not None:
            failing[seed] = outcome.failure
    assert failing == {}, "replay with `make simulate SEED=n`"


def test_the_seeds_contain_what_they_are_to_contain() -> None:
    scenarios = [scenario_of(seed) for seed in range(SEEDS)]
    assert sum(bool(scenario.byzantine) for scenario in scenarios) > SEEDS // 4
    assert sum(bool(scenario.changes) for scenario in scenarios) > SEEDS // 4
    assert sum(scenario.history is not None for scenario in scenarios) > SEEDS // 4
    assert any(node.joins for node in examine(scenarios[17]).world.nodes)


def test_a_seed_replays_bit_for_bit() -> None:
    for seed in (3, 17, 21):
        first, second = (examine(scenario_of(seed)) for _ in range(2))
        assert first.scenario == second.scenario
        assert trace(first.world) == trace(second.world)
    assert trace(examine(scenario_of(3)).world) != trace(examine(scenario_of(17)).world)
