"""The rota: whose leader slots these are now (docs/protocol.md, section 5).

The epoch's schedule, and in place of those suspended whoever the draws name. It changes only at a commit: the slots of
the rounds above its leader are judged anew, what is left of its own round is void. (The row of that round may come out
in another order, and an authority whose vertex was committed must not lead again.) Whoever knows a checkpoint and the
leaders of the commits behind it can follow: no vertex is needed.
"""

from collections.abc import Iterator

from consensus.dag.committee import Committee
from consensus.order.checkpoint import Checkpoint
from consensus.order.committer import Slot
from consensus.order.conduct import Conduct, judge, suspended
from consensus.order.leader import LeaderSchedule, Substituted, schedule_for
from consensus.parameters import Parameters


class Rota:
    """Behind a checkpoint: `schedule` is the one in force, `suspended` who has no slots in it."""

    __slots__ = ("_anchor", "_base", "_chain_hash", "_committee", "_parameters", "schedule", "suspended")

    schedule: LeaderSchedule

    def __init__(
        self, parameters: Parameters, committee: Committee, chain_hash: bytes, anchor: bytes, checkpoint: Checkpoint
    ) -> None:
        self._parameters = parameters
        self._committee = committee
        self._chain_hash = chain_hash
        self._anchor = anchor
        self._base = schedule_for(committee, chain_hash, anchor, parameters.leaders_per_round)
        self.suspended: frozenset[int] = frozenset()
        self.schedule = self._base
        self._set(suspended(checkpoint.conduct, checkpoint.index))

    def slot_of(self, round_number: int, author: int) -> Slot | None:
        """The author's slot of the round, None if it has none."""
        row = self.schedule.leaders(round_number)
        return Slot(round_number, row.index(author)) if author in row else None

    def commit(self, before: Checkpoint, slot: Slot) -> tuple[Slot, Conduct]:
        """The slot of the commit behind `before` was committed: the last slot that is settled with it, and the
        conduct. `schedule` is the next one from here on.
        """
        row = self.schedule.leaders(slot.round)
        index = before.index + 1
        missed = self._missed(before, slot)
        conduct = judge(before.conduct, missed, row[slot.number], index, self._committee.powers, self._parameters)
        if self._set(suspended(conduct, index)):
            return Slot(slot.round, min(self._parameters.leaders_per_round, len(self._committee)) - 1), conduct
        return slot, conduct

    def _missed(self, before: Checkpoint, slot: Slot) -> Iterator[int]:
        """Who led the slots skipped before this one: those since the last commit, of the last G rounds at most."""
        last = Slot(0, 0) if before.leader is None else Slot(before.leader.round, before.slot)
        for round_number in range(max(last.round, slot.round - self._parameters.gc_depth, 1), slot.round + 1):
            for number, author in enumerate(self.schedule.leaders(round_number)):
                if last < (round_number, number) < slot:
                    yield author

    def _set(self, out: frozenset[int]) -> bool:
        """Take these off the schedule; whether that changes it."""
        if out == self.suspended:
            return False
        self.suspended = out
        self.schedule = (
            Substituted(self._base, self._chain_hash, self._anchor, self._committee.powers, out) if out else self._base
        )
        return True
