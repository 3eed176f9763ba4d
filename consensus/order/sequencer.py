"""From accepted vertices to commits: committer and linearizer in step (docs/protocol.md, sections 6 and 7).

Owns the last decided slot. Whatever order vertices come in, and however often it is asked, the same commits come out.
"""

from dataclasses import dataclass

from consensus.dag.committee import Committee
from consensus.dag.graph import Graph, Node
from consensus.events import CommittedSubDag
from consensus.order.checkpoint import Checkpoint
from consensus.order.committer import Committer, Conflict, Slot, Verdict
from consensus.order.leader import LeaderSchedule
from consensus.order.linearizer import Linearizer
from consensus.parameters import Parameters


@dataclass(frozen=True, slots=True)
class Step:
    """A decided slot: whose it was, and the commit it made, None for a skip."""

    slot: Slot
    authority: int
    commit: CommittedSubDag | None


class Sequencer:
    """Counts vertices and emits decided slots."""

    __slots__ = ("_changed", "committer", "last_slot", "linearizer")

    def __init__(
        self,
        parameters: Parameters,
        committee: Committee,
        schedule: LeaderSchedule,
        graph: Graph,
        checkpoint: Checkpoint,
    ) -> None:
        self.committer = Committer(committee, schedule, graph)
        self.linearizer = Linearizer(graph, committee, parameters.gc_depth, parameters.heartbeat_ms, checkpoint)
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
        if not self._changed or self.conflict is not None:
            return []
        self._changed = False
        steps: list[Step] = []
        for decision in self.committer.decide(self.last_slot):
            self.last_slot = decision.slot
            commit = None
            if decision.verdict is Verdict.COMMIT:
                assert decision.node is not None, "a commit's vertex is in the graph"
                commit = self.linearizer.commit(decision.node, decision.slot.number)
            steps.append(Step(decision.slot, decision.authority, commit))
        return steps
