"""A node's disk in the simulator: what was synced survives a power cut, what wasn't may not.

Two stores, as in a real node: vertices with the last proposals, and the ledger with its certificates. A batch is taken
whole or not at all; a power cut takes the batches from some point on, back to the last synced one of its store.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from random import Random

from consensus.dag.vertex import VertexRef
from consensus.events import Persist, ProposalRecord, VertexRecord
from mpisa.primitives.header import Certificate
from mpisa.primitives.identifiers import Epoch
from tests.simulator.ledger import Block


@dataclass
class Vertices:
    """Those of one epoch: bytes by ref, and the refs in order."""

    raws: dict[VertexRef, bytes] = field(default_factory=dict)
    order: list[VertexRef] = field(default_factory=list)

    def add(self, ref: VertexRef, raw: bytes) -> bool:
        """Keep a vertex; False where it was there."""
        if ref in self.raws:
            return False
        self.raws[ref] = raw
        insort(self.order, ref)
        return True

    def remove(self, ref: VertexRef) -> None:
        """Lose a vertex."""
        del self.raws[ref]
        del self.order[bisect_left(self.order, ref)]

    def from_round(self, first: int, rounds: int) -> list[bytes]:
        """Vertices of a range, in order."""
        low, high = (bisect_left(self.order, (number,)) for number in (first, first + rounds))
        return [self.raws[ref] for ref in self.order[low:high]]


@dataclass
class Disk:
    """Vertices and the last proposal by epoch; blocks by height (the last one's cursor is where to go on)."""

    vertices: dict[Epoch, Vertices] = field(default_factory=dict)
    proposals: dict[Epoch, ProposalRecord] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)
    certificates: dict[int, Certificate] = field(default_factory=dict)
    _unsynced: list[tuple[tuple[Epoch, VertexRef], ...]] = field(default_factory=list)
    _unsynced_certificates: list[int] = field(default_factory=list)

    def of(self, epoch: Epoch) -> Vertices:
        """The vertices of an epoch."""
        return self.vertices.setdefault(epoch, Vertices())

    def write(self, batch: Persist) -> None:
        """Perform a Persist."""
        refs = []
        for record in batch.records:
            if isinstance(record, VertexRecord):
                ref = VertexRef(record.round, record.author, record.id)
                if self.of(record.epoch).add(ref, record.raw):
                    refs.append((record.epoch, ref))
            else:
                assert batch.sync, "a proposal is always synced"
                self.proposals[record.epoch] = record
        if batch.sync:
            self._unsynced.clear()
        elif refs:
            self._unsynced.append(tuple(refs))

    def append(self, block: Block) -> None:
        """One synced batch of the ledger's store."""
        self.blocks.append(block)
        self._unsynced_certificates.clear()

    def certify(self, height: int, certificate: Certificate) -> None:
        """Keep a certificate, not synced."""
        self.certificates[height] = certificate
        self._unsynced_certificates.append(height)

    def lose_power(self, random: Random) -> None:
        """Lose the batches behind some point of each store, none that was synced."""
        kept = random.randint(0, len(self._unsynced))
        for batch in self._unsynced[kept:]:
            for epoch, ref in batch:
                self.of(epoch).remove(ref)
        self._unsynced.clear()
        kept = random.randint(0, len(self._unsynced_certificates))
        for height in self._unsynced_certificates[kept:]:
            self.certificates.pop(height, None)
        self._unsynced_certificates.clear()
