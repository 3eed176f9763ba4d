"""Falling behind by many rounds, and catching up (docs/protocol.md, section 12).

Live vertices far above the highest open round are dropped (their execution signatures were read): keeping them would
need unbounded room. Instead everything from our round on is pulled in ranges, in causal order, one request at a time;
another authority is asked when a range brings nothing for a while. While a validity threshold of authors is far
above, this node is behind for certain and proposes nothing.
"""

from consensus.dag.committee import Committee
from consensus.dag.vertex import FIRST_EPOCH
from consensus.events import RequestRange
from consensus.parameters import Parameters
from mpisa.primitives.identifiers import AuthorityIndex, Epoch, Round


class CatchUp:
    """The highest signed round of each author, and the range request under way.

    `known_round` is the highest round that a validity threshold of authors has reached: at least one honest author is
    there.
    """

    __slots__ = (
        "_asked",
        "_attempts",
        "_committee",
        "_epoch",
        "_from",
        "_highest",
        "_is_rest_wanted",
        "_own",
        "_parameters",
        "_progress_ms",
        "_rest_ms",
        "_rest_round",
        "_rest_turn",
        "_rounds",
        "known_round",
    )

    def __init__(
        self,
        parameters: Parameters,
        committee: Committee,
        own: AuthorityIndex | None,
        epoch: Epoch = FIRST_EPOCH,
    ) -> None:
        self._parameters = parameters
        self._committee = committee
        self._own = own
        self._epoch = epoch
        self._rounds = [0] * len(committee)
        self._highest = 0
        self.known_round = 0
        self._from: int | None = None
        self._asked: AuthorityIndex | None = None
        self._progress_ms = 0
        self._attempts = 0
        self._is_rest_wanted = False
        self._rest_ms = 0
        self._rest_round = 0
        self._rest_turn = 0

    def want_rest(self) -> None:
        """The others have left this epoch: nobody will say how far it went, so what is behind ours is asked for."""
        self._is_rest_wanted = True

    def note(self, author: int, round_number: int) -> None:
        """A vertex with a valid signature of this author and round was seen."""
        if round_number <= self._rounds[author]:
            return
        self._rounds[author] = round_number
        self._highest = max(self._highest, round_number)
        stake = 0
        for known, power in sorted(zip(self._rounds, self._committee.powers, strict=True), reverse=True):
            stake += power
            if self._committee.is_validity(stake):
                self.known_round = known
                return

    def is_far(self, round_number: int, open_round: int) -> bool:
        """Whether a vertex of this round is too far above ours to be kept."""
        return round_number > open_round + self._parameters.far_behind_rounds

    def is_behind(self, open_round: int) -> bool:
        """Whether this node is far behind for certain."""
        return self.is_far(self.known_round, open_round)

    def progressed(self, now_ms: int) -> None:
        """Vertices were accepted."""
        self._progress_ms = now_ms

    def due(self, open_round: int, gc_round: int, now_ms: int) -> RequestRange | None:
        """The range request to make now, if any."""
        first = max(gc_round + 1, open_round - 1)
        if not self.is_far(self._highest, open_round):
            self._from = None
            self._attempts = 0
            return self._rest(first, open_round, now_ms)
        ahead = [
            (-round_number, author)
            for author, round_number in enumerate(self._rounds)
            if author != self._own and self.is_far(round_number, open_round)
        ]
        if not ahead:
            return None
        if self._from is not None and open_round < self._from + self._parameters.range_rounds:
            if now_ms < self._progress_ms + self._parameters.range_timeout_ms:
                return None
            self._attempts += 1
        ahead.sort()
        self._from = first
        self._progress_ms = now_ms
        self._asked = AuthorityIndex(ahead[self._attempts % len(ahead)][1])
        return RequestRange(self._asked, Round(self._from), self._epoch)

    def _rest(self, first: int, open_round: int, now_ms: int) -> RequestRange | None:
        """The rest of an epoch that the others have left, from each authority in turn."""
        others = [author for author in range(len(self._committee)) if author != self._own]
        if not self._is_rest_wanted or now_ms < self._rest_ms or not others:
            return None
        self._is_rest_wanted = False
        self._rest_ms = now_ms + self._parameters.range_timeout_ms
        self._rest_round = open_round
        self._asked = AuthorityIndex(others[self._rest_turn % len(others)])
        self._rest_turn += 1
        return RequestRange(self._asked, Round(first), self._epoch)

    def ended(self, sender: int, open_round: int) -> None:
        """The answer of a range request is complete: go on at once if it brought something, else after the timeout."""
        if self._asked != sender:
            return
        if self._from is not None and open_round > self._from + 1:
            self._from = None
        elif self._from is None and open_round > self._rest_round:
            self._is_rest_wanted = True
            self._rest_ms = 0
            self._rest_turn -= 1

    def next_due(self) -> int | None:
        """When to look again if nothing comes (ms)."""
        if self._from is not None:
            return self._progress_ms + self._parameters.range_timeout_ms
        return self._rest_ms if self._is_rest_wanted else None
