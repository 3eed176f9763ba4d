"""The epoch change, every state: nothing above the closing header, nothing before its certificate, nothing lost."""

from __future__ import annotations

import pytest

from tests.model.checker import can_reach, explore
from tests.model.epoch_change import FIRST, Protocol, goal, safety, steps_of

MAX_STATES = 400_000


def test_every_state_is_safe_and_none_is_stuck() -> None:
    steps = steps_of(Protocol())
    result = explore([FIRST], steps, safety, max_states=MAX_STATES)
    print(f"{len(result.depths)} states, {result.steps} steps, depth {result.depth}")
    assert result.violation is None
    assert can_reach(result, steps, goal) == []
    assert any(goal(state) for state in result.depths)


FAULTS = {
    "goes on behind the closing commit": (
        Protocol(stops_at_closing=False),
        "a header of the old epoch above its closing height is certified",
    ),
    "opens before the certificate": (
        Protocol(waits_for_certificate=False),
        "a header of the new epoch is certified before the closing one",
    ),
    "signs before it is durable": (
        Protocol(durable_before_signing=False),
        "an honest authority signed two headers for one height",
    ),
    "hands back what was executed": (Protocol(executes_once=False), "x is executed twice"),
}


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_planted_fault_is_found(fault: str) -> None:
    protocol, what = FAULTS[fault]
    violation = explore([FIRST], steps_of(protocol), safety, max_states=MAX_STATES).violation
    assert violation is not None
    assert violation.what == what
    print(f"{fault}: {', '.join(violation.steps)}")


def test_what_is_not_handed_back_is_lost() -> None:
    steps = steps_of(Protocol(hands_back=False))
    result = explore([FIRST], steps, safety, max_states=MAX_STATES)
    assert result.violation is None
    assert FIRST in can_reach(result, steps, goal)
