"""Scenarios by seed: which faults a run has follows from its seed alone.

In four of ten the past is forgotten: nodes arrive late with nothing but genesis, or come back when nobody keeps what
they lack, and join from snapshots; some die on the way.
"""

from dataclasses import replace
from random import Random

from consensus.parameters import Parameters
from tests.simulator.scenario import (
    Arrival,
    Change,
    Crash,
    Cut,
    History,
    Jump,
    LinkFaults,
    Loss,
    Move,
    Scenario,
    partition,
)
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
FORGETFUL = 0.4
SHORT_MS = 300
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
    scenario = Scenario(
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
    return _forgetful(random, scenario, faulty, lost) if random.random() < FORGETFUL else scenario


def _forgetful(random: Random, scenario: Scenario, faulty: frozenset[int], lost: frozenset[int]) -> Scenario:
    """The same where nodes keep little of the past. Whoever comes back after long may have to sit its epoch out, as it
    may after losing its disk: it is one of the faulty ones then. Others are never away for so long. Links are good
    enough for a chain that grows fast.
    """
    heal_ms = random.choice([6_000, 7_000])
    members, spares = len(scenario.powers), max(1, scenario.spares)
    gone = lost or frozenset(seat for seat in sorted(faulty)[:1] if random.random() < 0.5)
    faults = replace(
        scenario.faults,
        heal_ms=heal_ms,
        drop=min(scenario.faults.drop, 0.02),
        slow=min(scenario.faults.slow, 0.01),
        max_delay_ms=min(scenario.faults.max_delay_ms, 30),
    )
    late = [members + spare for spare in range(spares) if random.random() < 0.8]
    arrivals = tuple(Arrival(seat, random.randint(heal_ms * 2 // 3, heal_ms - 200)) for seat in late)
    crashes = [replace(crash, down_ms=min(crash.down_ms, SHORT_MS)) for crash in scenario.crashes]
    crashes = [crash for crash in crashes if crash.seat not in (*gone, *late)]
    crashes += [_long_crash(random, seat, heal_ms) for seat in sorted(gone)]
    crashes += [_long_crash(random, seat, heal_ms) for seat in range(members, members + spares) if seat not in late]
    for arrival in arrivals:
        if random.random() < 0.6:
            at_ms, down_ms = arrival.at_ms + random.randint(0, 300), random.randint(20, 300)
            crashes.append(Crash(arrival.seat, at_ms, down_ms, random.randint(0, 60), random.choice(list(Loss))))
    return replace(
        scenario,
        heal_ms=heal_ms,
        faults=faults,
        parameters=replace(scenario.parameters, gc_depth=random.choice([10, 12]), idle_delay_ms=0),
        cuts=tuple(replace(cut, until_ms=min(cut.until_ms, cut.at_ms + SHORT_MS)) for cut in scenario.cuts),
        crashes=tuple(crashes),
        byzantine=tuple(item for item in scenario.byzantine if item[0] not in gone),
        spares=spares,
        changes=_timely(scenario.changes, arrivals, faulty),
        clients=random.choice([4, 8]),
        pause_ms=random.choice([20, 60]),
        history=History(chunk_bytes=random.choice([1_000, 3_000])),
        arrivals=arrivals,
    )


def _long_crash(random: Random, seat: int, heal_ms: int) -> Crash:
    """Away for so long that the others forget what it lacks."""
    at_ms = random.randint(500, 1_500)
    until_ms = random.randint(heal_ms * 2 // 3, heal_ms - 200)
    return Crash(seat, at_ms, until_ms - at_ms, random.randint(0, 20), random.choice(list(Loss)))


def _timely(changes: tuple[Change, ...], arrivals: tuple[Arrival, ...], faulty: frozenset[int]) -> tuple[Change, ...]:
    """Who arrives late asks for a place then. A place taken in an epoch that it joins by a snapshot is one of an absent
    authority: so one such newcomer at most, and none where others are faulty.
    """
    late = {arrival.seat: arrival.at_ms for arrival in arrivals}
    timely, room = [], 0 if faulty else 1
    for change in changes:
        if change.seat not in late:
            timely.append(change)
        elif room:
            room -= 1
            timely.append(replace(change, at_ms=late[change.seat] + 100))
    return tuple(timely)


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
