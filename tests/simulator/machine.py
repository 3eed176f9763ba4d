"""The consensus of one simulated node: the real succession of real engines, from what a disk holds."""

from collections.abc import Iterable

from consensus.dag.graph import Node as GraphNode
from consensus.dag.vertex import Vertex, VertexRef, decode_vertex
from consensus.events import StoredEpoch
from consensus.identity import Identity
from consensus.order.checkpoint import decode_cursor
from consensus.order.epoch import EpochStart, open_epochs
from consensus.parameters import Parameters
from consensus.presence import Presence
from consensus.succession import Succession, _Term
from mpisa.primitives.identifiers import Epoch
from tests.simulator.disk import Disk
from tests.simulator.ledger import Ledger


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


def cursor_of(disk: Disk, epoch: Epoch) -> bytes | None:
    """The cursor of an epoch's last executed block, None before its first."""
    head, following = disk.head, disk.records.get(Epoch(epoch + 1))
    if head.header.epoch == epoch and head.cursor:
        return head.cursor
    return None if following is None else following.closing_cursor or None


def stored_epoch(disk: Disk, parameters: Parameters, ledger: Ledger, epoch: Epoch) -> StoredEpoch:
    """What a disk holds of an epoch."""
    cursor, following = cursor_of(disk, epoch), disk.records.get(Epoch(epoch + 1))
    lowest = 0 if cursor is None else decode_cursor(cursor).gc_round(parameters.gc_depth)
    vertices = [decode_vertex(raw, parameters) for raw in disk.of(epoch).all_from(lowest)]
    closing = None if following is None else disk.closings[following.base]
    lost = disk.lost_in(epoch) if epoch in disk.starts else None
    earlier = disk.head.earlier(epoch, ledger.unbonding_ms)
    return StoredEpoch(cursor, vertices, disk.proposals.get(epoch), closing, lost, earlier)


def start_machine(
    parameters: Parameters, ledger: Ledger, identity: Identity, disk: Disk, *, shameless: bool = False
) -> Succession:
    """A succession that hasn't started yet, of all that the disk knows."""
    head = disk.head
    epochs = open_epochs(head.header, disk.starts[head.header.epoch].height, disk.certified)
    if len(epochs) > 1 and cursor_of(disk, epochs[0]) is None:
        epochs = epochs[1:]  # its blocks weren't executed here: there is nothing to serve
    stored = [(disk.starts[epoch], stored_epoch(disk, parameters, ledger, epoch)) for epoch in epochs]
    kind = ShamelessSuccession if shameless else Succession
    return kind(parameters, ledger.chain_hash, identity, stored)
