"""The consensus of one simulated node: the real succession of real engines, from what a disk holds."""

from collections.abc import Iterable

from consensus.dag.graph import Node as GraphNode
from consensus.dag.vertex import Vertex, VertexRef, decode_vertex
from consensus.events import StoredEpoch
from consensus.identity import Identity
from consensus.order.epoch import EpochStart, open_epochs
from consensus.parameters import Parameters
from consensus.presence import Presence
from consensus.succession import Succession, _Term
from mpisa.primitives.identifiers import Epoch
from tests.simulator.disk import Disk
from tests.simulator.ledger import Block, Ledger


class Shameless(Presence):
    """A Byzantine authority goes on whatever it learns about its own key."""

    __slots__ = ()

    @property
    def absent(self) -> None:
        """It never sits out."""

    @absent.setter
    def absent(self, why: str | None) -> None:
        """Whoever says so isn't heard."""

    def restore(self, last_round: int | None, nodes: Iterable[GraphNode]) -> None:
        """Nothing to be ashamed of."""

    def observe(self, vertex: Vertex, last: VertexRef | None) -> None:
        """Nothing to learn."""


class ShamelessSuccession(Succession):
    """Of a Byzantine authority."""

    def _term(self, start: EpochStart, stored: StoredEpoch) -> _Term:
        term = super()._term(start, stored)
        term.engine._presence = Shameless(start.committee, term.engine._own)
        return term


def stored_epoch(disk: Disk, parameters: Parameters, epoch: Epoch) -> StoredEpoch:
    """What a disk holds of an epoch."""
    blocks = [block for block in disk.blocks if block.header.epoch == epoch]
    raws = disk.vertices[epoch].raws.values() if epoch in disk.vertices else ()
    closing = blocks[-1].header if blocks and blocks[-1].header.closes_epoch else None
    cursor = blocks[-1].cursor if blocks else None
    vertices = [decode_vertex(raw, parameters) for raw in raws]
    return StoredEpoch(cursor, vertices, disk.proposals.get(epoch), closing)


def start_of(disk: Disk, first: Block, epoch: int) -> EpochStart:
    """Where an epoch begins, as a node's ledger tells."""
    return next(block.start for block in (first, *disk.blocks) if block.start.epoch == epoch)


def start_machine(
    parameters: Parameters, ledger: Ledger, identity: Identity, disk: Disk, *, shameless: bool = False
) -> Succession:
    """A succession that hasn't started yet, of all that the disk knows."""
    head = disk.blocks[-1] if disk.blocks else ledger.first
    base = start_of(disk, ledger.first, head.header.epoch).height
    epochs = open_epochs(head.header, base, max(disk.certificates, default=0))
    stored = [(start_of(disk, ledger.first, epoch), stored_epoch(disk, parameters, epoch)) for epoch in epochs]
    eras = {epoch: era for epoch, era in head.eras.items() if epoch < epochs[0]}
    kind = ShamelessSuccession if shameless else Succession
    return kind(parameters, ledger.chain_hash, identity, stored, eras)
