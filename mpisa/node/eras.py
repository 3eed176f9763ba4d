"""The epochs of which evidence is still admissible, out of the chain store (docs/protocol.md, section 8).

Records of epochs and the headers that closed them are kept for ever, by nodes that joined from a snapshot too, so
nothing has to be remembered here. How long stake answers is read where the ledger reads it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from consensus.dag.judging import Era, is_admissible
from mpisa.ledger.parameters import read_parameters

if TYPE_CHECKING:
    from mpisa.node.chain_store import ChainStore
    from mpisa.primitives.identifiers import Epoch


class StoredEras:
    """`EarlierEras` of an epoch. A lookup reads two records and a header: any thread. Raises StoreDamaged."""

    def __init__(self, store: ChainStore, epoch: int) -> None:
        """Raises NotFound for an epoch that hasn't begun here."""
        record = store.epoch(epoch)
        self._store = store
        self._epoch, self._base = record.epoch, record.base
        self._opened_ms = store.reread_header(record.base).time_ms
        self._unbonding_ms = read_parameters(store).staking.unbonding_ms

    def era_of(self, epoch: int) -> Era | None:
        """As EarlierEras."""
        if not 0 <= epoch < self._epoch:
            return None
        record, last = self._store.epoch(epoch), self._store.epoch(epoch + 1).base
        closed_ms = self._store.reread_header(last).time_ms
        if not is_admissible(closed_ms, self._opened_ms, self._unbonding_ms):
            return None
        return Era(record.committee, record.base + 1, last)

    def epoch_at(self, height: int) -> Epoch | None:
        """As EarlierEras."""
        return self._store.epoch_at(height) if 0 < height <= self._base else None
