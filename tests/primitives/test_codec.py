"""Canonical MessagePack: one encoding a value, hostile bytes refused cheaply and only ever with a Rejection."""

import subprocess
import sys
import tracemalloc
from enum import IntEnum

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpisa.primitives import codec
from mpisa.primitives.codec import Value, decode, encode
from mpisa.primitives.errors import Rejection, RejectionReason

LIMIT = 1 << 20

scalars = (
    st.none()
    | st.booleans()
    | st.integers(codec.MIN_INT, codec.MAX_INT)
    | st.text(max_size=40)
    | st.binary(max_size=300)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=20).map(tuple) | st.dictionaries(st.text(max_size=6), inner, max_size=20),
    max_leaves=40,
)


def reason_of(data: bytes, *, max_bytes: int = LIMIT, max_depth: int = 16) -> RejectionReason:
    with pytest.raises(Rejection) as refused:
        decode(data, max_bytes=max_bytes, max_depth=max_depth)
    return refused.value.reason


@settings(deadline=None, max_examples=300)
@given(values)
def test_what_is_encoded_decodes_to_the_same_value(value: Value) -> None:
    data = encode(value, max_depth=64)
    assert decode(data, max_bytes=LIMIT, max_depth=64) == value
    assert msgpack.unpackb(data, use_list=False) == value


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=400))
def test_random_bytes_decode_canonically_or_are_rejected(data: bytes) -> None:
    try:
        value = decode(data, max_bytes=LIMIT)
    except Rejection:
        return
    assert encode(value) == data


@settings(deadline=None, max_examples=400)
@given(values, st.data())
def test_mutated_and_truncated_bytes_decode_canonically_or_are_rejected(value: Value, data: st.DataObject) -> None:
    raw = bytearray(encode(value, max_depth=64))
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(raw) - 1))
        raw[position] = data.draw(st.integers(0, 255))
    cut = bytes(raw[: data.draw(st.integers(0, len(raw)))])
    for candidate in (bytes(raw), cut):
        try:
            decoded = decode(candidate, max_bytes=LIMIT)
        except Rejection:
            continue
        assert encode(decoded) == candidate


@settings(deadline=None, max_examples=100)
@given(values)
def test_every_proper_prefix_is_malformed(value: Value) -> None:
    data = encode(value, max_depth=64)
    for end in range(min(len(data), 64)):
        assert reason_of(data[:end], max_depth=64) is RejectionReason.MALFORMED


def test_map_keys_are_sorted_by_their_utf8_bytes_at_every_level() -> None:
    value: Value = ({"b": 1, "a": {"\U00010000": 1, "\uffff": 2, "é": 3, "z": 4}},)
    assert encode(value) == encode(({"a": {"z": 4, "é": 3, "\uffff": 2, "\U00010000": 1}, "b": 1},))
    decoded = decode(encode(value), max_bytes=LIMIT)
    assert decoded == value
    assert isinstance(decoded, tuple)
    assert list(codec.expect_map(codec.expect_map(decoded[0], "outer")["a"], "inner")) == [
        "z",
        "é",
        "\uffff",
        "\U00010000",
    ]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", RejectionReason.MALFORMED),
        (b"\xc1", RejectionReason.MALFORMED),  # never used
        (b"\x92\x01", RejectionReason.MALFORMED),  # truncated
        (b"\x01\x01", RejectionReason.MALFORMED),  # a second value behind
        (b"\xca\x00\x00\x00\x00", RejectionReason.MALFORMED),  # float
        (b"\xcb" + bytes(8), RejectionReason.MALFORMED),
        (b"\x91\xcb" + bytes(8), RejectionReason.MALFORMED),
        (b"\xd6\xff" + bytes(4), RejectionReason.MALFORMED),  # timestamp
        (b"\xd4\x01\x00", RejectionReason.MALFORMED),  # extension
        (b"\xc7\x00\x01", RejectionReason.MALFORMED),  # empty extension
        (b"\xa1\xff", RejectionReason.MALFORMED),  # not UTF-8
        (b"\xa3\xed\xa0\x80", RejectionReason.MALFORMED),  # a surrogate
        (b"\x81\x01\x01", RejectionReason.MALFORMED),  # map keys that aren't strings
        (b"\x81\xc4\x01a\x01", RejectionReason.MALFORMED),
        (b"\x81\x90\x01", RejectionReason.MALFORMED),
        (b"\x81\xc0\x01", RejectionReason.MALFORMED),
        (b"\xcc\x01", RejectionReason.NOT_CANONICAL),  # longer integers than needed
        (b"\xcd\x00\xff", RejectionReason.NOT_CANONICAL),
        (b"\xd0\x01", RejectionReason.NOT_CANONICAL),
        (b"\xd3" + bytes(8), RejectionReason.NOT_CANONICAL),
        (b"\xd9\x01a", RejectionReason.NOT_CANONICAL),  # longer lengths than needed
        (b"\xc5\x00\x01a", RejectionReason.NOT_CANONICAL),
        (b"\xdc\x00\x01\x01", RejectionReason.NOT_CANONICAL),
        (b"\xde\x00\x01\xa1a\x01", RejectionReason.NOT_CANONICAL),
        (b"\x82\xa1b\x01\xa1a\x01", RejectionReason.NOT_CANONICAL),  # unsorted
        (b"\x82\xa1a\x01\xa1a\x01", RejectionReason.NOT_CANONICAL),  # twice the same key
    ],
)
def test_bytes_that_are_no_canonical_value_are_refused(data: bytes, reason: RejectionReason) -> None:
    assert reason_of(data) is reason


def test_size_is_capped_at_the_bound() -> None:
    data = encode(b"x" * 98)
    assert len(data) == 100
    assert decode(data, max_bytes=100) == b"x" * 98
    with pytest.raises(Rejection) as refused:
        decode(data, max_bytes=99)
    assert str(refused.value) == "too-large: expected at most 99 bytes, got 100"


def nested(depth: int) -> Value:
    value: Value = 0
    for _ in range(depth):
        value = (value,)
    return value


def test_depth_is_capped_at_the_bound() -> None:
    assert decode(b"\x91" * 16 + b"\x00", max_bytes=LIMIT) == nested(16)
    with pytest.raises(Rejection) as refused:
        decode(b"\x91" * 17 + b"\x00", max_bytes=LIMIT)
    assert str(refused.value) == "too-deep: nested deeper than 16"
    assert decode(b"\x01", max_bytes=LIMIT, max_depth=0) == 1
    assert reason_of(b"\x90", max_depth=0) is RejectionReason.TOO_DEEP
    assert reason_of(b"\x81\xa1a\x90", max_depth=1) is RejectionReason.TOO_DEEP
    with pytest.raises(ValueError, match="no canonical encoding: nested deeper than 16"):
        encode(nested(17))


@pytest.mark.parametrize("levels", [511, 512, 1023, 1024, 1025, 100_000])
def test_deep_nesting_is_refused_whatever_its_depth(levels: int) -> None:
    assert reason_of(b"\x91" * levels + b"\x00") is RejectionReason.TOO_DEEP


@pytest.mark.parametrize(
    "data",
    [
        b"\xdd\xff\xff\xff\xff",  # 4 Gi items
        b"\xdf\xff\xff\xff\xff",  # 4 Gi entries
        b"\xc6\xff\xff\xff\xff",  # 4 GiB of bytes
        b"\xdb\xff\xff\xff\xff",  # 4 GiB of text
        b"\xc9\xff\xff\xff\xff\x01",  # a 4 GiB extension
        b"\x91" * 15 + b"\xdd\xff\xff\xff\xff",
        b"\xdd\x00\x0f\xff\xff" * 1000,  # a million items each, nested
        b"\xdd\x00\x03\x0d\x40" * 40_000,  # as many items as there are bytes, nested
        b"\xdf\x00\x0f\xff\xff\xa1a" * 1000,
    ],
)
def test_lengths_that_nothing_backs_allocate_nothing(data: bytes) -> None:
    tracemalloc.start()
    try:
        assert reason_of(data) in (RejectionReason.MALFORMED, RejectionReason.TOO_DEEP)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * len(data) + 65_536


class Colour(IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1.0, "a float is no value of this codec"),
        ((1, [2]), "a list is no value of this codec"),
        ({"a": {1, 2}}, "a set is no value of this codec"),
        ((bytearray(b"a"),), "a bytearray is no value of this codec"),
        (Colour.RED, "a Colour is no value of this codec"),
        ({1: 2}, "a map key must be a string, got int"),
        (1 << 64, "Integer value out of range"),
        (-(1 << 63) - 1, "Integer value out of range"),
        ("\ud800", "'utf-8' codec can't encode character '\\ud800' in position 0: surrogates not allowed"),
    ],
)
def test_what_has_no_encoding_is_our_own_bug(value: Value, message: str) -> None:
    with pytest.raises(ValueError, match="no canonical encoding") as refused:
        encode(value)
    assert str(refused.value) == f"no canonical encoding: {message}"


def test_readers_give_the_value_of_the_right_type() -> None:
    assert codec.expect_bytes(b"ab", "f", length=2, max_length=2) == b"ab"
    assert codec.expect_int(5, "f", 5, 5) == 5
    assert codec.expect_bool(False, "f") is False
    assert codec.expect_str("ab", "f", 2) == "ab"
    assert codec.expect_tuple((1, 2), "f", 2, length=2) == (1, 2)
    assert codec.expect_map({"a": 1}, "f", ("a",), optional=("b",)) == {"a": 1}


def test_readers_name_the_field_what_was_expected_and_what_came() -> None:
    cases = [
        (lambda: codec.expect_bytes("a", "f"), "malformed: f: expected bytes, got str"),
        (lambda: codec.expect_bytes(b"a", "f", length=2), "malformed: f: expected 2 bytes, got 1"),
        (lambda: codec.expect_bytes(b"abc", "f", max_length=2), "too-large: f: expected at most 2 bytes, got 3"),
        (lambda: codec.expect_int(True, "f", 0, 9), "malformed: f: expected an integer, got bool"),
        (lambda: codec.expect_int(10, "f", 0, 9), "out-of-range: f: expected 0..9, got 10"),
        (lambda: codec.expect_int(-1, "f"), "out-of-range: f: expected 0..18446744073709551615, got -1"),
        (lambda: codec.expect_bool(1, "f"), "malformed: f: expected a boolean, got int"),
        (lambda: codec.expect_str(b"a", "f"), "malformed: f: expected a string, got bytes"),
        (lambda: codec.expect_str("abc", "f", 2), "too-large: f: expected at most 2 characters, got 3"),
        (lambda: codec.expect_tuple({}, "f"), "malformed: f: expected a list, got dict"),
        (lambda: codec.expect_tuple((1,), "f", length=2), "malformed: f: expected 2 items, got 1"),
        (lambda: codec.expect_tuple((1, 2), "f", 1), "too-large: f: expected at most 1 items, got 2"),
        (lambda: codec.expect_map((), "f"), "malformed: f: expected a map, got tuple"),
        (lambda: codec.expect_map({"c": 1}, "f", ("a",)), "malformed: f: missing ['a'], unknown ['c']"),
    ]
    for read, message in cases:
        with pytest.raises(Rejection) as refused:
            read()
        assert str(refused.value) == message


def test_the_reason_does_not_depend_on_which_of_its_decoders_msgpack_prefers() -> None:
    program = (
        "from mpisa.primitives import codec\n"
        "from mpisa.primitives.errors import Rejection\n"
        "try: codec.decode(b'\\x91' * 1023, max_bytes=2000)\n"
        "except Rejection as rejection: print(rejection)\n"
    )
    said = [
        subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
        for environment in ({}, {"MSGPACK_PUREPYTHON": "1"})
    ]
    assert {run.stdout for run in said} == {"malformed: truncated: 1023 bytes are no whole value\n"}
