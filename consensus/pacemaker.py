"""When to make the next vertex (docs/protocol.md, section 10).

The rule starts when a round opens, later by a named delay while there is nothing to do. Then: a shortest delay has
passed, and each leader of the round below is seen or suspected, and slot 0 of the round below that has its votes or
can't get them; or a timeout, which doubles while waves go by without a commit. A leader whose slot was skipped is
suspected and not waited for until it is in time again: one silent authority of four would else cost a timeout in
three rounds of four. The more often it was skipped the more rounds it must be in time for, for one that shows its
vertices to another peer each round would else cost a timeout as often as the silent one.
"""

from collections.abc import Set

from consensus.dag.graph import Graph
from consensus.order.committer import Committer
from consensus.parameters import WAVE_ROUNDS, Parameters
from mpisa.primitives.identifiers import AuthorityIndex

_MOST_STRIKES = 6


class Pacemaker:
    """Suspects, and how long to be patient; how many leader slots were decided, by verdict."""

    __slots__ = (
        "_committer",
        "_graph",
        "_owed",
        "_own",
        "_parameters",
        "_since_commit",
        "_strikes",
        "slots_committed",
        "slots_skipped",
        "suspects",
    )

    def __init__(
        self,
        parameters: Parameters,
        graph: Graph,
        committer: Committer,
        own: AuthorityIndex | None,
    ) -> None:
        self._parameters = parameters
        self._graph = graph
        self._committer = committer
        self._own = own
        self._since_commit = 0
        self._strikes: dict[int, int] = {}
        self._owed: dict[int, int] = {}
        self.suspects: set[int] = set()
        self.slots_committed = 0
        self.slots_skipped = 0

    @property
    def timeout_ms(self) -> int:
        """The round timeout: doubled for each wave of own rounds since the last commit, up to the cap."""
        doublings = min(self._since_commit // WAVE_ROUNDS, 32)
        return min(self._parameters.round_timeout_ms << doublings, self._parameters.timeout_cap_ms)

    def proposed(self) -> None:
        """An own vertex was made."""
        self._since_commit += 1

    def committed(self, authority: int) -> None:
        """A slot of this authority was committed: it is trusted a little more."""
        self._since_commit = 0
        self.slots_committed += 1
        self._strikes[authority] = max(0, self._strikes.get(authority, 0) - 1)

    def skipped(self, authority: int) -> None:
        """A slot was skipped: don't wait for its leader until it was in time for 1, 2, 4, ... rounds."""
        self.slots_skipped += 1
        strikes = self._strikes[authority] = min(self._strikes.get(authority, 0) + 1, _MOST_STRIKES)
        self._owed[authority] = 1 << (strikes - 1)
        self.suspects.add(authority)

    def seen_in_time(self, authority: int) -> None:
        """A vertex came before this node left its round behind."""
        if authority in self.suspects:
            self._owed[authority] -= 1
            if self._owed[authority] <= 0:
                self.suspects.discard(authority)

    def next_step(
        self, target: int, opened_ms: int, *, is_idle: bool, equivocators: Set[int], now_ms: int
    ) -> int | None:
        """None when the vertex of the round `target` is due now, else when to look again at the latest (ms)."""
        start = opened_ms + (self._parameters.idle_delay_ms if is_idle else 0)
        earliest = start + self._parameters.min_round_delay_ms
        if now_ms < earliest:
            return earliest
        deadline = start + max(self.timeout_ms, self._parameters.min_round_delay_ms)
        if now_ms >= deadline or self._is_complete(target, equivocators):
            return None
        return deadline

    def _is_complete(self, target: int, equivocators: Set[int]) -> bool:
        below = target - 1
        for leader in self._committer.schedule.leaders(below) if below > 0 else ():
            expected = leader != self._own and leader not in self.suspects and leader not in equivocators
            if expected and not self._graph.at(below, leader) and self._graph.latest_round(leader) < below:
                return False  # whoever is above already jumped over the round: nothing will come
        return below <= 1 or self._committer.votes_settled(below - 1)
