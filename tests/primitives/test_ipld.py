"""DAG-CBOR and DAG-JSON: all shared fixtures both ways, one encoding a value, bounded and refused where it must be."""

import json
import math

import libipld
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpisa.primitives import dag_json, ipld
from mpisa.primitives.cid import DAG_CBOR, DAG_JSON, DAG_PB, RAW, Cid
from mpisa.primitives.dag_json import decode_dag_json, encode_dag_json
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.ipld import MAX_DEPTH, Link, Value, decode_dag_cbor, encode_dag_cbor
from mpisa.primitives.links import MAX_LINKS, links_of
from tests.primitives.codec_vectors import FIXTURES, HOME, Fixture

LEAF = Cid.of(b"leaf")

cids = st.binary(max_size=20).map(Cid.of) | st.binary(max_size=20).map(lambda data: Cid(1, RAW, 0, data))
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 64), (1 << 64) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.binary(max_size=40)
    | cids.map(Link)
    | cids.map(lambda cid: b"\0" + cid.to_bytes())
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8).filter(lambda k: k != "/"), inner, max_size=5)
    ),
    max_leaves=20,
)


def exactly(value: Value) -> object:
    """A value in which 1, 1.0 and True differ, and so do bytes and links."""
    if isinstance(value, list):
        return [exactly(item) for item in value]
    if isinstance(value, dict):
        return {key: exactly(item) for key, item in value.items()}
    return (type(value).__name__, repr(value))


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda fixture: fixture.name)
def test_the_fixtures_convert_both_ways(fixture: Fixture) -> None:
    for codec, cid in fixture.cids.items():
        assert cid.matches(fixture.blocks[codec])
    from_cbor = decode_dag_cbor(fixture.blocks["dag-cbor"])
    from_json = decode_dag_json(fixture.blocks["dag-json"])
    assert exactly(from_cbor) == exactly(from_json)
    assert encode_dag_cbor(from_json) == fixture.blocks["dag-cbor"]
    assert encode_dag_json(from_cbor) == fixture.blocks["dag-json"]


def test_there_are_as_many_fixtures_as_were_published() -> None:
    assert len(FIXTURES) == 128
    assert sum("dag-pb" in fixture.blocks for fixture in FIXTURES) == 17


@pytest.mark.parametrize(("codec", "decode"), [("dag-cbor", decode_dag_cbor), ("dag-json", decode_dag_json)])
def test_the_negative_fixtures_are_refused(codec: str, decode) -> None:  # type: ignore[no-untyped-def]
    cases = json.loads((HOME / "negative-fixtures" / codec / "decode" / "duplicate-keys.json").read_text())
    assert cases
    for case in cases:
        with pytest.raises(Rejection) as caught:
            decode(bytes.fromhex(case["hex"]))
        assert caught.value.reason is RejectionReason.DUPLICATE


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda fixture: fixture.name)
def test_links_are_the_same_in_every_codec(fixture: Fixture) -> None:
    in_cbor = links_of(fixture.cids["dag-cbor"], fixture.blocks["dag-cbor"])
    in_json = links_of(fixture.cids["dag-json"], fixture.blocks["dag-json"])
    assert sorted(in_cbor) == sorted(in_json) == sorted(_links_in(decode_dag_cbor(fixture.blocks["dag-cbor"])))
    if "dag-pb" in fixture.blocks:
        assert sorted(links_of(fixture.cids["dag-pb"], fixture.blocks["dag-pb"])) == sorted(in_cbor)


def _links_in(value: Value) -> list[Cid]:
    if isinstance(value, Link):
        return [value.cid]
    below = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [cid for item in below for cid in _links_in(item)]


@given(values)
def test_values_come_back(value: Value) -> None:
    in_cbor, in_json = encode_dag_cbor(value), encode_dag_json(value)
    assert exactly(decode_dag_cbor(in_cbor)) == exactly(value)
    assert exactly(decode_dag_json(in_json)) == exactly(value)
    assert encode_dag_cbor(decode_dag_cbor(in_cbor)) == in_cbor
    assert encode_dag_json(decode_dag_json(in_json)) == in_json


@given(st.binary(max_size=60))
def test_what_is_taken_has_one_encoding_and_libipld_takes_it_too(block: bytes) -> None:
    try:
        value = decode_dag_cbor(block)
    except Rejection:
        return
    assert encode_dag_cbor(value) == block
    libipld.decode_dag_cbor(block)


@given(values, st.data())
def test_every_cut_and_flip_is_refused_or_is_another_value(value: Value, data: st.DataObject) -> None:
    block = encode_dag_cbor(value)
    for cut in range(len(block)):
        with pytest.raises(Rejection):
            decode_dag_cbor(block[:cut])
    position = data.draw(st.integers(0, len(block) - 1))
    damaged = bytearray(block)
    damaged[position] ^= data.draw(st.integers(1, 255))
    try:
        other = decode_dag_cbor(bytes(damaged))
    except Rejection:
        return
    assert exactly(other) != exactly(value)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("", "malformed: ipld: the block is cut off"),
        ("1801", "not-canonical: dag-cbor: number at byte 0 is not of shortest form"),
        ("a2616201616102", "not-canonical: dag-cbor: map key at byte 4 out of order"),
        ("a10101", "malformed: ipld: a map key at byte 1 that is no text"),
        ("9fff", "malformed: ipld: an indefinite or reserved length at byte 0"),
        ("f97e00", "malformed: ipld: byte 0 is 0xf9: only false, true, null and 64-bit floats are dag-cbor"),
        ("fb7ff8000000000000", "malformed: ipld: a float at byte 0 that is no finite number"),
        ("f7", "malformed: ipld: byte 0 is 0xf7: only false, true, null and 64-bit floats are dag-cbor"),
        ("c101", "malformed: ipld: tag 1 at byte 0, only 42 is dag-cbor"),
        ("d82a43000155", "malformed: ipld: the link at byte 0 has a bad CID: truncated: a number at byte 2 has no end"),
        ("d82a4101", "malformed: ipld: the link at byte 0 is no CID behind a zero byte"),
        ("61ff", "malformed: ipld: the text at byte 0 is not UTF-8"),
        ("0000", "malformed: ipld: 1 bytes behind the value"),
        ("9a00ffffff00", "malformed: ipld: 16777215 entries claimed at byte 0, the block is shorter"),
    ],
)
def test_other_cbor_is_refused(block: str, message: str) -> None:
    with pytest.raises(Rejection) as caught:
        decode_dag_cbor(bytes.fromhex(block))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1,2", RejectionReason.MALFORMED),
        ("NaN", RejectionReason.MALFORMED),
        ("1e999", RejectionReason.MALFORMED),
        ("1" * 5000, RejectionReason.OUT_OF_RANGE),
        ("18446744073709551616", RejectionReason.OUT_OF_RANGE),
        ('"\\ud800"', RejectionReason.MALFORMED),
        ('{"\\ud800":1}', RejectionReason.MALFORMED),
        ('{"/":1}', RejectionReason.MALFORMED),
        ('{"/":"nonsense"}', RejectionReason.MALFORMED),
        ('{"/":{"bytes":"AQ=="}}', RejectionReason.MALFORMED),
        ('{"/":{"bytes":"AR"}}', RejectionReason.MALFORMED),
        ('{"/":{"bytes":"?"}}', RejectionReason.MALFORMED),
        ('{"/":{"bytes":"AQ"},"a":1}', RejectionReason.MALFORMED),
        ('{"a":{"b":1,"b":1}}', RejectionReason.DUPLICATE),
    ],
)
def test_other_json_is_refused(text: str, reason: RejectionReason) -> None:
    with pytest.raises(Rejection) as caught:
        decode_dag_json(text.encode())
    assert caught.value.reason is reason


def test_spaces_and_other_orders_are_read() -> None:
    assert decode_dag_json(b' { "b" : 1 , "a" : [ ] } ') == {"b": 1, "a": []}


@pytest.mark.parametrize("value", [math.nan, math.inf, 1 << 64, -(1 << 64) - 1, "\ud800", {"\ud800": 1}])
def test_what_is_no_value_is_not_written(value: Value) -> None:
    for encode in (encode_dag_cbor, encode_dag_json):
        with pytest.raises(Rejection):
            encode(value)


@pytest.mark.parametrize(
    ("number", "text"),
    [(1.0, "1.0"), (-0.0, "-0.0"), (1e20, "100000000000000000000.0"), (1.5e16, "15000000000000000.0"),
     (1e21, "1e+21"), (1.5e-7, "1.5e-7"), (1e-6, "0.000001"), (1.25e-5, "0.0000125")],
)  # fmt: skip
def test_floats_are_written_as_javascript_does(number: float, text: str) -> None:
    assert encode_dag_json(number) == text.encode()
    assert repr(decode_dag_json(text.encode())) == repr(number)


def test_depth_is_bounded_without_recursion() -> None:
    deepest: Value = []
    for _ in range(MAX_DEPTH - 1):
        deepest = [deepest]
    for encode, decode in ((encode_dag_cbor, decode_dag_cbor), (encode_dag_json, decode_dag_json)):
        assert encode(decode(encode(deepest))) == encode(deepest)
        with pytest.raises(Rejection) as caught:
            encode([deepest])
        assert caught.value.reason is RejectionReason.TOO_DEEP
    for levels in (MAX_DEPTH + 1, 1_000_000):
        with pytest.raises(Rejection) as caught:
            decode_dag_cbor(b"\x81" * levels + b"\x80")
        assert caught.value.reason is RejectionReason.TOO_DEEP
        with pytest.raises(Rejection) as caught:
            decode_dag_json(b"[" * levels + b"]" * levels)
        assert caught.value.reason is RejectionReason.TOO_DEEP


def test_blocks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipld, "MAX_NODES", 1000)
    monkeypatch.setattr(dag_json, "MAX_NODES", 1000)
    nulls: Value = [None] * 999
    for encode, decode in ((encode_dag_cbor, decode_dag_cbor), (encode_dag_json, decode_dag_json)):
        assert decode(encode(nulls)) == nulls
        with pytest.raises(Rejection) as caught:
            encode([None] * 1000)
        assert caught.value.reason is RejectionReason.TOO_LARGE
    for decode, block in (
        (decode_dag_cbor, b"\x99\x03\xe8" + b"\xf6" * 1000),
        (decode_dag_json, b"[" + b"1," * 999 + b"1]"),
        (decode_dag_cbor, bytes(ipld.MAX_BLOCK_BYTES + 1)),
        (decode_dag_json, b" " * (ipld.MAX_BLOCK_BYTES + 1)),
    ):
        with pytest.raises(Rejection) as caught:
            decode(block)
        assert caught.value.reason is RejectionReason.TOO_LARGE


def test_links_come_in_the_order_of_the_block_as_often_as_they_are_there() -> None:
    other = Cid.of(b"other")
    value: Value = [Link(other), {"z": Link(LEAF), "aa": [Link(other)]}, b"\0" + LEAF.to_bytes()]
    for codec, block in ((DAG_CBOR, encode_dag_cbor(value)), (DAG_JSON, encode_dag_json(value))):
        found = links_of(Cid.of(block, codec=codec), block)
        assert found == ([other, LEAF, other] if codec == DAG_CBOR else [other, other, LEAF])


def test_links_of_other_codecs_are_none() -> None:
    block = encode_dag_cbor([Link(LEAF)])
    assert links_of(Cid.of(block), block) == []
    assert links_of(Cid.of(block, codec=0x51), block) == []


def test_bad_links_name_their_block() -> None:
    for codec, block in ((DAG_CBOR, b"\xff"), (DAG_JSON, b"{"), (DAG_PB, b"\xff")):
        cid = Cid.of(block, codec=codec)
        with pytest.raises(Rejection, match=f"block {cid}: "):
            links_of(cid, block)


def test_the_number_of_links_is_bounded() -> None:
    tiny = Link(Cid(1, RAW, 0, b""))
    block = encode_dag_cbor([tiny] * (MAX_LINKS + 1))
    with pytest.raises(Rejection, match="65537 links, at most 65536"):
        links_of(Cid.of(block, codec=DAG_CBOR), block)
