"""Real engines under faults drawn from a seed: agreement always, progress after the network heals.

A failing run names its seed; `make simulate SEED=n` replays it bit for bit and cuts it down.
"""

import pytest

from tests.simulator.runner import examine
from tests.simulator.scenarios import scenario_of
from tests.simulator.world import World

SEEDS = 240
BLOCK = 12


def trace(world: World) -> list[object]:
    """Everything that a replay must repeat."""
    blocks = [[block.hash for block in node.disk.blocks] for node in world.nodes]
    commits = [[commit.digest for commit in node.commits.values()] for node in world.nodes]
    vertices = [[of.order for of in node.disk.vertices.values()] for node in world.nodes]
    return [blocks, commits, vertices, world.acknowledged, list(world.log), world.messages, world.now]


@pytest.mark.parametrize("first", range(0, SEEDS, BLOCK))
def test_every_invariant_holds(first: int) -> None:
    failing = {}
    for seed in range(first, first + BLOCK):
        outcome = examine(scenario_of(seed))
        if outcome.failure is not None:
            failing[seed] = outcome.failure
    assert failing == {}, "replay with `make simulate SEED=n`"


def test_a_seed_replays_bit_for_bit() -> None:
    for seed in (3, 11, 21):
        first, second = (examine(scenario_of(seed)) for _ in range(2))
        assert first.scenario == second.scenario
        assert trace(first.world) == trace(second.world)
    assert trace(examine(scenario_of(3)).world) != trace(examine(scenario_of(11)).world)
