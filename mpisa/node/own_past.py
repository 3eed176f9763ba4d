"""What this authority signed and doesn't remember: then it sits the epoch out (docs/protocol.md, section 13).

The engine notices own vertices that its store doesn't know while it orders. A node that comes back by certified blocks
or a snapshot hasn't ordered them: so the blocks are looked through for own vertices above the last proposal, and behind
a snapshot in an epoch that it holds no proposal of, an authority can't know what it signed in that epoch before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from mpisa.node.home import Loss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consensus.identity import Seats
    from consensus.order.ranges import CertifiedBlock
    from mpisa.node.clock import Clock
    from mpisa.node.consensus_store import ConsensusStore
    from mpisa.node.epochs import Epochs
    from mpisa.node.home import Home
    from mpisa.primitives.identifiers import Epoch

log = structlog.get_logger(__name__)


class OwnPast:
    """See the module. Belongs to the loop."""

    def __init__(self, home: Home, epochs: Epochs, vertices: ConsensusStore, identity: Seats, clock: Clock) -> None:
        self._home = home
        self._epochs = epochs
        self._vertices = vertices
        self._identity = identity
        self._clock = clock
        self._known: dict[int, str] = {}

    def is_blank(self) -> bool:
        """Whether this node has a seat in the present epoch and remembers no proposal of it: it is new to it, or has
        lost its disk.
        """
        epoch = self._epochs.next_block
        seat = self._identity.seat_in(self._epochs.record(epoch).committee)
        return seat is not None and self._vertices.proposal(epoch) is None

    def look_through(self, blocks: Sequence[CertifiedBlock]) -> None:
        """Blocks of one epoch, before they are kept: afterwards nothing would tell a restart."""
        if not blocks:
            return
        epoch = blocks[0].header.epoch
        seat = self._identity.seat_in(self._epochs.record(epoch).committee)
        if seat is None or epoch in self._known:
            return
        proposal = self._vertices.proposal(epoch)
        last = 0 if proposal is None else proposal[0]
        for block in blocks:
            for vertex in block.vertices:
                if vertex.author == seat.index and vertex.round > last:
                    self._lose(epoch, f"an own vertex of round {vertex.round} came back, the last known is {last}")
                    return

    def joined(self) -> None:
        """The ledger goes on from a snapshot."""
        epoch = self._epochs.next_block
        if epoch not in self._known and self.is_blank():
            self._lose(epoch, f"joined by a snapshot within epoch {epoch}: what was signed in it before isn't known")

    def _lose(self, epoch: Epoch, reason: str) -> None:
        self._known[epoch] = reason
        if self._epochs.lost_in(epoch) is not None:
            return  # the first reason stands
        loss = Loss(self._clock.now_ms(), reason)
        self._home.write_loss(loss)
        self._epochs.lose(loss)
        log.error("this authority sits the epoch out", epoch=epoch, reason=reason)
