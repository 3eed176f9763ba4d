"""Leader schedules: who holds the leader slots of a round (docs/protocol.md, section 5).

A schedule is an argument of the commit rule. With equal power slot k of round r belongs to authority (r + k) mod n.
With unequal power round robin can halt for good, so slots are drawn by stake from a hash that nobody can aim. Round
robin over fewer authorities than the committee has can halt too (three that lead in turn meet a wave of three rounds:
one of them would have slot 0 wherever an undecided slot looks), so the slots of suspended authorities are drawn one by
one, and all other slots stay where they are.
"""

from collections.abc import Sequence, Set
from typing import Protocol

from consensus.dag.committee import Committee
from mpisa.primitives.digest import sha256, tag_prefix

_SCHEDULE_CACHE = 4_096
MAX_DRAWS = 64


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
    """For unequal power: each draw is a hash modulo total power, read along cumulative power, repeats skipped.

    A round in which `MAX_DRAWS` draws name too few authorities has fewer slots: next to a stake that is nearly all,
    waiting for another name could take for ever.
    """

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
        for attempt in range(MAX_DRAWS):
            point = int.from_bytes(sha256(prefix, attempt.to_bytes(8, "big")), "big") % self._total
            authority = _authority_at(self._powers, point)
            if authority not in drawn:
                drawn.append(authority)
                if len(drawn) == self._slots:
                    break
        return tuple(drawn)


class Substituted:
    """Another schedule in which each slot of a suspended authority goes to one drawn by stake among those who are
    neither suspended nor lead that round already; without any such the slot falls away.
    """

    __slots__ = ("_base", "_cache", "_powers", "_prefix", "_suspended")

    def __init__(
        self, base: LeaderSchedule, chain_hash: bytes, anchor: bytes, powers: Sequence[int], suspended: Set[int]
    ) -> None:
        self._base = base
        self._prefix = tag_prefix("substitute") + chain_hash + anchor
        self._powers = tuple(powers)
        self._suspended = frozenset(suspended)
        self._cache: dict[int, tuple[int, ...]] = {}

    def leaders(self, round_number: int) -> tuple[int, ...]:
        """The base's row with its suspended authorities replaced."""
        known = self._cache.get(round_number)
        if known is None:
            if len(self._cache) >= _SCHEDULE_CACHE:
                self._cache.clear()
            known = self._cache[round_number] = self._replace(round_number, self._base.leaders(round_number))
        return known

    def _replace(self, round_number: int, row: tuple[int, ...]) -> tuple[int, ...]:
        taken = {*row, *self._suspended}
        leaders: list[int] = []
        for slot, authority in enumerate(row):
            if authority not in self._suspended:
                leaders.append(authority)
                continue
            free = tuple(0 if other in taken else power for other, power in enumerate(self._powers))
            if any(free):
                digest = sha256(self._prefix, round_number.to_bytes(8, "big"), slot.to_bytes(8, "big"))
                substitute = _authority_at(free, int.from_bytes(digest, "big") % sum(free))
                taken.add(substitute)
                leaders.append(substitute)
        return tuple(leaders)


def _authority_at(powers: Sequence[int], point: int) -> int:
    """Whose share of cumulative power the point lies in."""
    for authority, power in enumerate(powers):
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
