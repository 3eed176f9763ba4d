"""From a failing scenario to a small one: leave out faults and shorten it while it fails in the same way."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tests.simulator.picture import divergence, last_events, picture, states
from tests.simulator.runner import Outcome, examine
from tests.simulator.scenario import Loss, Scenario

MAX_RUNS = 160
SEEDS_TRIED = 4
LEAST_MS = 300


def shrink(outcome: Outcome, max_runs: int = MAX_RUNS) -> Outcome:
    """The smallest failing variant that greedy cutting finds.

    Leaving a fault out moves every later draw, so each variant is tried with a few seeds.
    """
    best, runs, again = outcome, 0, True
    wanted = kind(outcome.failure or "")
    while again:
        again = False
        for candidate in smaller(best.scenario):
            for shift in range(SEEDS_TRIED):
                if runs >= max_runs:
                    return best
                runs += 1
                tried = examine(replace(candidate, seed=candidate.seed + shift))
                if tried.failure is not None and kind(tried.failure) == wanted:
                    best, again = tried, True
                    break
            if again:
                break
    return best


def kind(failure: str) -> str:
    """What a failure is called, whatever the numbers in it."""
    return re.sub(r"[0-9a-f]{16,}|\d+", "#", failure)[:40]


def smaller(scenario: Scenario) -> Iterator[Scenario]:
    """Scenarios with one thing less, the largest cuts first."""
    faults = scenario.faults
    if scenario.history is not None:
        yield _with(scenario, history=None, arrivals=())
    for name in ("changes", "byzantine", "crashes", "cuts", "jumps", "skews_ms", "arrivals"):
        if len(getattr(scenario, name)) > 0:
            yield _with(scenario, **{name: ()})
    for name in ("changes", "byzantine", "crashes", "cuts", "jumps", "arrivals"):
        items = getattr(scenario, name)
        if len(items) > 1:
            for place in range(len(items)):
                yield _with(scenario, **{name: items[:place] + items[place + 1 :]})
    for name in ("drop", "duplicate", "slow"):
        if getattr(faults, name):
            yield _with(scenario, faults=replace(faults, **{name: 0.0}))
    if faults.max_delay_ms > 5:
        yield _with(scenario, faults=replace(faults, max_delay_ms=5))
    if scenario.clients > 1:
        yield _with(scenario, clients=1)
    for place, crash in enumerate(scenario.crashes):
        if crash.loss is Loss.TAIL:
            lighter = replace(crash, loss=Loss.NOTHING)
            yield _with(scenario, crashes=(*scenario.crashes[:place], lighter, *scenario.crashes[place + 1 :]))
    for heal_ms in (scenario.heal_ms // 2, scenario.heal_ms * 3 // 4):
        if heal_ms >= LEAST_MS:
            yield _with(scenario, heal_ms=heal_ms, faults=replace(faults, heal_ms=min(heal_ms, faults.heal_ms)))


def report(outcome: Outcome, *, shrunk_from: Scenario | None = None) -> str:
    """What a person needs to follow a failure: the scenario, where the nodes stand, the DAG, the last events."""
    scenario = outcome.scenario
    parts = [
        f"seed {scenario.seed}: {outcome.failure or 'all invariants hold'}",
        f"{'cut down to' if shrunk_from is not None else 'scenario'}: {describe(scenario)}",
        f"replay: make simulate SEED={(shrunk_from or scenario).seed}",
        states(outcome.world),
        divergence(outcome.world),
        picture(outcome.world),
        last_events(outcome.world),
    ]
    return "\n\n".join(parts)


def describe(scenario: Scenario) -> str:
    """The scenario without what is as always."""
    faults = scenario.faults
    lines = [
        f"powers {list(scenario.powers)}, heals at {scenario.heal_ms} ms, {scenario.clients} clients",
        f"links: delays up to 2 x {faults.max_delay_ms} ms, drop {faults.drop}, duplicate {faults.duplicate}, "
        f"slow {faults.slow}",
    ]
    lines += [f"node {seat} is Byzantine: {name}" for seat, name in scenario.byzantine]
    lines += [
        f"node {item.seat} crashes {item.effects} effects after {item.at_ms} ms for {item.down_ms} ms, "
        f"loses {item.loss.value}"
        for item in scenario.crashes
    ]
    if scenario.history is not None:
        lines.append(f"nodes forget: {scenario.history}")
    lines += [f"node {item.seat} arrives at {item.at_ms} ms with nothing but genesis" for item in scenario.arrivals]
    lines += [
        f"nothing from {sorted(item.senders)} to {sorted(item.receivers)} from {item.at_ms} to {item.until_ms} ms"
        for item in scenario.cuts
    ]
    lines += [
        f"the operator of node {item.seat} asks at {item.at_ms} ms: {item.move.value}" for item in scenario.changes
    ]
    lines += [f"the clock of node {item.seat} jumps by {item.by_ms} ms at {item.at_ms} ms" for item in scenario.jumps]
    if any(scenario.skews_ms):
        lines.append(f"clocks are off by {list(scenario.skews_ms)} ms")
    return "\n  ".join(lines)


def _with(scenario: Scenario, **changes: Any) -> Scenario:
    return replace(scenario, **changes)
