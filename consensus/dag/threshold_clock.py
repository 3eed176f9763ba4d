"""The threshold clock: the round in which the next vertex may be (docs/protocol.md, section 10).

Round r opens when a quorum of authors at r - 1 is held. Authors with evidence against them don't count: a vertex built now
may not choose them as parents.
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

    def observe(self, round_number: int, excluded: Set[int], now_ms: int) -> bool:
        """A vertex of this round was accepted; whether a higher round opened."""
        if round_number < self.round:
            return False
        stake = self._graph.stake_at(round_number)
        if excluded:
            stake -= self._committee.stake_of(
                author for author in self._graph.authors_at(round_number) if author in excluded
            )
        if not self._committee.is_quorum(stake):
            return False
        self.round = round_number + 1
        self.opened_ms = now_ms
        return True
