"""From accepted vertices to commits: committer and linearizer in step (docs/protocol.md, sections 6 and 7).

Owns the last decided slot. Whatever order vertices come in, and however often it is asked, the same commits come out.
A commit may change the schedule: what was decided behind it counts as undecided again.
"""

from dataclasses import dataclass

from consensus.dag.committee import Committee
from consensus.dag.graph import Graph, Node
from consensus.events import CommittedSubDag
from consensus.order.checkpoint import Checkpoint
from consensus.order.committer import Committer, Conflict, Decision, Slot, Verdict
from consensus.order.linearizer import Linearizer
from consensus.order.rota import Rota
from consensus.parameters import Parameters


@dataclass(frozen=True, slots=True)
class Step:
    """A decided slot: whose it was, and the commit it made, None for a skip."""

    slot: Slot
    authority: int
    commit: CommittedSubDag | None


class Sequencer:
    """Counts vertices and emits decided slots."""

    __slots__ = ("_changed", "committer", "last_slot", "linearizer", "rota")

    def __init__(
        self, parameters: Parameters, committee: Committee, rota: Rota, graph: Graph, checkpoint: Checkpoint
    ) -> None:
        self.rota = rota
        self.committer = Committer(committee, rota.schedule, graph)
        self.linearizer = Linearizer(
            graph, committee, parameters.gc_depth, parameters.heartbeat_ms, parameters.leaders_per_round, checkpoint
        )
        leader = checkpoint.leader
        self.last_slot = None if leader is None else Slot(leader.round, checkpoint.slot)
        self._changed = False

    def add(self, node: Node) -> None:
        """Count a node just added to the graph."""
        if self.committer.add(node):
            self._changed = True

    @property
    def conflict(self) -> Conflict | None:
        """Two certified vertices in one slot, if there ever were."""
        conflicts = self.committer.conflicts
        return conflicts[0] if conflicts else None

    def advance(self) -> list[Step]:
        """The slots decided since the last call, in order; their commits are taken."""
        steps: list[Step] = []
        while self._changed:
            decisions = self.committer.decide_next(self.last_slot)
            if self.conflict is not None:
                break
            if not decisions:
                self._changed = False
            for decision in decisions:
                self.last_slot = decision.slot
                if decision.verdict is not Verdict.COMMIT:
                    steps.append(Step(decision.slot, decision.authority, None))
                    continue
                before = self.committer.schedule
                steps.append(Step(decision.slot, decision.authority, self._commit(decision)))
                if self.committer.schedule is not before:
                    break  # the decisions behind it were made under the schedule before
        return steps

    def _commit(self, decision: Decision) -> CommittedSubDag:
        """Take a commit, and change the schedule where its conduct says so."""
        assert decision.node is not None, "a commit's vertex is in the graph"
        self.last_slot, conduct = self.rota.commit(self.linearizer.checkpoint, decision.slot)
        if self.rota.schedule is not self.committer.schedule:
            self.committer.reschedule(self.rota.schedule, decision.slot.round)
        return self.linearizer.commit(decision.node, self.last_slot.number, conduct)
