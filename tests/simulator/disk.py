"""A node's disk in the simulator: what was synced survives a power cut, what wasn't may not.

Three stores, as in a real node: vertices with the last proposals; the ledger with its certificates; the state of a
snapshot on its way. A batch is taken whole or not at all; a power cut takes the batches from some point on, back to the
last synced one of its store. A ledger begins with genesis or a snapshot, and forgets its oldest blocks when told to.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from random import Random

from consensus.dag.vertex import VertexRef
from consensus.events import Persist, ProposalRecord, VertexRecord
from consensus.order.epoch import EpochStart
from mpisa.node.epoch_record import EpochRecord
from mpisa.node.home import Loss
from mpisa.node.state_reader import StateChunk
from mpisa.primitives.header import Certificate, Header
from mpisa.primitives.identifiers import Epoch
from tests.simulator.ledger import Block

LOSS_MARGIN_MS = 600
"""How far clocks may be apart: epochs that began so shortly after a loss was noticed count as begun before it."""


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
        """Lose a vertex; harmless where it isn't there."""
        if ref in self.raws:
            del self.raws[ref]
            del self.order[bisect_left(self.order, ref)]

    def prune(self, through: int) -> dict[VertexRef, bytes]:
        """Forget the rounds up to this one; what went."""
        stop = bisect_left(self.order, (through + 1,))
        gone = {ref: self.raws.pop(ref) for ref in self.order[:stop]}
        del self.order[:stop]
        return gone

    def from_round(self, first: int, rounds: int) -> list[bytes]:
        """Vertices of a range, in order."""
        low, high = (bisect_left(self.order, (number,)) for number in (first, first + rounds))
        return [self.raws[ref] for ref in self.order[low:high]]

    def all_from(self, first: int) -> list[bytes]:
        """Vertices of this round and later ones, in order."""
        return [self.raws[ref] for ref in self.order[bisect_left(self.order, (first,)) :]]


@dataclass
class Loading:
    """A snapshot's state on its way: the chunks that were verified, the first `synced` of them for good."""

    root: bytes
    chunks: list[StateChunk] = field(default_factory=list)
    synced: int = 0

    @property
    def next_path(self) -> bytes | None:
        """Where the next chunk must begin; None when all are there."""
        return self.chunks[-1].next_path if self.chunks else bytes(32)


class Disk:
    """Vertices and the last proposal by epoch; the blocks behind `base` that are kept (the last one's cursor is where
    to go on), certificates by height, where each epoch began; what was lost.
    """

    def __init__(self, first: Block) -> None:
        assert first.record is not None
        self.vertices: dict[Epoch, Vertices] = {}
        self.proposals: dict[Epoch, ProposalRecord] = {}
        self.base = first
        self.blocks: list[Block] = []
        self.certificates: dict[int, Certificate] = {}
        self.closings: dict[int, Header] = {0: first.header}
        self.starts: dict[Epoch, EpochStart] = {first.start.epoch: first.start}
        self.records: dict[Epoch, EpochRecord] = {first.start.epoch: first.record}
        self.entries: dict[Epoch, bytes] = {}
        self.loading: Loading | None = None
        self.loss: Loss | None = None
        self._unsynced: list[tuple[tuple[Epoch, VertexRef], ...]] = []
        self._unsynced_ledger: list[Block | int] = []

    # Vertices.

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

    def keep(self, epoch: Epoch, vertices: Iterable[tuple[VertexRef, bytes]]) -> None:
        """One synced batch of vertices that came with certified blocks."""
        for ref, raw in vertices:
            self.of(epoch).add(ref, raw)
        self._unsynced.clear()

    # The ledger.

    @property
    def head(self) -> Block:
        """The last executed block."""
        return self.blocks[-1] if self.blocks else self.base

    @property
    def height(self) -> int:
        """Of the last executed block."""
        return self.head.header.height

    @property
    def lowest(self) -> int:
        """Of the first block that is kept whole."""
        return (self.blocks[0].header if self.blocks else self.base.header).height + (0 if self.blocks else 1)

    @property
    def certified(self) -> int:
        """The latest height with a certificate."""
        return max(self.certificates, default=0)

    @property
    def epoch(self) -> Epoch:
        """The epoch of the next block."""
        return self.head.start.epoch

    def block(self, height: int) -> Block | None:
        """A block that is kept, or the one that the ledger began with."""
        if self.blocks and self.blocks[0].header.height <= height <= self.height:
            return self.blocks[height - self.blocks[0].header.height]
        return self.base if height == self.base.header.height else None

    def append(self, block: Block, *, sync: bool = True) -> None:
        """One batch of the ledger's store."""
        self.blocks.append(block)
        if block.record is not None:
            self.closings[block.header.height] = block.header
            self.starts[block.record.epoch], self.records[block.record.epoch] = block.start, block.record
        if sync:
            self._unsynced_ledger.clear()
        else:
            self._unsynced_ledger.append(block)

    def certify(self, height: int, certificate: Certificate) -> None:
        """Keep a certificate, not synced."""
        self.certificates[height] = certificate
        self._unsynced_ledger.append(height)

    def prune(self, through: int, gc_round: int) -> dict[Epoch, dict[VertexRef, bytes]]:
        """Forget the blocks up to this height, and the vertices up to a round of the last one's epoch, which went."""
        gone = self.blocks[: through - self.lowest + 1]
        del self.blocks[: len(gone)]
        for block in gone:
            if not block.header.closes_epoch:
                self.certificates.pop(block.header.height, None)
        epoch = gone[-1].header.epoch
        earlier = [known for known in self.vertices if known < epoch]
        return {known: self.vertices.pop(known).raws for known in earlier} | {epoch: self.of(epoch).prune(gc_round)}

    def replace(
        self,
        base: Block,
        certificates: Mapping[int, Certificate],
        closings: Mapping[int, Header],
        records: Mapping[Epoch, EpochRecord],
        starts: Mapping[Epoch, EpochStart],
        entries: Mapping[Epoch, bytes],
    ) -> None:
        """A ledger that begins with a snapshot takes the place of this one, whole."""
        self.base, self.blocks = base, []
        self.certificates, self.closings = dict(certificates), dict(closings)
        self.records, self.starts, self.entries = dict(records), dict(starts), dict(entries)
        self.loading = None
        self._unsynced_ledger.clear()

    def lost_in(self, epoch: Epoch) -> str | None:
        """Why what was signed in an epoch isn't known; None where nothing is known to be lost."""
        if self.loss is None or self.starts[epoch].time_ms > self.loss.noticed_ms + LOSS_MARGIN_MS:
            return None
        return self.loss.reason

    # Losing.

    def lose_power(self, random: Random) -> None:
        """Lose the batches behind some point of each store, none that was synced."""
        kept = random.randint(0, len(self._unsynced))
        for batch in self._unsynced[kept:]:
            for epoch, ref in batch:
                self.of(epoch).remove(ref)
        self._unsynced.clear()
        kept = random.randint(0, len(self._unsynced_ledger))
        for item in reversed(self._unsynced_ledger[kept:]):
            if isinstance(item, Block):
                self._take_back(item)
            else:
                self.certificates.pop(item, None)
        self._unsynced_ledger.clear()
        if self.loading is not None:
            del self.loading.chunks[random.randint(self.loading.synced, len(self.loading.chunks)) :]

    def _take_back(self, block: Block) -> None:
        assert self.blocks[-1] is block
        self.blocks.pop()
        if block.record is not None:
            del self.closings[block.header.height]
            del self.starts[block.record.epoch], self.records[block.record.epoch]
            self.entries.pop(block.record.epoch, None)
