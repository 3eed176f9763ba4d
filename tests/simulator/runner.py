"""One scenario from start to verdict: run, heal, settle, every invariant."""

import gc
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.simulator.invariants import Broken, check_bounds, check_progress, check_safety, check_settled, check_views
from tests.simulator.scenario import Scenario
from tests.simulator.world import World

MORE_COMMITS = 10
WITHIN_MS = 15_000
LOOK_MS = 500
VIEWS = 2
RESUME_ROUNDS = 30


@dataclass(frozen=True)
class Outcome:
    """What became of a scenario; failure is None where all holds. `rounds` is how many it took to commit again."""

    scenario: Scenario
    world: World
    failure: str | None
    rounds: int = 0

    @property
    def simulated_ms(self) -> int:
        """How long the virtual clock ran."""
        return self.world.now


def examine(scenario: Scenario) -> Outcome:
    """Run it and look at everything that must hold."""
    world = World(scenario)
    rounds = 0
    try:
        with undisturbed():
            rounds = _examine(world)
    except Broken as broken:
        return Outcome(scenario, world, str(broken))
    except Exception as error:  # noqa: BLE001 - the task's root: whatever the engine raises is a finding
        place = traceback.extract_tb(error.__traceback__)[-1]
        return Outcome(scenario, world, f"{type(error).__name__} in {place.name}: {error}")
    return Outcome(scenario, world, None, rounds)


def _examine(world: World) -> int:
    world.run(lambda: check_bounds(world), LOOK_MS)
    check_safety(world)
    rounds = check_progress(world, MORE_COMMITS, WITHIN_MS)
    if rounds > RESUME_ROUNDS:
        raise Broken(f"commits resumed only {rounds} rounds after the network healed")
    check_settled(world, WITHIN_MS)
    check_bounds(world)
    check_safety(world)
    check_views(world, VIEWS)
    return rounds


@contextmanager
def undisturbed() -> Iterator[None]:
    """Without the cycle collector, which would look through the same long-lived objects again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
