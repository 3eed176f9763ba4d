"""How long a source may take before another is asked for the same thing, and whom (docs/protocol.md, section 12).

Participants: one node that wants things, one due after the other, and the peers that may have them. Whatever is due and
isn't there within a few times what answers took so far is asked of a second peer; whoever was asked first is given up
when a third one is, and the time between doubles each time, so that a slow network gets its answers too. No more than
two are asked for one thing at once. A peer that others had to step in for is asked last for a while, longer each time,
and like everybody again once it has delivered.

What a peer took counts once a peer, and the median of them decides: liars can neither make a node hurry its honest
peers nor wait for long. Non-goals: what an answer holds, and whether it is true. Time is an argument, in whatever unit
the pace is given in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

MAX_ASKED: Final = 2
"""Peers that are asked for one thing at a time."""

TIMES: Final = 3
"""So many times the median answer's time is still no reason to ask another peer."""

SMOOTHING: Final = 4
DEMOTED_TIMES: Final = 4
MAX_NAMED: Final = 256
"""Peers that something is known of."""

_P = TypeVar("_P")
"""What names a peer: its peer id, or its seat in the simulator."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Before anything was measured a peer may take `first`, later between `least` and `most`. A slow one is asked last
    for `demoted`, four times that at the next time, and so on up to `longest`.
    """

    first: float
    least: float
    most: float
    demoted: float
    longest: float


NODE_PACE: Final = Pace(first=1.5, least=0.5, most=5.0, demoted=10.0, longest=600.0)
"""In seconds. `most` is half of what a request may take: no answer is given up much earlier than its request would be
where all are slow.
"""


@dataclass(slots=True)
class _Record:
    """What is known of a peer. Its `strikes` are how often in a row others had to step in for it."""

    answer: float | None = None
    strikes: int = 0
    until: float = 0.0
    in_flight: int = 0


class Patience(Generic[_P]):
    """What peers took so far, and who was slow. One for all that a node asks."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._records: dict[_P, _Record] = {}
        self._turn = 0

    @property
    def bound(self) -> float:
        """How long one answer may take before another peer is asked."""
        times = sorted(record.answer for record in self._records.values() if record.answer is not None)
        if not times:
            return self._pace.first
        return min(max(TIMES * times[(len(times) - 1) // 2], self._pace.least), self._pace.most)

    def bound_after(self, times: int) -> float:
        """The bound once so many peers have let it pass."""
        return min(self.bound * (1 << min(times, 16)), self._pace.most)

    def choose(self, peers: Sequence[_P], now: float, *, steps_in: bool) -> _P:
        """One after the other, slow ones last; of several peers. To step in for another one that has delivered, if
        there is any; being the first to be asked is how a new or a once slow one shows what it can do.
        """
        self._turn += 1
        start = self._turn % len(peers)

        def rank(peer: _P) -> tuple[float, ...]:
            record = self._records.get(peer, _Record())
            is_slow = now < record.until
            if steps_in:
                return is_slow, record.strikes, record.answer is None, record.in_flight
            return is_slow, record.in_flight

        return min((*peers[start:], *peers[:start]), key=rank)

    def is_demoted(self, peer: _P, now: float) -> bool:
        """Whether it is asked last at present."""
        return peer in self._records and now < self._records[peer].until

    def asked(self, peer: _P) -> None:
        """A question went to the peer."""
        self._record(peer).in_flight += 1

    def ended(self, peer: _P) -> None:
        """Its answer is there, or nobody waits for it any more."""
        record = self._records.get(peer)
        if record is not None and record.in_flight:
            record.in_flight -= 1

    def delivered(self, peer: _P, took: float) -> None:
        """Its answer passed every check."""
        record = self._record(peer)
        record.answer = took if record.answer is None else record.answer + (took - record.answer) / SMOOTHING
        record.strikes, record.until = 0, 0.0

    def was_slow(self, peer: _P, now: float) -> None:
        """Another had to step in. What it is slow with while it is asked last is the same delay."""
        record = self._record(peer)
        if now < record.until:
            return
        demoted = self._pace.demoted * DEMOTED_TIMES ** min(record.strikes, 16)
        record.strikes += 1
        record.until = now + min(demoted, self._pace.longest)

    def _record(self, peer: _P) -> _Record:
        if peer not in self._records:
            if len(self._records) >= MAX_NAMED:
                records = self._records
                del records[min(records, key=lambda name: (records[name].in_flight, records[name].until))]
            self._records[peer] = _Record()
        return self._records[peer]


@dataclass(frozen=True, slots=True)
class Move(Generic[_P]):
    """Whom to ask now, and whose answer to wait for no longer; None for nobody."""

    ask: _P | None = None
    give_up: _P | None = None


class Chase(Generic[_P]):
    """One thing that is wanted, and who is asked for it."""

    def __init__(self, patience: Patience[_P]) -> None:
        self._patience = patience
        self._asked: dict[_P, float] = {}  # the earliest first
        self._is_begun = False
        self._late = 0
        self._wake = 0.0

    @property
    def asked(self) -> tuple[_P, ...]:
        """Those whose answers are waited for, the first one asked first."""
        return tuple(self._asked)

    @property
    def wake(self) -> float:
        """From when on another is asked, where it is due."""
        return self._wake if self._asked else 0.0

    def begin(self, able: Sequence[_P], now: float) -> _P | None:
        """Whom to ask ahead of the time when it is due; None when nobody has it."""
        return self._ask(able, now) if able else None

    def move(self, able: Sequence[_P], now: float) -> Move[_P]:
        """What to do about a thing that is due; `able` are those who may have it."""
        others = [peer for peer in able if peer not in self._asked]
        if now < self.wake or not others:
            return Move()
        give_up = None
        if self._asked:
            self._late += 1
        if len(self._asked) >= MAX_ASKED:
            give_up = next(iter(self._asked))
            self._patience.was_slow(give_up, now)
            self.failed(give_up)
        return Move(self._ask(others, now), give_up)

    def failed(self, peer: _P) -> None:
        """It delivered nothing of use; where it was the last one asked, another is asked at once."""
        if self._asked and peer == next(reversed(self._asked)):
            self._wake = 0.0
        if self._asked.pop(peer, None) is not None:
            self._patience.ended(peer)

    def delivered(self, peer: _P, now: float, took: float) -> None:
        """Its answer passed every check. Those who were asked earlier and haven't answered were slow."""
        self._patience.delivered(peer, took)
        for other in self._asked:
            if other == peer:
                break
            self._patience.was_slow(other, now)
        self.end()

    def end(self) -> None:
        """Nobody is waited for any more."""
        for peer in self._asked:
            self._patience.ended(peer)
        self._asked.clear()

    def _ask(self, peers: Sequence[_P], now: float) -> _P:
        peer = self._patience.choose(peers, now, steps_in=self._is_begun)
        self._is_begun = True
        self._asked[peer] = now
        self._wake = now + self._patience.bound_after(self._late)
        self._patience.asked(peer)
        return peer
