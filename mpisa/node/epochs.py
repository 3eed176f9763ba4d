"""Epochs as this node's stores know them: where each began, and what is kept of it (docs/protocol.md, section 16).

Where what is kept of an epoch that is over, and only served, turns out damaged, the node starts with the running one
alone, and gives nobody what it has of the other. What is kept of the running epoch must be whole.

A loss that a repair recorded counts for every epoch that began before it was noticed: in any of those this authority
may have signed what it doesn't remember. A later one it enters as everybody does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from consensus.dag.vertex import decode_vertex
from consensus.events import ProposalRecord, StoredEpoch
from consensus.order.checkpoint import decode_cursor
from consensus.order.epoch import EpochStart, open_epochs, start_behind
from consensus.succession import Succession
from mpisa.node.eras import StoredEras
from mpisa.primitives.errors import NotFound, Rejection, StoreDamaged
from mpisa.primitives.identifiers import Epoch, Round

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from consensus.dag.vertex import Vertex
    from consensus.identity import Seats
    from consensus.parameters import Parameters
    from mpisa.node.chain_store import ChainStore
    from mpisa.node.consensus_store import ConsensusStore
    from mpisa.node.epoch_record import EpochRecord
    from mpisa.node.home import Loss

MAX_RECOVERED_ROUNDS = 2_048
"""Rounds above the ledger's GC round that an engine is given at its start."""

CLOCK_MARGIN_MS = 600_000
"""How far our clock may have been behind the others' when a loss was noticed."""

log = structlog.get_logger(__name__)


class Epochs:
    """See the module. Writes nothing but which epoch is withheld; any thread."""

    def __init__(
        self,
        store: ChainStore,
        vertices: ConsensusStore,
        parameters: Parameters,
        identity: Seats,
        loss: Loss | None,
    ) -> None:
        self._store = store
        self._vertices = vertices
        self._parameters = parameters
        self._identity = identity
        self._loss = loss

    def lose(self, loss: Loss) -> None:
        """A loss that was noticed while the node runs."""
        self._loss = loss

    @property
    def next_block(self) -> Epoch:
        """The epoch in which the block above the latest executed one will be made."""
        head = self._store.header(self._store.height)
        return Epoch(head.epoch + 1) if head.closes_epoch else head.epoch

    def record(self, epoch: int) -> EpochRecord:
        """Its validators. Raises NotFound."""
        return self._store.epoch(epoch)

    def start_of(self, epoch: Epoch) -> EpochStart:
        """Where an epoch began. Raises NotFound."""
        record = self._store.epoch(epoch)
        return start_behind(self._store.header(record.base), record.committee)

    def cursor_of(self, epoch: Epoch) -> bytes | None:
        """The cursor of the epoch's last executed block, None before its first."""
        cursor = self._store.cursor
        if cursor is not None and decode_cursor(cursor).epoch == epoch:
            return cursor
        try:
            return self._store.epoch(epoch + 1).closing_cursor or None
        except NotFound:
            return None

    def lowest_round(self, epoch: Epoch) -> int:
        """Vertices of the epoch up to this round aren't needed any more."""
        cursor = self.cursor_of(epoch)
        return 0 if cursor is None else decode_cursor(cursor).gc_round(self._parameters.gc_depth)

    def lost_in(self, epoch: Epoch) -> str | None:
        """Why what was signed in this epoch isn't known; None where nothing is known to be lost."""
        loss = self._loss
        if loss is None or self.start_of(epoch).time_ms > loss.noticed_ms + CLOCK_MARGIN_MS:
            return None
        return loss.reason

    def stored(self, epoch: Epoch) -> StoredEpoch:
        """What an engine of the epoch begins with."""
        proposal = self._vertices.proposal(epoch)
        try:
            closing = self._store.header(self._store.epoch(epoch + 1).base)
        except NotFound:
            closing = None
        return StoredEpoch(
            self.cursor_of(epoch),
            list(self._kept(epoch)),
            None if proposal is None else ProposalRecord(Round(proposal[0]), proposal[1], epoch),
            closing,
            self.lost_in(epoch),
            StoredEras(self._store, epoch),
        )

    def _kept(self, epoch: Epoch) -> Iterator[Vertex]:
        """Verified before they were kept. Where the ledger couldn't be brought near the latest of them, something is
        missing in between: those far above come again from the peers.
        """
        lowest = self.lowest_round(epoch)
        for raw in self._vertices.all_from(epoch, lowest):
            vertex = decode_vertex(raw, self._parameters)
            if vertex.round > lowest + MAX_RECOVERED_ROUNDS:
                return
            yield vertex

    def recover(self) -> Succession:
        """The succession at the latest executed block; without the epoch that is merely served, where what is kept of
        that is damaged: it is withheld then. Raises StoreDamaged, Rejection, DiskFull.
        """
        epochs = self._open_epochs()
        try:
            return self._succession(epochs)
        except (StoreDamaged, Rejection) as damage:
            if len(epochs) == 1:
                raise
            alone = self._succession(epochs[1:])  # raises where it is the running epoch that is damaged
            self._vertices.withhold(epochs[0], str(damage))
            log.error(
                "what is kept of an epoch that is over is damaged: others get none of it from here",
                epoch=epochs[0],
                damage=str(damage),
                hint="`mpisa node verify` looks through the stores, `mpisa node repair` mends them",
            )
            return alone

    def check(self) -> None:
        """Whether all that is open leads to what was executed, of the epoch that is merely served too. Raises
        StoreDamaged, Rejection.
        """
        self._succession(self._open_epochs())

    def _open_epochs(self) -> tuple[Epoch, ...]:
        head = self._store.header(self._store.height)
        base = self._store.epoch(head.epoch).base
        epochs = open_epochs(head, base, self._store.certified_height)
        if len(epochs) > 1 and self.cursor_of(epochs[0]) is None:
            return epochs[1:]  # its blocks weren't executed here: there is nothing to serve
        return epochs

    def _succession(self, epochs: Sequence[Epoch]) -> Succession:
        return Succession(
            self._parameters,
            self._store.header(0).chain_hash,
            self._identity,
            [(self.start_of(epoch), self.stored(epoch)) for epoch in epochs],
        )
