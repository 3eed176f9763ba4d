"""A model of the verdict on one leader slot, with equivocation: every DAG, every view of it, every anchor above.

What the rule looks at is little: of a vertex one round above the slot, which of the leader's blocks it votes for; of
one two rounds above, which block it certifies; of one three or more rounds above, of which blocks it has certificates
among its ancestors. So a state is, for every author, the set of such labels that its vertices have. An honest author
has at most one vertex a round, a Byzantine one any number, with any parents that make a quorum. Adding a vertex is a
step, so the states are all causally closed DAGs up to what the rule can tell apart. Direct verdicts only grow and
labels never change, so a state in which two verdicts contradict each other is the same as two views that do.

Rounds three and more above the slot are not bounded: a later vertex has the union of its parents' labels, and what
holds for all unions holds for any depth. The step from one slot to all is in `sequence`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations, product
from typing import NamedTuple, TypeAlias

NONE = "-"
BLOCKS = ("b", "c")
Labels: TypeAlias = frozenset[str]
Row: TypeAlias = tuple[Labels, ...]


class State(NamedTuple):
    """Labels by author, one and two rounds above the slot; and the label sets of all vertices three or more above."""

    votes: Row
    certificates: Row
    above: frozenset[Labels]


@dataclass(frozen=True)
class Rule:
    """The thresholds of the rule as predicates on stake out of a total; a planted fault changes one."""

    is_quorum: Callable[[int, int], bool] = lambda stake, total: 3 * stake > 2 * total
    commits: Callable[[int, int], bool] = lambda stake, total: 3 * stake > 2 * total
    skips: Callable[[int, int], bool] = lambda stake, total: 3 * stake > 2 * total
    certifies: Callable[[int, int], bool] = lambda stake, total: 3 * stake > 2 * total
    counts_vertices: bool = False


RULE = Rule()


@dataclass(frozen=True)
class Model:
    """Authors with these powers, the last `byzantine` of them faulty; the leader honest (one block) or not (two)."""

    powers: tuple[int, ...]
    byzantine: int
    is_leader_honest: bool
    rule: Rule = RULE

    @property
    def honest(self) -> int:
        """How many authors are honest: they come first."""
        return len(self.powers) - self.byzantine

    @property
    def blocks(self) -> tuple[str, ...]:
        """The leader's blocks that exist."""
        return BLOCKS[:1] if self.is_leader_honest else BLOCKS

    def first(self) -> State:
        """Nothing above the slot."""
        empty = (frozenset[str](),) * len(self.powers)
        return State(empty, empty, frozenset())

    def stake(self, row: Row, label: str) -> int:
        """The stake of the authors that have a vertex with this label."""
        return sum(power for power, labels in zip(self.powers, row, strict=True) if label in labels)

    def count(self, row: Row, label: str) -> int:
        """As the rule counts: authors, never vertices (a planted fault counts an equivocator's vertices each)."""
        stake = self.stake(row, label)
        if self.rule.counts_vertices:
            stake += sum(
                power * (len(labels) - 1) for power, labels in zip(self.powers, row, strict=True) if label in labels
            )
        return stake

    def direct(self, state: State) -> list[str]:
        """Every direct verdict that some view of this DAG can come to: the blocks committed, and NONE for a skip."""
        total = sum(self.powers)
        found = [block for block in self.blocks if self.rule.commits(self.count(state.certificates, block), total)]
        return found + ([NONE] if self.rule.skips(self.count(state.votes, NONE), total) else [])

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        """Every vertex that somebody may add."""
        for author in range(len(self.powers)):
            for label in (*self.blocks, NONE):
                if self._may_add(state.votes, author, label):
                    row = _with(state.votes, author, label)
                    yield f"{author} votes {label}", self._normal(state._replace(votes=row))
            if not self._is_done(state.certificates, author):
                for label in self._certificate_labels(state.votes):
                    if label not in state.certificates[author]:
                        row = _with(state.certificates, author, label)
                        yield f"{author} certifies {label}", self._normal(state._replace(certificates=row))
        for labels in self._labels_above(state.certificates):
            if labels not in state.above:
                unions = {labels | other for other in state.above} | {labels}
                yield f"a vertex above reaches {sorted(labels)}", state._replace(above=state.above | unions)

    def _may_add(self, row: Row, author: int, label: str) -> bool:
        return not self._is_done(row, author) and label not in row[author]

    def _is_done(self, row: Row, author: int) -> bool:
        return author < self.honest and bool(row[author])

    def _choices(self, row: Row) -> Iterator[tuple[tuple[int, str], ...]]:
        """Parents in a row: one vertex of each author of some quorum."""
        present = [author for author, labels in enumerate(row) if labels]
        total = sum(self.powers)
        for size in range(1, len(present) + 1):
            for authors in combinations(present, size):
                if self.rule.is_quorum(sum(self.powers[author] for author in authors), total):
                    for labels in product(*(sorted(row[author]) for author in authors)):
                        yield tuple(zip(authors, labels, strict=True))

    def _certificate_labels(self, votes: Row) -> set[str]:
        """What a vertex two rounds above may be a certificate of."""
        total = sum(self.powers)
        found: set[str] = set()
        for choice in self._choices(votes):
            behind = {label: sum(self.powers[author] for author, voted in choice if voted == label) for label in BLOCKS}
            certified = [label for label in self.blocks if behind[label] and self.rule.certifies(behind[label], total)]
            found.update(certified or [NONE])
        return found

    def _labels_above(self, certificates: Row) -> set[Labels]:
        return {frozenset(label for _, label in choice if label != NONE) for choice in self._choices(certificates)}

    def _normal(self, state: State) -> State:
        """Authors of one power and kind can change places within a row: nothing ties the rows together by author."""
        return State(self._sorted(state.votes), self._sorted(state.certificates), state.above)

    def _sorted(self, row: Row) -> Row:
        kinds: dict[tuple[int, bool], list[Labels]] = {}
        for author, labels in enumerate(row):
            kinds.setdefault((self.powers[author], author < self.honest), []).append(labels)
        for found in kinds.values():
            found.sort(key=sorted)
        return tuple(kinds[power, author < self.honest].pop(0) for author, power in enumerate(self.powers))


def agreement(model: Model) -> Callable[[State], str | None]:
    """No two views come to different verdicts, directly or through any anchor."""

    def check(state: State) -> str | None:
        direct = model.direct(state)
        if len(direct) > 1:
            return f"two direct verdicts: {direct}"
        for labels in state.above:
            if len(labels) > 1:
                return f"certificates of two blocks: {sorted(labels)}"
            through = next(iter(labels), NONE)
            if direct and direct[0] != through:
                return f"directly {direct[0]}, through an anchor {through}"
        return None

    return check


def _with(row: Row, author: int, label: str) -> Row:
    return (*row[:author], row[author] | {label}, *row[author + 1 :])
