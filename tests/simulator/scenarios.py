"""Scenarios by seed: which faults a run has follows from its seed alone."""

from dataclasses import replace
from random import Random

from consensus.parameters import Parameters
from tests.simulator.scenario import Change, Crash, Cut, Jump, LinkFaults, Loss, Move, Scenario, partition
from tests.simulator.strategies import STRATEGIES

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
POWERS = (
    (1, 1, 1, 1),
    (1, 1, 1, 1),
    (1, 1, 1, 1, 1),
    (3, 2, 2, 3),
    (1, 4, 4, 1, 4, 4),
    (1, 1, 1, 1, 1, 1, 1),
    (1, 1, 1, 1, 1, 1, 1),
)


def scenario_of(seed: int) -> Scenario:
    """Delays always; the rest by seed: lossy and slow links, cuts in one direction or both, crashes with what they
    take, clocks, Byzantine strategies up to a third of stake.
    """
    random = Random(f"scenario {seed}")
    powers = random.choice(POWERS)
    count = len(powers)
    faulty = _some_faulty(random, powers)
    lost = frozenset(seat for seat in faulty if random.random() < 0.15)
    heal_ms = random.choice([2_000, 3_000, 5_000])
    faults = LinkFaults(
        heal_ms=heal_ms,
        drop=random.choice([0.0, 0.05, 0.2]),
        duplicate=random.choice([0.0, 0.1]),
        max_delay_ms=random.choice([5, 20, 60, 120]),
        slow=random.choice([0.0, 0.05]),
    )
    byzantine = tuple((seat, random.choice(sorted(STRATEGIES))) for seat in sorted(faulty - lost))
    spares = random.choice([0, 0, 1, 2])
    parameters = replace(
        FAST,
        gc_depth=random.choice([10, 12, 20]),
        idle_delay_ms=random.choice([0, 300]),
    )
    return Scenario(
        seed=seed,
        powers=powers,
        parameters=parameters,
        heal_ms=heal_ms,
        faults=faults,
        cuts=() if lost else _cuts(random, count + spares, heal_ms),
        crashes=_crashes(random, count + spares, heal_ms, faulty, lost),
        jumps=_jumps(random, count, heal_ms),
        skews_ms=tuple(random.choice([0, 0, 40, -60, 250]) for _ in range(count)) if random.random() < 0.3 else (),
        byzantine=byzantine,
        spares=spares,
        changes=() if lost else _changes(random, powers, spares, heal_ms, faulty),
        clients=random.choice([1, 4, 8]),
        pause_ms=random.choice([20, 100, 400]),
    )


def _some_faulty(random: Random, powers: tuple[int, ...]) -> frozenset[int]:
    """Less than a third of stake, in half of the runs."""
    faulty: set[int] = set()
    if random.random() < 0.55:
        for seat in random.sample(range(len(powers)), len(powers)):
            stake = sum(powers[other] for other in (*faulty, seat))
            if 3 * stake < sum(powers) and (not faulty or random.random() < 0.5):
                faulty.add(seat)
    return frozenset(faulty)


def _cuts(random: Random, count: int, heal_ms: int) -> tuple[Cut, ...]:
    cuts: list[Cut] = []
    for _ in range(random.choice([0, 0, 0, 1, 1, 2])):
        members = frozenset(random.sample(range(count), random.randint(1, count // 2)))
        at_ms = random.randint(0, heal_ms - 500)
        until_ms = random.choice([heal_ms, random.randint(at_ms, heal_ms)])
        if random.random() < 0.5:
            cuts.extend(partition(members, count, at_ms, until_ms))
        else:
            others = frozenset(range(count)) - members
            senders, receivers = random.choice([(members, others), (others, members)])
            cuts.append(Cut(senders, receivers, at_ms, until_ms))
    return tuple(cuts)


def _crashes(
    random: Random, count: int, heal_ms: int, faulty: frozenset[int], lost: frozenset[int]
) -> tuple[Crash, ...]:
    """A lost disk counts as a fault of its own: the authority sits out. Others may crash any number of times."""
    crashes = [
        Crash(
            seat,
            random.randint(600, heal_ms),
            random.randint(100, heal_ms // 3),
            random.randint(0, 12),
            Loss.DISK,
        )
        for seat in sorted(lost)
    ]
    sound = [seat for seat in range(count) if seat not in faulty]
    for _ in range(random.choice([0, 0, 1, 1, 2, 3])):
        loss = random.choice([Loss.NOTHING, Loss.TAIL, Loss.TAIL])
        at_ms, down_ms = random.randint(0, heal_ms - 700), random.randint(50, 700)
        crashes.append(Crash(random.choice(sound), at_ms, down_ms, random.randint(0, 20), loss))
    return tuple(crashes)


def _jumps(random: Random, count: int, heal_ms: int) -> tuple[Jump, ...]:
    if random.random() < 0.85:
        return ()
    return (Jump(random.randrange(count), random.randint(0, heal_ms), random.choice([-400, -50, 60, 300])),)


def _changes(
    random: Random, powers: tuple[int, ...], spares: int, heal_ms: int, faulty: frozenset[int]
) -> tuple[Change, ...]:
    """Operators at work in half of the runs. Who leaves is honest, and so few leave that the faulty stay below a third
    even where those who are slashed have left and those who join haven't come.
    """
    if random.random() < 0.5:
        return ()
    count = len(powers)
    when = sorted(random.randint(200, heal_ms) for _ in range(8))
    changes = [
        Change(count + spare, when.pop(), Move.JOIN, random.randint(1, max(powers)))
        for spare in range(spares)
        if random.random() < 0.7
    ]
    sound = [seat for seat in range(count) if seat not in faulty]
    staying = sum(powers)
    for seat in random.sample(sound, len(sound)):
        move = random.choice(list(Move))
        bad = sum(powers[other] for other in faulty)
        if move is Move.LEAVE and staying - powers[seat] - bad > 2 * bad + 2 * max(powers):
            staying -= powers[seat]
            changes.append(Change(seat, when.pop(0), move))
        elif move in (Move.BOND, Move.CHANGE_KEYS):
            changes.append(Change(seat, when.pop(0), move))
        if len(when) < 4:
            break
    return tuple(changes)
