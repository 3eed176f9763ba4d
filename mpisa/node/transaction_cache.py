"""What was decoded and found well signed at the door is remembered until it is executed, so that a node does it once.

A remembered transaction stands under its raw bytes: the same body with another signature has the same hash, and is
another question.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from mpisa.node.stages import Stage, Stages
from mpisa.primitives.transaction import decode_transaction

if TYPE_CHECKING:
    from mpisa.primitives.keys import PublicKey
    from mpisa.primitives.transaction import SignedTransaction

MAX_REMEMBERED = 16_384
"""Transactions, of some 2 KiB each; what is forgotten is decoded and verified once more."""


class TransactionCache:
    """The door (one thread) calls `check` and `keep`; execution (one thread) calls `decode`, then `check_last`."""

    def __init__(self, bound: int = MAX_REMEMBERED, stages: Stages | None = None) -> None:
        self._bound = bound
        self._stages = stages or Stages()
        self._kept: OrderedDict[bytes, tuple[SignedTransaction, PublicKey]] = OrderedDict()
        self._checked: tuple[SignedTransaction, PublicKey] | None = None
        self._decoded: tuple[SignedTransaction, PublicKey] | None = None

    def __len__(self) -> int:
        return len(self._kept)

    def check(self, signed: SignedTransaction, key: PublicKey) -> bool:
        """Whether this key signed (ledger.transition.SignatureCheck)."""
        self._checked = None
        if not self._verify(signed, key):
            return False
        self._checked = signed, key
        return True

    def keep(self, raw: bytes, signed: SignedTransaction) -> None:
        """The transaction that was checked last is pooled: these are its bytes."""
        checked = self._checked
        if checked is not None and checked[0] is signed:
            self._kept[raw] = checked
            while len(self._kept) > self._bound:
                self._kept.popitem(last=False)

    def decode(self, raw: bytes) -> SignedTransaction:
        """decode_transaction (ledger.transition.TransactionDecoder), where it won't be asked for again."""
        self._decoded = self._kept.pop(raw, None)
        return decode_transaction(raw) if self._decoded is None else self._decoded[0]

    def check_last(self, signed: SignedTransaction, key: PublicKey) -> bool:
        """Whether this key signed what was decoded last."""
        known = self._decoded
        if known is not None and known[0] is signed and known[1] == key:
            return True
        return self._verify(signed, key)

    def _verify(self, signed: SignedTransaction, key: PublicKey) -> bool:
        sample = self._stages.sample(Stage.SIGNATURES)
        if sample is None:
            return signed.verify(key)
        with sample:
            return signed.verify(key)
