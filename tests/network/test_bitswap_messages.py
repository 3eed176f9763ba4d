"""Bitswap's wire: whole messages there and back, the bytes that others send, and bytes that are none."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpisa.network.bitswap import messages
from mpisa.network.bitswap.messages import Entry, Message, WantType, cid_of, decode_message, encode_message, prefix_of
from mpisa.primitives.cid import DAG_PB, Cid
from mpisa.primitives.errors import Rejection, RejectionReason

ONE, TWO = Cid.of(b"one"), Cid.of(b"two", codec=DAG_PB, version=0)
CIDS = st.binary(max_size=8).flatmap(
    lambda data: st.sampled_from([Cid.of(data), Cid.of(data, codec=DAG_PB, version=0), Cid.of(data, codec=0x71)])
)
ENTRIES = st.builds(
    Entry,
    cid=CIDS,
    priority=st.integers(-(1 << 31), (1 << 31) - 1),
    want=st.sampled_from(WantType),
    cancel=st.booleans(),
    send_dont_have=st.booleans(),
)
MESSAGES = st.builds(
    Message,
    entries=st.lists(ENTRIES, max_size=4).map(tuple),
    full=st.booleans(),
    blocks=st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=64)), max_size=4).map(tuple),
    presences=st.lists(st.tuples(CIDS, st.booleans()), max_size=4).map(tuple),
    pending_bytes=st.integers(0, (1 << 31) - 1),
)


@given(MESSAGES)
def test_messages_come_back_as_they_were(message):
    assert decode_message(encode_message(message)) == message


def test_the_bytes_are_those_of_the_protocol():
    """Written out by hand from the protobuf definition: a want-have, then a block with its prefix."""
    cid = b"\x01\x55\x12\x20" + ONE.digest
    entry = b"\x0a\x24" + cid + b"\x10\x01\x20\x01\x28\x01"
    assert encode_message(Message((Entry(ONE, want=WantType.HAVE, send_dont_have=True),))) == (
        b"\x0a" + bytes([len(entry) + 2]) + b"\x0a" + bytes([len(entry)]) + entry
    )
    block = b"\x0a\x04\x01\x55\x12\x20" + b"\x12\x03one"
    assert encode_message(Message(blocks=((prefix_of(ONE), b"one"),))) == (
        b"\x0a\x00\x1a" + bytes([len(block)]) + block
    )


@pytest.mark.parametrize("cid", [ONE, TWO, Cid.of(b"two", codec=0x71)])
def test_a_prefix_says_which_cid_to_make(cid):
    data = b"one" if cid == ONE else b"two"
    assert cid_of(prefix_of(cid), data) == cid
    assert prefix_of(TWO) == bytes((0x00, 0x70, 0x12, 0x20))
    assert cid_of(b"", b"two") == TWO


@pytest.mark.parametrize("prefix", ["01551320", "015512", "0155121f", "01551220ff", "ff", "02551220", "0155121480"])
def test_no_cid_is_made_of_other_hashes_or_nonsense(prefix):
    assert cid_of(bytes.fromhex(prefix), b"one") is None


def test_unknown_fields_are_passed_over():
    later = b"\x32\x03new" + b"\x38\x05" + b"\x3d1234" + b"\x4112345678"
    message = Message((Entry(ONE),))
    assert decode_message(later + encode_message(message) + later) == message


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"\x0a\xff", RejectionReason.MALFORMED),
        (b"\x0a\x05\x0a", RejectionReason.MALFORMED),
        (b"\x0b", RejectionReason.MALFORMED),
        (b"\x3d123", RejectionReason.MALFORMED),
        (b"\x0a\x04\x0a\x02\x0a\x00", RejectionReason.BAD_CID),
        (b"\x22\x05\x0a\x03\x01\x55\x12", RejectionReason.BAD_CID),
        (b"\x08\x01", RejectionReason.MALFORMED),
        (b"\x1a\x02\x08\x01", RejectionReason.MALFORMED),
    ],
)
def test_bytes_that_are_no_message_are_refused(raw, reason):
    with pytest.raises(Rejection) as refused:
        decode_message(raw)
    assert refused.value.reason is reason


@given(st.binary(max_size=200))
def test_any_bytes_end_in_a_message_or_a_rejection(raw):
    with suppress(Rejection):
        decode_message(raw)


def test_counts_are_bounded(monkeypatch):
    monkeypatch.setattr(messages, "MAX_ENTRIES", 3)
    monkeypatch.setattr(messages, "MAX_BLOCKS", 3)
    monkeypatch.setattr(messages, "MAX_PRESENCES", 3)
    for many in (
        Message((Entry(ONE),) * 4),
        Message(blocks=((b"", b"x"),) * 4),
        Message(presences=((ONE, True),) * 4),
    ):
        with pytest.raises(Rejection) as refused:
            decode_message(encode_message(many))
        assert refused.value.reason is RejectionReason.TOO_MANY
