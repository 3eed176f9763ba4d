"""Leader schedules: who holds the leader slots of a round (docs/protocol.md, section 5).

A schedule is an argument of the commit rule. With equal power slot k of round r belongs to authority (r + k) mod n.
With unequal power round robin can halt for good, so slots are drawn by stake from a hash that nobody can aim.
"""

from collections.abc import Sequence
from typing import Protocol

from consensus.dag.committee import Committee
from mpisa.primitives.digest import sha256, tag_prefix

_SCHEDULE_CACHE = 4_096


class LeaderSchedule(Protocol):
    """The authorities of a round's leader slots, slot 0 first, no authority twice."""

    def leaders(self, round_number: int) -> tuple[int, ...]:
        """The leaders of a round from 1; empty where there are none."""
        ...


class RoundRobin:
    """For equal power."""

    __slots__ = ("_count", "_slots")

    def __init__(self, count: int, slots: int) -> None:
        self._count = count
        self._slots = min(slots, count)

    def leaders(self, round_number: int) -> tuple[int, ...]:
        """(round + slot) mod n."""
        return tuple((round_number + slot) % self._count for slot in range(self._slots))


class DrawnByStake:
    """For unequal power: each draw is a hash modulo total power, read along cumulative power, repeats skipped."""

    __slots__ = ("_cache", "_powers", "_prefix", "_slots", "_total")

    def __init__(self, chain_hash: bytes, anchor: bytes, powers: Sequence[int], slots: int) -> None:
        self._prefix = tag_prefix("leader") + chain_hash + anchor
        self._powers = tuple(powers)
        self._total = sum(powers)
        self._slots = min(slots, len(powers))
        self._cache: dict[int, tuple[int, ...]] = {}

    def leaders(self, round_number: int) -> tuple[int, ...]:
        """The first distinct authorities drawn for the round."""
        known = self._cache.get(round_number)
        if known is None:
            if len(self._cache) >= _SCHEDULE_CACHE:
                self._cache.clear()
            known = self._cache[round_number] = self._draw(round_number)
        return known

    def _draw(self, round_number: int) -> tuple[int, ...]:
        prefix = self._prefix + round_number.to_bytes(8, "big")
        drawn: list[int] = []
        attempt = 0
        while len(drawn) < self._slots:
            point = int.from_bytes(sha256(prefix, attempt.to_bytes(8, "big")), "big") % self._total
            attempt += 1
            authority = self._at(point)
            if authority not in drawn:
                drawn.append(authority)
        return tuple(drawn)

    def _at(self, point: int) -> int:
        for authority, power in enumerate(self._powers):
            if point < power:
                return authority
            point -= power
        raise AssertionError("a point below total power lies with some authority")


class Listed:
    """A schedule written out: the leaders of rounds 1, 2, ...; none beyond."""

    __slots__ = ("_rounds",)

    def __init__(self, rounds: Sequence[Sequence[int]]) -> None:
        self._rounds = tuple(tuple(leaders) for leaders in rounds)

    def leaders(self, round_number: int) -> tuple[int, ...]:
        """As listed."""
        return self._rounds[round_number - 1] if round_number <= len(self._rounds) else ()


def schedule_for(committee: Committee, chain_hash: bytes, anchor: bytes, slots: int) -> LeaderSchedule:
    """The schedule that a committee uses in the epoch that begins behind the closing header `anchor`."""
    if committee.has_equal_power():
        return RoundRobin(len(committee), slots)
    return DrawnByStake(chain_hash, anchor, committee.powers, slots)
