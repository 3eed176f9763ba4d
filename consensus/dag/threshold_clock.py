"""The threshold clock: the round in which the next vertex may be (docs/protocol.md, section 10).

Round r opens when a quorum of authors at r - 1 is held that a vertex may choose as parents. A known equivocator isn't
chosen as a new parent; its vertex counts only where another author built on it already. (Were it never counted, those
who used it before the evidence came would stand in a round that the others can't reach.)
"""

from collections.abc import Set

from consensus.dag.committee import Committee
from consensus.dag.graph import Graph


class ThresholdClock:
    """The highest open round, and when it opened (ms)."""

    __slots__ = ("_committee", "_graph", "opened_ms", "round")

    def __init__(self, committee: Committee, graph: Graph, now_ms: int) -> None:
        self._committee = committee
        self._graph = graph
        self.round = 1
        self.opened_ms = now_ms

    def observe(self, round_number: int, equivocators: Set[int], now_ms: int) -> bool:
        """A vertex of this round was accepted; whether a higher round opened.

        It may also have vouched for an equivocator's vertex in the round below.
        """
        for candidate in (round_number, round_number - 1):
            if candidate >= self.round and self._committee.is_quorum(self._eligible_stake(candidate, equivocators)):
                self.round = candidate + 1
                self.opened_ms = now_ms
                return True
        return False

    def reconsider(self, equivocators: Set[int]) -> None:
        """Go back to the highest round that is open without what is known now of equivocators."""
        while (
            equivocators
            and self.round - 1 > self._graph.pruned_round
            and not self._committee.is_quorum(self._eligible_stake(self.round - 1, equivocators))
        ):
            self.round -= 1

    def _eligible_stake(self, round_number: int, equivocators: Set[int]) -> int:
        stake = self._graph.stake_at(round_number)
        if not equivocators:
            return stake
        return stake - self._committee.stake_of(
            author
            for author in self._graph.authors_at(round_number)
            if author in equivocators and self._graph.vouched_at(round_number, author) is None
        )
