"""A node's disk in the simulator: what was synced survives a power cut, what wasn't may not."""

from dataclasses import dataclass, field
from random import Random

from consensus.dag.vertex import VertexRef
from consensus.events import Persist, ProposalRecord, VertexRecord


@dataclass
class Disk:
    """Vertices by ref, the last proposal, and the ledger's side: the cursor of the last block and its chain."""

    vertices: dict[VertexRef, bytes] = field(default_factory=dict)
    unsynced: list[VertexRef] = field(default_factory=list)
    proposal: ProposalRecord | None = None
    cursor: bytes | None = None
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)

    def write(self, batch: Persist) -> None:
        """Perform a Persist."""
        for record in batch.records:
            if isinstance(record, VertexRecord):
                ref = VertexRef(record.round, record.author, record.id)
                self.vertices[ref] = record.raw
                self.unsynced.append(ref)
            else:
                assert batch.sync, "a proposal is always synced"
                self.proposal = record
        if batch.sync:
            self.unsynced.clear()

    def lose_power(self, random: Random) -> None:
        """Lose a tail of the batches that weren't synced."""
        kept = random.randint(0, len(self.unsynced))
        for ref in self.unsynced[kept:]:
            del self.vertices[ref]
        self.unsynced.clear()

    def from_round(self, first: int, rounds: int) -> list[bytes]:
        """Vertices of a range, in order."""
        return [self.vertices[ref] for ref in sorted(self.vertices) if first <= ref.round < first + rounds]
