"""What is to be persisted, and what isn't on the disk yet (docs/protocol.md, section 13).

Accepted vertices gather here and leave in batches: with an own vertex (synced, before it is sent), before a commit
that needs them, or when too many wait. A synced batch makes every earlier one durable too.
"""

from consensus.dag.vertex import Vertex, encode_vertex
from consensus.events import CommittedSubDag, Effect, Persist, ProposalRecord, VertexRecord
from mpisa.primitives.identifiers import Epoch


class Journal:
    """Vertices to persist, the ids persisted without sync since the last synced batch, and whether a commit since then
    took one of those: the next block's cursor goes past that commit too, whether or not it made a block.
    """

    __slots__ = ("_epoch", "_limit", "_owes_sync", "_unsynced", "_waiting")

    def __init__(self, limit: int, epoch: Epoch) -> None:
        self._epoch = epoch
        self._limit = limit
        self._waiting: list[Vertex] = []
        self._unsynced: dict[bytes, None] = {}
        self._owes_sync = False

    def accepted(self, vertex: Vertex) -> None:
        """A vertex entered the graph."""
        self._waiting.append(vertex)
        self._unsynced[vertex.id] = None

    def restored(self, vertex: Vertex) -> None:
        """A vertex came from the store: written before, but it isn't known whether a power cut would still take it."""
        self._unsynced[vertex.id] = None

    def committed(self, effects: list[Effect], commit: CommittedSubDag) -> None:
        """All that waits goes before the commit; what a block builds on is durable before its cursor can be."""
        self._owes_sync = self._owes_sync or any(vertex.id in self._unsynced for vertex in commit.vertices)
        self.flush(effects, sync=self._owes_sync and commit.block is not None)

    def propose(self, effects: list[Effect], proposal: ProposalRecord) -> None:
        """One synced batch of all that waits and the proposal."""
        effects.append(Persist((*self._take(), proposal), sync=True))
        self._synced()

    def flush(self, effects: list[Effect], *, sync: bool) -> None:
        """Everything that waits, if anything does or a sync is wanted."""
        if self._waiting or (sync and self._unsynced):
            effects.append(Persist(self._take(), sync=sync))
        if sync:
            self._synced()

    def flush_full(self, effects: list[Effect]) -> None:
        """Everything that waits, once that is much."""
        if len(self._waiting) >= self._limit:
            self.flush(effects, sync=False)

    def _synced(self) -> None:
        self._unsynced.clear()
        self._owes_sync = False

    def _take(self) -> tuple[VertexRecord, ...]:
        records = tuple(
            VertexRecord(vertex.round, vertex.author, vertex.id, encode_vertex(vertex), self._epoch)
            for vertex in self._waiting
        )
        self._waiting.clear()
        return records
