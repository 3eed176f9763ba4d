"""What an authority without a proposal asks before its first vertex of an epoch (docs/protocol.md, section 13).

Its disk may be lost, and then others hold vertices that it signed; where nothing moves, none of them comes by unasked.
So it asks everybody for the vertices of the epoch, and signs nothing before a quorum, itself counted, has answered in
full: whatever more than a few have of its own is among the answers, and `presence` sees it. That costs a round trip at
the start of an epoch, and no progress: where fewer than a quorum answer, none can be made.
"""

from consensus.dag.committee import Committee
from consensus.parameters import Parameters
from mpisa.primitives.identifiers import AuthorityIndex, Round

_MAX_DOUBLINGS = 8


class Inquiry:
    """Who has answered, and from which round on the others are asked."""

    __slots__ = ("_answered", "_asked", "_committee", "_next_ms", "_parameters", "_tries")

    def __init__(self, parameters: Parameters, committee: Committee, own: AuthorityIndex) -> None:
        self._parameters = parameters
        self._committee = committee
        self._answered = {own}
        self._asked: dict[AuthorityIndex, Round] = {
            item.index: Round(1) for item in committee.authorities if item.index != own
        }
        self._next_ms = 0
        self._tries = 0

    @property
    def is_done(self) -> bool:
        """Whether a quorum has answered."""
        return self._committee.is_quorum(self._committee.stake_of(self._answered))

    def answered(self, sender: AuthorityIndex, highest_round: int) -> Round | None:
        """An answer came in whole, `highest_round` is the highest accepted since; where to go on asking this authority
        if its answer was as long as answers get, else None.
        """
        first = self._asked.get(sender)
        if first is None:
            return None
        if highest_round >= first + self._parameters.range_rounds - 1:
            self._asked[sender] = Round(highest_round)
            return self._asked[sender]
        del self._asked[sender]
        self._answered.add(sender)
        return None

    def due(self, now_ms: int) -> list[tuple[AuthorityIndex, Round]]:
        """Whom to ask now for the vertices from which round on: all that haven't answered, with growing patience."""
        if self.is_done or now_ms < self._next_ms:
            return []
        patience = self._parameters.fetch_timeout_ms << min(self._tries, _MAX_DOUBLINGS)
        self._next_ms = now_ms + min(patience, self._parameters.fetch_timeout_cap_ms)
        self._tries += 1
        return sorted(self._asked.items())

    @property
    def next_ms(self) -> int:
        """When to ask again."""
        return self._next_ms
