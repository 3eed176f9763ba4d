"""Receipts: the outcome of every transaction in a chain block, applied or rejected with a reason.

`encode` is what the header's receipts root commits to. It leaves `detail` out: those are words for people, and two
versions of the software that word a rejection differently must still agree on the chain.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from mpisa.primitives import codec
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.record import MAX_U64

MAX_DETAIL_LENGTH: Final = 240
MAX_RECEIPT_BYTES: Final = 2_048


class ReceiptStatus(StrEnum):
    """Whether a transaction's operations took effect."""

    APPLIED = "applied"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Receipt:
    """The outcome of one transaction.

    `tx_hash` is the transaction's hash once its signature was found good; before that it is the raw_hash of its bytes,
    so that nobody can put a rejection under another's hash by copying the body with a false signature or as a preimage.
    `nonce_used` marks a final outcome, of which a hash has at most one, ever. `fee` is what was burned.
    """

    tx_hash: bytes
    status: ReceiptStatus
    reason: RejectionReason | None = None
    detail: str = ""
    nonce_used: bool = False
    fee: int = 0

    def encode(self) -> bytes:
        """The bytes that every node must agree on."""
        return codec.encode(self._agreed())

    @classmethod
    def decode(cls, data: bytes) -> Receipt:
        """The inverse of encode (detail is empty); raises Rejection."""
        return cls._read(codec.decode(data, max_bytes=MAX_RECEIPT_BYTES), "")

    def encode_stored(self) -> bytes:
        """The bytes for a node's own database: the agreed fields, and detail cut to MAX_DETAIL_LENGTH characters."""
        return codec.encode((self._agreed(), self.detail[:MAX_DETAIL_LENGTH]))

    @classmethod
    def decode_stored(cls, data: bytes) -> Receipt:
        """The inverse of encode_stored; raises Rejection."""
        agreed, detail = codec.expect_tuple(codec.decode(data, max_bytes=MAX_RECEIPT_BYTES), "receipt", length=2)
        return cls._read(agreed, codec.expect_str(detail, "receipt.detail", MAX_RECEIPT_BYTES))

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready form."""
        return {
            "tx": self.tx_hash.hex(),
            "status": self.status.value,
            "reason": None if self.reason is None else self.reason.value,
            "detail": self.detail,
            "nonce_used": self.nonce_used,
            "fee": self.fee,
        }

    def _agreed(self) -> codec.Value:
        reason = None if self.reason is None else self.reason.value
        return (self.tx_hash, self.status.value, reason, self.nonce_used, self.fee)

    @classmethod
    def _read(cls, value: codec.Value, detail: str) -> Receipt:
        tx_hash, status, reason, nonce_used, fee = codec.expect_tuple(value, "receipt", length=5)
        status_text = codec.expect_str(status, "receipt.status", 16)
        reason_text = None if reason is None else codec.expect_str(reason, "receipt.reason", 64)
        if not isinstance(nonce_used, bool):
            raise Rejection(RejectionReason.MALFORMED, f"receipt.nonce_used: expected a bool, got {nonce_used!r:.20}")
        try:
            receipt_status = ReceiptStatus(status_text)
            receipt_reason = None if reason_text is None else RejectionReason(reason_text)
        except ValueError as error:
            raise Rejection(RejectionReason.MALFORMED, f"receipt: {error}") from None
        return cls(
            tx_hash=codec.expect_bytes(tx_hash, "receipt.tx_hash", length=32),
            status=receipt_status,
            reason=receipt_reason,
            detail=detail,
            nonce_used=nonce_used,
            fee=codec.expect_int(fee, "receipt.fee", 0, MAX_U64),
        )
