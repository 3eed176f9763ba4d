"""Conduct: which authorities lose their leader slots for a while (docs/protocol.md, section 5).

A rule on committed history alone. Every slot between two commits was skipped, so the sequence of commits says who
missed how many slots. A skip gives two points, a commit takes one back; whoever reaches the limit is suspended for a
named number of commits and comes back on probation: one more skip suspends again, a few commits wipe it out. An
authority that misses less than a third of its slots drifts towards no points at all.

Never is as much suspended as a third of stake, so those who lead are a quorum, and more than half of their stake is
honest whoever else is Byzantine. All of this is at most three numbers an authority: it travels in the cursor, and the
window root binds it.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from consensus.parameters import Parameters
from mpisa.primitives.digest import ZERO_DIGEST, tagged

SKIP_POINTS: Final = 2
COMMIT_POINTS: Final = 1


class Record(NamedTuple):
    """What is held against an authority: points, and the commit index up to which it is suspended (0: it isn't)."""

    author: int
    points: int
    until: int


Conduct = tuple[Record, ...]
"""Records by ascending author; none for an authority without points that isn't suspended."""


def points_limit(parameters: Parameters) -> int:
    """The points at which an authority is suspended."""
    return SKIP_POINTS * parameters.suspension_skips


def suspended(conduct: Conduct, index: int) -> frozenset[int]:
    """Who has no leader slots behind the commit of this index."""
    return frozenset(record.author for record in conduct if record.until > index)


def judge(
    conduct: Conduct, missed: Iterable[int], leader: int, index: int, powers: Sequence[int], parameters: Parameters
) -> Conduct:
    """The conduct behind the commit of this index: `missed` led the slots skipped since the last, in order, `leader`
    the one committed.
    """
    if parameters.suspension_commits == 0:
        return ()
    limit = points_limit(parameters)
    out = set(suspended(conduct, index))
    stake_out = sum(powers[author] for author in out)
    points = {record.author: record.points for record in conduct}
    until = {record.author: record.until for record in conduct if record.author in out}
    for author in missed:
        if author in out:
            continue
        points[author] = min(points.get(author, 0) + SKIP_POINTS, limit)
        if points[author] == limit and 3 * (stake_out + powers[author]) < sum(powers):
            points[author] = limit - SKIP_POINTS
            until[author] = index + parameters.suspension_commits
            out.add(author)
            stake_out += powers[author]
    if leader not in out:
        points[leader] = max(points.get(leader, 0) - COMMIT_POINTS, 0)
    records = (Record(author, points[author], until.get(author, 0)) for author in sorted(points))
    return tuple(record for record in records if record.points or record.until)


def conduct_root(conduct: Conduct) -> bytes:
    """What the window root says of it: zero for none."""
    if not conduct:
        return ZERO_DIGEST
    return tagged("conduct", *(number.to_bytes(8, "big") for record in conduct for number in record))
