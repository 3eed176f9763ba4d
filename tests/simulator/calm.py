"""A quiet network to which tests add one fault."""

from typing import Any

from consensus.parameters import Parameters
from tests.simulator.scenario import LinkFaults, Scenario
from tests.simulator.world import World

CALM = LinkFaults(heal_ms=0, max_delay_ms=10)
BUSY = Parameters(idle_delay_ms=0)


def calm(seed: int = 1, **changes: Any) -> World:
    """Four equal authorities and short delays for three seconds, unless changed; run to the end of its faults."""
    values: dict[str, Any] = {"seed": seed, "faults": CALM, "heal_ms": 3_000}
    return World(Scenario(**(values | changes))).run()
