"""From one slot to all: what `commit_rule` shows of each slot makes the whole sequence of verdicts agree.

Given are slots in order, and for each what two views, one within the other, see directly; for each pair of a slot and
a committed anchor three or more rounds above, what the anchor's ancestors say. `commit_rule` shows which of these
tables can occur: a direct verdict stays, and anchors agree with it. For every such table the recursive rule must
decide nothing in the smaller view that it decides otherwise in the larger one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

COMMIT, SKIP = "commit", "skip"
UNDECIDED = None
WAVE = 3


@dataclass(frozen=True)
class Table:
    """Direct verdicts of both views by slot, and what an anchor at a slot says of an earlier one."""

    rounds: tuple[int, ...]
    small: tuple[str | None, ...]
    large: tuple[str | None, ...]
    through: Mapping[tuple[int, int], str]


def tables(rounds: tuple[int, ...]) -> Iterator[Table]:
    """Every table that one slot's agreement allows."""
    seen = ((None, None), (None, COMMIT), (None, SKIP), (COMMIT, COMMIT), (SKIP, SKIP))
    for direct in product(seen, repeat=len(rounds)):
        free = [
            (slot, anchor)
            for slot in range(len(rounds))
            for anchor in range(slot + 1, len(rounds))
            if rounds[anchor] >= rounds[slot] + WAVE and direct[slot][1] is None
        ]
        for answers in product((COMMIT, SKIP), repeat=len(free)):
            through = dict(zip(free, answers, strict=True))
            yield Table(rounds, tuple(pair[0] for pair in direct), tuple(pair[1] for pair in direct), through)


def verdicts(table: Table, direct: tuple[str | None, ...]) -> list[str | None]:
    """The rule: from the highest slot to the lowest, direct, else through the first committed anchor."""
    found: list[str | None] = [UNDECIDED] * len(direct)
    for slot in reversed(range(len(direct))):
        found[slot] = direct[slot] or _through(table, found, slot)
    return found


def _through(table: Table, found: list[str | None], slot: int) -> str | None:
    for anchor in range(slot + 1, len(found)):
        if table.rounds[anchor] < table.rounds[slot] + WAVE or found[anchor] == SKIP:
            continue
        if found[anchor] == COMMIT:
            return table.through.get((slot, anchor), table.large[slot])
        return UNDECIDED
    return UNDECIDED


def disagreement(table: Table) -> str | None:
    """What the larger view decides otherwise than the smaller one did."""
    small, large = verdicts(table, table.small), verdicts(table, table.large)
    for slot, (before, after) in enumerate(zip(small, large, strict=True)):
        if before is not UNDECIDED and before != after:
            return f"slot {slot}: {before}, then {after}"
    return None
