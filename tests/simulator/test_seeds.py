"""Real engines under faults drawn from a seed: agreement always, progress after the network heals.

A failing run names its seed; `World(scenario_of(SEED)).run()` replays it bit for bit.
"""

import pytest

from tests.simulator.scenarios import scenario_of
from tests.simulator.world import World, check_liveness, check_safety

SEEDS = 216
BLOCK = 12
MORE_COMMITS = 10
WITHIN_MS = 15_000


def trace(world: World) -> list[object]:
    """Everything that a replay must repeat."""
    return [
        (node.index, [commit.digest for commit in node.commits.values()], node.disk.headers, sorted(node.certified))
        for node in world.nodes
    ] + [world.messages, world.now]


@pytest.mark.parametrize("first", range(0, SEEDS, BLOCK))
def test_agreement_and_liveness(first: int) -> None:
    for seed in range(first, first + BLOCK):
        print(f"seed {seed}")
        world = World(scenario_of(seed)).run()
        check_safety(world)
        check_liveness(world, MORE_COMMITS, WITHIN_MS)
        check_safety(world)


def test_a_seed_replays_bit_for_bit() -> None:
    for seed in (3, 11):
        assert trace(World(scenario_of(seed)).run()) == trace(World(scenario_of(seed)).run())
    assert trace(World(scenario_of(3)).run()) != trace(World(scenario_of(11)).run())
