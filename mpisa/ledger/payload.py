"""A vertex's payload: the canonical list of raw transactions, or no bytes at all for none.

Each item is bounded by the payload's own cap only: a transaction that is too large is that transaction's fault and is
executed to its own rejection, while a payload that isn't such a list holds no transactions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mpisa.primitives import codec
from mpisa.primitives.errors import Rejection, RejectionReason

MAX_PAYLOAD_BYTES: Final = 1 << 20
MAX_PAYLOAD_TRANSACTIONS: Final = 16_384
# What an item adds to its own bytes, and what the list adds to all of them, at most.
ITEM_OVERHEAD: Final = 5
LIST_OVERHEAD: Final = 5


def encode_payload(raws: Sequence[bytes]) -> bytes:
    """The payload of these transactions, in their order. Raises ValueError above the caps: the caller's own bug."""
    if not raws:
        return b""
    if len(raws) > MAX_PAYLOAD_TRANSACTIONS:
        raise ValueError(f"a payload holds at most {MAX_PAYLOAD_TRANSACTIONS} transactions, got {len(raws)}")
    payload = codec.encode(tuple(raws))
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"a payload holds at most {MAX_PAYLOAD_BYTES} bytes, got {len(payload)}")
    return payload


def decode_payload(payload: bytes) -> tuple[bytes, ...]:
    """The inverse of encode_payload. Raises Rejection(BAD_PAYLOAD)."""
    if not payload:
        return ()
    try:
        items = codec.expect_tuple(
            codec.decode(payload, max_bytes=MAX_PAYLOAD_BYTES, max_depth=1), "payload", MAX_PAYLOAD_TRANSACTIONS
        )
        if not items:
            raise Rejection(RejectionReason.NOT_CANONICAL, "an empty payload has no bytes")
        return tuple([codec.expect_bytes(item, "payload item") for item in items])
    except Rejection as rejection:
        raise Rejection(RejectionReason.BAD_PAYLOAD, f"payload: {rejection}") from None
