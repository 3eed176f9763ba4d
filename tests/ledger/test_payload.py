"""Payloads: one encoding, caps at their bounds, and what a bad one does to its block."""

import pytest

from mpisa.ledger.payload import (
    ITEM_OVERHEAD,
    LIST_OVERHEAD,
    MAX_PAYLOAD_BYTES,
    MAX_PAYLOAD_TRANSACTIONS,
    decode_payload,
    encode_payload,
)
from mpisa.ledger.transition import execute_block, execute_payloads
from mpisa.primitives import codec
from mpisa.primitives.digest import tagged
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.operations import Transfer
from mpisa.primitives.receipt import Receipt, ReceiptStatus
from mpisa.primitives.transaction import MAX_TRANSACTION_BYTES


@pytest.mark.parametrize("raws", [(), (b"",), (b"a", b"b" * 70_000), (b"x",) * MAX_PAYLOAD_TRANSACTIONS])
def test_payloads_come_back_from_their_bytes(raws):
    assert decode_payload(encode_payload(raws)) == raws


def test_a_payload_fills_its_cap_and_no_more():
    item = bytes(MAX_PAYLOAD_BYTES - ITEM_OVERHEAD - 1)
    assert len(encode_payload([item])) == MAX_PAYLOAD_BYTES
    assert decode_payload(encode_payload([item])) == (item,)
    with pytest.raises(ValueError, match=r"^a payload holds at most 1048576 bytes, got 1048577$"):
        encode_payload([item + b"x"])
    with pytest.raises(ValueError, match=r"^a payload holds at most 16384 transactions, got 16385$"):
        encode_payload([b""] * (MAX_PAYLOAD_TRANSACTIONS + 1))


@pytest.mark.parametrize("sizes", [(0,), (1, 300, 70_000), (255, 256, 65_535, 65_536), (10,) * 20, (10,) * 70_000])
def test_the_stated_overhead_covers_what_encoding_adds(sizes):
    encoded = codec.encode(tuple(bytes(size) for size in sizes))
    assert len(encoded) <= LIST_OVERHEAD + sum(size + ITEM_OVERHEAD for size in sizes)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"\xc1", "malformed: not MessagePack of this kind: FormatError"),
        (b"\x90", "not-canonical: an empty payload has no bytes"),
        (codec.encode(b"x"), "payload: expected a list, got bytes"),
        (codec.encode((b"x", 1)), "payload item: expected bytes, got int"),
        (codec.encode(((b"x",),)), "nested deeper than 1"),
        (codec.encode((b"x",)) + b"\0", "unpack(b) received extra data."),
        (bytes(MAX_PAYLOAD_BYTES + 1), "expected at most 1048576 bytes, got 1048577"),
        (codec.encode((b"",) * (MAX_PAYLOAD_TRANSACTIONS + 1)), "expected at most 16384 items, got 16385"),
    ],
)
def test_what_is_no_payload(payload, message):
    with pytest.raises(Rejection) as refusal:
        decode_payload(payload)
    assert refusal.value.reason is RejectionReason.BAD_PAYLOAD
    assert refusal.value.detail.startswith("payload: ")
    assert refusal.value.detail.endswith(message)


def test_a_bad_payload_gives_one_receipt_behind_those_of_the_transactions(chain):
    first = chain.sign(chain.alice, Transfer(chain.bob.address, 1))
    second = chain.sign(chain.bob, Transfer(chain.alice.address, 2))
    payloads = [encode_payload([first.raw]), b"\xc1garbage", b"", encode_payload([second.raw])]
    result = execute_payloads(chain.state, payloads, chain.context)
    assert result.transactions == (first.raw, second.raw)
    assert result.changes == execute_block(chain.state, [first.raw, second.raw], chain.context).changes
    bad = result.receipts[2]
    assert result.receipts == (
        Receipt(first.hash, ReceiptStatus.APPLIED, nonce_used=True),
        Receipt(second.hash, ReceiptStatus.APPLIED, nonce_used=True),
        Receipt(tagged("payload", payloads[1]), ReceiptStatus.REJECTED, RejectionReason.BAD_PAYLOAD, bad.detail),
    )


def test_a_transaction_too_large_for_itself_is_its_own_fault(chain):
    good = chain.sign(chain.alice, Transfer(chain.bob.address, 1))
    huge = bytes(MAX_TRANSACTION_BYTES + 1)
    result = execute_payloads(chain.state, [encode_payload([huge, good.raw])], chain.context)
    assert [receipt.reason for receipt in result.receipts] == [RejectionReason.TOO_LARGE, None]
