"""DAG-PB: known bytes, round trips, and every mutation refused or read as something else, never a crash."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpisa.primitives.cid import Cid
from mpisa.primitives.dag_pb import (
    MAX_LINK_NAME_BYTES,
    MAX_NODE_BYTES,
    MAX_NODE_LINKS,
    PBLink,
    PBNode,
    decode_node,
    decode_varint,
    encode_node,
    encode_varint,
)
from mpisa.primitives.errors import Rejection

names = st.text(max_size=40)
links = st.builds(PBLink, st.binary(min_size=1, max_size=80), names, st.integers(0, (1 << 64) - 1))
nodes = st.builds(PBNode, st.lists(links, max_size=8).map(tuple), st.none() | st.binary(max_size=100))


def test_known_bytes() -> None:
    assert encode_node(PBNode((), b"\x08\x01")).hex() == "0a020801"
    assert str(Cid.of(encode_node(PBNode((), b"\x08\x01")), codec=0x70, version=0)) == (
        "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"
    )
    node = PBNode((PBLink(b"\x01\x55\x00\x01x", "n", 300),), None)
    assert encode_node(node).hex() == "120d0a050155000178" + "12016e" + "18ac02"


@given(nodes)
def test_round_trip(node: PBNode) -> None:
    assert decode_node(encode_node(node)) == node


@given(nodes, st.data())
def test_mutated_bytes_are_refused_or_mean_something_else(node: PBNode, data: st.DataObject) -> None:
    raw = bytearray(encode_node(node) or b"\x0a\x00")
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] ^= data.draw(st.integers(1, 255))
    try:
        decoded = decode_node(bytes(raw))
    except Rejection:
        return
    assert decoded != node


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    try:
        node = decode_node(raw)
    except Rejection:
        return
    assert decode_node(encode_node(node)) == node


@given(st.integers(0, (1 << 64) - 1))
def test_varints_round_trip(value: int) -> None:
    assert decode_varint(b"?" + encode_varint(value) + b"!", 1) == (value, 1 + len(encode_varint(value)))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("1a00", "malformed: unexpected dag-pb field tag 0x1a at byte 0"),
        ("0a", "malformed: varint at byte 1 is cut off"),
        ("0a05aa", "malformed: data at byte 1 claims 5 bytes, 1 are left"),
        ("0a000a00", "not-canonical: second data field at byte 2"),
        ("0a8100aa", "not-canonical: varint at byte 1 is not the shortest"),
        ("0affffffffffffffffff7f", "malformed: varint at byte 1 is larger than 64 bits"),
        ("12050a0301ffff0a0012050a0301ffff", "not-canonical: link at byte 9 is apart from the other links"),
        ("1200", "malformed: link 0 has no hash"),
        ("12021200", "malformed: link 0 has no hash"),
        ("12020a00", "malformed: link 0 has no hash"),
        ("1206120161" + "0a0101", "malformed: link 0: unexpected field tag 0x0a"),
        ("12060a01011201ff", "malformed: link 0: name is not UTF-8"),
        ("12060a0101180180", "malformed: link 0: unexpected field tag 0x80"),
    ],
)
def test_bad_nodes_say_what_and_where(raw: str, message: str) -> None:
    with pytest.raises(Rejection) as error:
        decode_node(bytes.fromhex(raw))
    assert str(error.value) == message


def test_data_may_come_before_links_and_fields_may_be_missing() -> None:
    assert decode_node(bytes.fromhex("0a01aa" + "12030a0101")) == PBNode((PBLink(b"\x01", "", 0),), b"\xaa")
    assert decode_node(b"") == PBNode((), None)


def test_bounds() -> None:
    with pytest.raises(Rejection) as error:
        decode_node(bytes(MAX_NODE_BYTES + 1))
    assert str(error.value) == f"too-large: dag-pb node of {MAX_NODE_BYTES + 1} bytes, at most {MAX_NODE_BYTES}"
    link = bytes.fromhex("12030a0101")
    assert len(decode_node(link * MAX_NODE_LINKS).links) == MAX_NODE_LINKS
    with pytest.raises(Rejection) as error:
        decode_node(link * (MAX_NODE_LINKS + 1))
    assert str(error.value) == f"too-large: dag-pb node with more than {MAX_NODE_LINKS} links"
    fits = PBNode((PBLink(b"\x01", "n" * MAX_LINK_NAME_BYTES, 0),), None)
    assert decode_node(encode_node(fits)) == fits
    with pytest.raises(Rejection) as error:
        decode_node(encode_node(PBNode((PBLink(b"\x01", "n" * (MAX_LINK_NAME_BYTES + 1), 0),), None)))
    assert str(error.value) == "too-large: link 0: name of 4097 bytes, at most 4096"
