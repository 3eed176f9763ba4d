"""Scenarios by seed: which faults a run has follows from its seed alone."""

from random import Random

from consensus.parameters import Parameters
from tests.simulator.network import LinkFaults
from tests.simulator.world import Scenario

FAST = Parameters(
    heartbeat_ms=1_500,
    gc_depth=20,
    idle_delay_ms=300,
    range_timeout_ms=400,
    far_behind_rounds=10,
    range_rounds=32,
    max_unpersisted=16,
    suspension_skips=2,
    suspension_commits=24,
)
HEAL_MS = 1_800


def scenario_of(seed: int, **changes: object) -> Scenario:
    """Delays always; drops, doubles, slow messages, a crash or two, a partition, skewed clocks, an equivocator by
    seed.
    """
    random = Random(f"scenario {seed}")
    powers = random.choice([(1, 1, 1, 1), (1, 1, 1, 1), (1, 1, 1, 1, 1), (3, 2, 2, 3), (1, 4, 4, 1, 4, 4)])
    count = len(powers)
    faults = LinkFaults(
        heal_ms=HEAL_MS,
        drop=random.choice([0.0, 0.05, 0.2]),
        duplicate=random.choice([0.0, 0.1]),
        max_delay_ms=random.choice([5, 20, 60]),
        slow=random.choice([0.0, 0.05]),
    )
    victim = random.randrange(count)
    crashes = tuple(
        (victim, random.randint(300, 1_200), random.randint(100, 900)) for _ in range(random.choice([0, 1, 1, 2]))
    )
    partition = None
    if random.random() < 0.3:
        members = frozenset(random.sample(range(count), random.randint(1, count // 2)))
        partition = (members, random.randint(300, 1_000), HEAL_MS)
    # At most a third of stake is Byzantine; a crashed node isn't, so both may be in one run.
    small = [index for index in range(count) if 3 * powers[index] < sum(powers)]
    equivocators = frozenset({random.choice(small)} if random.random() < 0.35 else ())
    crashes = tuple(item for item in crashes if item[0] not in equivocators)
    skews = tuple(random.choice([0, 0, 40, -60, 250]) for _ in range(count)) if random.random() < 0.3 else ()
    values: dict[str, object] = {
        "seed": seed,
        "powers": powers,
        "parameters": FAST,
        "duration_ms": HEAL_MS,
        "faults": faults,
        "crashes": crashes,
        "partition": partition,
        "equivocators": equivocators,
        "skews_ms": skews,
        "payloads_until_ms": HEAL_MS + 400,
    }
    return Scenario(**(values | changes))  # type: ignore[arg-type]
