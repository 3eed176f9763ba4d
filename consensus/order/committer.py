"""The commit rule: the verdict on each leader slot, a pure and idempotent function of the DAG (docs/protocol.md,
section 6).

Participants: slots (round, k) of a leader schedule, votes in the round above, certificates two rounds above. A slot
is committed or skipped directly by a quorum of authors, else indirectly by the first later slot that isn't skipped
and stands at least a wave above. The longest decided prefix is emitted. Arrival order doesn't matter: what `add`
keeps are tallies of the DAG, filled once a vertex and read by `decide`, which can be called at any time, any number
of times. When the schedule changes, the tallies of the rows that came out otherwise are filled anew from the graph.

Two certified vertices in one slot can't happen while less than a third of stake is faulty: they are kept as
conflicts, and the node halts on them.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from consensus.dag.committee import Committee
from consensus.dag.graph import Graph, Node
from consensus.order.leader import LeaderSchedule
from consensus.parameters import WAVE_ROUNDS


class Slot(NamedTuple):
    """A leader slot; slots are decided in ascending order."""

    round: int
    number: int


class Verdict(StrEnum):
    """What became of a slot."""

    COMMIT = "commit"
    SKIP = "skip"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict on a slot; node is the committed vertex, None for a skip."""

    slot: Slot
    authority: int
    verdict: Verdict
    node: Node | None


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two vertices of one slot with certificates: ids ascending."""

    slot: Slot
    authority: int
    vertices: tuple[bytes, bytes]


class _Support:
    """The certificates of one vertex: who holds one (stake by author), and all nodes that are one."""

    __slots__ = ("authors", "nodes", "stake")

    def __init__(self) -> None:
        self.authors: set[int] = set()
        self.nodes: dict[bytes, Node] = {}
        self.stake = 0


class _Tally:
    """What the two rounds above say about a slot."""

    __slots__ = ("authority", "blamers", "blaming_stake", "committed", "skipped", "supports")

    def __init__(self, authority: int) -> None:
        self.authority = authority
        self.blamers: set[int] = set()
        self.blaming_stake = 0
        self.supports: dict[bytes, _Support] = {}
        self.skipped = False
        self.committed: bytes | None = None


_SPAN_ROUNDS: Final = 32
_State = tuple[Verdict, bytes | None]
_SKIP: _State = (Verdict.SKIP, None)
_UNDECIDED: _State = (Verdict.UNDECIDED, None)


class Committer:
    """Tallies of a graph under one schedule."""

    __slots__ = ("_committee", "_graph", "_schedule", "_settled", "_tallies", "conflicts")

    def __init__(self, committee: Committee, schedule: LeaderSchedule, graph: Graph) -> None:
        self._committee = committee
        self._schedule = schedule
        self._graph = graph
        self._tallies: dict[int, tuple[_Tally, ...]] = {}
        self._settled = 0
        self.conflicts: list[Conflict] = []

    @property
    def schedule(self) -> LeaderSchedule:
        """The schedule in force."""
        return self._schedule

    def reschedule(self, schedule: LeaderSchedule, behind: int) -> None:
        """Another schedule is in force for the rounds above `behind`."""
        self._schedule = schedule
        for number in [number for number in self._tallies if number > behind]:
            if tuple(tally.authority for tally in self._tallies[number]) != schedule.leaders(number):
                del self._tallies[number]

    def add(self, node: Node) -> bool:
        """Count a node just added to the graph, twice does no harm; whether some slot is directly decided that wasn't
        before.
        """
        before = self._settled
        if node.round > 1 and node.round - 1 > self._graph.pruned_round:
            self._blame(node)
        if node.round > 2 and node.round - 2 > self._graph.pruned_round:
            self._certify(node)
        return self._settled > before

    def _blame(self, node: Node) -> None:
        for tally in self._at(node.round - 1):
            if tally.authority in node.votes or node.author in tally.blamers:
                continue
            tally.blamers.add(node.author)
            tally.blaming_stake += self._committee.powers[node.author]
            if not tally.skipped and self._committee.is_quorum(tally.blaming_stake):
                tally.skipped = True
                self._settled += 1

    def _certify(self, node: Node) -> None:
        get, powers = self._graph.get, self._committee.powers
        voters = [
            (powers[author], voter.votes) for author, id_ in node.votes.items() if (voter := get(id_)) is not None
        ]
        for index, tally in enumerate(self._at(node.round - 2)):
            authority = tally.authority
            stakes: dict[bytes, int] = {}
            for power, votes in voters:
                choice = votes.get(authority)
                if choice is not None:
                    stakes[choice] = stakes.get(choice, 0) + power
            for choice, stake in stakes.items():
                if self._committee.is_quorum(stake):
                    self._support(Slot(node.round - 2, index), tally, choice, node)

    def _support(self, slot: Slot, tally: _Tally, choice: bytes, certificate: Node) -> None:
        support = tally.supports.get(choice)
        if support is None:
            for other in tally.supports:
                first, second = sorted((other, choice))
                self.conflicts.append(Conflict(slot, tally.authority, (first, second)))
            support = tally.supports[choice] = _Support()
        support.nodes[certificate.id] = certificate
        if certificate.author in support.authors:
            return
        support.authors.add(certificate.author)
        support.stake += self._committee.powers[certificate.author]
        if tally.committed is None and self._committee.is_quorum(support.stake):
            tally.committed = choice
            self._settled += 1

    def decide(self, after: Slot | None) -> list[Decision]:
        """The longest decided prefix of the slots behind `after` (None: from the first), in ascending order."""
        return self._decide(after, self._graph.highest_round - 1)

    def decide_next(self, after: Slot | None) -> list[Decision]:
        """A decided prefix, empty only where the longest is: a caller that goes on behind it sees every decision.

        Only so many rounds are judged as it takes, so that thousands that wait cost no more each than a few.
        """
        highest = self._graph.highest_round - 1
        span = _SPAN_ROUNDS
        while True:
            horizon = min(highest, (0 if after is None else after.round) + span)
            decisions = self._decide(after, horizon)
            if decisions or horizon == highest:
                return decisions
            span *= 2

    def verdicts(self, first: int) -> dict[int, list[Decision]]:
        """What the slots of each round from this one on come out as now, under the schedule each was judged by."""
        states = self._states(first, self._graph.highest_round - 1)
        return {
            number: [
                Decision(Slot(number, place), tally.authority, verdict, self._graph.get(vertex) if vertex else None)
                for place, (tally, (verdict, vertex)) in enumerate(zip(self._at(number), row, strict=True))
            ]
            for number, row in states.items()
        }

    def _states(self, first: int, highest: int) -> dict[int, list[_State]]:
        """The states of all slots from round `first` to `highest`."""
        states: dict[int, list[_State]] = {}
        anchors: dict[int, _State] = {}  # by round: the first state at that round or above that isn't a skip
        for round_number in range(highest, first - 1, -1):
            anchor = anchors.get(round_number + WAVE_ROUNDS, _UNDECIDED)
            tallies = self._at(round_number)
            row = [self._judge(tally, round_number, anchor) for tally in tallies]
            states[round_number] = row
            anchors[round_number] = next(
                (state for state in row if state[0] is not Verdict.SKIP), anchors.get(round_number + 1, _UNDECIDED)
            )
        return states

    def _decide(self, after: Slot | None, highest: int) -> list[Decision]:
        first = after.round if after is not None else 1
        states = self._states(first, highest)
        decisions: list[Decision] = []
        for round_number in range(first, highest + 1):
            for index, (verdict, vertex) in enumerate(states[round_number]):
                slot = Slot(round_number, index)
                if after is not None and slot <= after:
                    continue
                if verdict is Verdict.UNDECIDED:
                    return decisions
                node = self._graph.get(vertex) if vertex is not None else None
                decisions.append(Decision(slot, self._at(round_number)[index].authority, verdict, node))
        return decisions

    def _judge(self, tally: _Tally, round_number: int, anchor: _State) -> _State:
        """Direct if possible, else by the anchor: the first later slot a wave above that isn't skipped."""
        if tally.skipped:
            return _SKIP
        if tally.committed is not None:
            return (Verdict.COMMIT, tally.committed)
        if anchor[0] is not Verdict.COMMIT:
            return _UNDECIDED
        if tally.supports:
            assert anchor[1] is not None, "a commit names its vertex"
            reached = self._ancestors(anchor[1], round_number + WAVE_ROUNDS - 1)
            for choice in sorted(tally.supports):
                if not reached.isdisjoint(tally.supports[choice].nodes):
                    return (Verdict.COMMIT, choice)
        return _SKIP

    def _ancestors(self, anchor: bytes, round_number: int) -> set[bytes]:
        """Ids of the anchor's ancestors down to the round; only membership is ever asked of the result."""
        reached = {anchor}
        waiting = [anchor]
        while waiting:
            node = self._graph.get(waiting.pop())
            assert node is not None, "the graph is causally closed above what was pruned"
            for ref in node.parents:
                if ref.round >= round_number and ref.id not in reached:
                    reached.add(ref.id)
                    waiting.append(ref.id)
        return reached

    def votes_settled(self, round_number: int, index: int = 0) -> bool:
        """Whether the slot's vertex has a quorum of votes among the vertices above, or can no longer get one: an author
        that is higher already without a vertex there won't vote.
        """
        leaders = self._schedule.leaders(round_number)
        if index >= len(leaders):
            return True
        stakes: dict[bytes | None, int] = {}
        for author in self._graph.authors_at(round_number + 1):
            choice = self._graph.at(round_number + 1, author)[0].votes.get(leaders[index])
            stakes[choice] = stakes.get(choice, 0) + self._committee.powers[author]
        unseen = sum(
            power
            for author, power in enumerate(self._committee.powers)
            if not self._graph.at(round_number + 1, author) and self._graph.latest_round(author) <= round_number
        )
        best = max((stake for choice, stake in stakes.items() if choice is not None), default=0)
        return self._committee.is_quorum(best) or not self._committee.is_quorum(best + unseen)

    def prune(self, through: int) -> None:
        """Forget the tallies of rounds up to and including `through`."""
        for round_number in [number for number in self._tallies if number <= through]:
            del self._tallies[round_number]

    def _at(self, round_number: int) -> tuple[_Tally, ...]:
        tallies = self._tallies.get(round_number)
        if tallies is None:
            tallies = tuple(_Tally(authority) for authority in self._schedule.leaders(round_number))
            self._tallies[round_number] = tallies
            for node in self._graph.nodes_at(round_number + 1):
                self._blame(node)
            for node in self._graph.nodes_at(round_number + 2):
                self._certify(node)
        return tallies


def conflicts_after(committer: Committer, after: Slot | None) -> list[Conflict]:
    """The conflicts in slots behind `after`, ascending."""
    behind = [item for item in committer.conflicts if after is None or item.slot > after]
    return sorted(behind, key=lambda item: (item.slot, item.vertices))
