"""An explicit-state model checker: every state that can be reached, each checked; the way to a bad one, step by step.

A model is a set of first states, a function from a state to its steps, and invariants. States are hashable values;
where two of them differ only in who is called what, the model hands out one of them, so that each is looked at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

State = TypeVar("State", bound=Hashable)


class BoundReachedError(Exception):
    """More states than the check was allowed: nothing is shown then."""


@dataclass(frozen=True)
class Violation(Generic[State]):
    """A state in which an invariant doesn't hold, and the shortest way there."""

    what: str
    state: State
    steps: tuple[str, ...]


@dataclass
class Result(Generic[State]):
    """Every state reached with its depth (steps from a first one), and the first violation met."""

    depths: dict[State, int] = field(default_factory=dict)
    steps: int = 0
    violation: Violation[State] | None = None

    @property
    def depth(self) -> int:
        """The longest shortest way to a state."""
        return max(self.depths.values(), default=0)


def explore(
    first: Iterable[State],
    steps: Callable[[State], Iterator[tuple[str, State]]],
    invariant: Callable[[State], str | None],
    *,
    max_states: int,
) -> Result[State]:
    """Breadth first, so that a violation comes with a shortest way. Raises BoundReachedError above max_states."""
    result: Result[State] = Result()
    came: dict[State, tuple[State, str] | None] = {}
    waiting: deque[State] = deque()

    def reach(state: State, depth: int, how: tuple[State, str] | None) -> bool:
        """Whether to go on."""
        if state in came:
            return True
        if len(came) >= max_states:
            raise BoundReachedError(f"more than {max_states} states")
        came[state] = how
        result.depths[state] = depth
        wrong = invariant(state)
        if wrong is not None:
            result.violation = Violation(wrong, state, _way(state, came))
            return False
        waiting.append(state)
        return True

    for state in first:
        if not reach(state, 0, None):
            return result
    while waiting:
        state = waiting.popleft()
        for what, following in steps(state):
            result.steps += 1
            if not reach(following, result.depths[state] + 1, (state, what)):
                return result
    return result


def can_reach(
    result: Result[State], steps: Callable[[State], Iterator[tuple[str, State]]], goal: Callable[[State], bool]
) -> list[State]:
    """The states from which no goal can be reached any more: where a system that can still move is stuck."""
    before: dict[State, list[State]] = {state: [] for state in result.depths}
    for state in result.depths:
        for _, following in steps(state):
            before[following].append(state)
    good = [state for state in result.depths if goal(state)]
    seen = set(good)
    while good:
        for state in before[good.pop()]:
            if state not in seen:
                seen.add(state)
                good.append(state)
    return [state for state in result.depths if state not in seen]


def _way(state: State, came: dict[State, tuple[State, str] | None]) -> tuple[str, ...]:
    steps: list[str] = []
    how = came[state]
    while how is not None:
        steps.append(how[1])
        how = came[how[0]]
    return tuple(reversed(steps))
