"""The UnixFS message: known bytes, round trips, refusals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpisa.primitives.errors import Rejection
from mpisa.primitives.unixfs import (
    MAX_BLOCK_SIZES,
    MAX_FANOUT,
    FileType,
    Mtime,
    UnixFsNode,
    decode_unixfs,
    encode_unixfs,
)

sizes = st.integers(0, (1 << 64) - 1)
mtimes = st.builds(Mtime, st.integers(-(1 << 63), (1 << 63) - 1), st.none() | st.integers(0, 999_999_999))
nodes = st.builds(
    UnixFsNode,
    st.sampled_from(FileType),
    st.none() | st.binary(max_size=60),
    st.none() | sizes,
    st.lists(sizes, max_size=5).map(tuple),
    st.none() | sizes,
    st.none() | st.integers(0, MAX_FANOUT),
    st.none() | st.integers(0, 0xFFFFFFFF),
    st.none() | mtimes,
)


def test_known_bytes() -> None:
    assert encode_unixfs(UnixFsNode(FileType.DIRECTORY)).hex() == "0801"
    assert encode_unixfs(UnixFsNode(FileType.FILE, None, 0)).hex() == "08021800"
    assert encode_unixfs(UnixFsNode(FileType.FILE, None, 3, (1, 2))).hex() == "0802180320012002"
    assert encode_unixfs(UnixFsNode(FileType.SYMLINK, b"t")).hex() == "0804120174"
    assert encode_unixfs(UnixFsNode(FileType.FILE, b"", mode=0o644, mtime=Mtime(-1, 5))).hex() == (
        "08021200" + "38a403" + "4210" + "08ffffffffffffffffff01" + "1505000000"
    )


@given(nodes)
def test_round_trip(node: UnixFsNode) -> None:
    assert decode_unixfs(encode_unixfs(node)) == node


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    try:
        node = decode_unixfs(raw)
    except Rejection:
        return
    assert decode_unixfs(encode_unixfs(node)) == node


def test_packed_block_sizes_are_read() -> None:
    assert decode_unixfs(bytes.fromhex("08022203" + "01ac02")).blocksizes == (1, 300)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("", "malformed: UnixFS node has no type"),
        ("0806", "malformed: unknown UnixFS type 6"),
        ("08020802", "malformed: unexpected UnixFS field 1 (wire type 0) at byte 2"),
        ("08024a00", "malformed: unexpected UnixFS field 9 (wire type 2) at byte 2"),
        ("0a00", "malformed: unexpected UnixFS field 1 (wire type 2) at byte 0"),
        ("08021205aa", "malformed: UnixFS data at byte 3 claims 5 bytes, 1 are left"),
        ("080530" + "8108", "too-large: UnixFS fanout 1025, at most 1024"),
        ("08024200", "malformed: UnixFS mtime has no seconds"),
        ("080242020900", "malformed: unexpected UnixFS mtime tag 0x09 at byte 0"),
        ("0802420708001500ca9a3b", "malformed: UnixFS mtime with 1000000000 nanoseconds"),
    ],
)
def test_bad_nodes_say_what_and_where(raw: str, message: str) -> None:
    with pytest.raises(Rejection) as error:
        decode_unixfs(bytes.fromhex(raw))
    assert str(error.value) == message


@pytest.mark.parametrize("packed", [False, True])
def test_the_number_of_block_sizes_is_bounded(packed: bool) -> None:
    def message(count: int) -> bytes:
        if not packed:
            return b"\x08\x02" + b"\x20\x01" * count
        return b"\x08\x02\x22" + bytes([count & 0x7F | 0x80, count >> 7 & 0x7F | 0x80, count >> 14]) + b"\x01" * count

    assert len(decode_unixfs(message(MAX_BLOCK_SIZES)).blocksizes) == MAX_BLOCK_SIZES
    with pytest.raises(Rejection) as error:
        decode_unixfs(message(MAX_BLOCK_SIZES + 1))
    assert str(error.value) == "too-large: UnixFS node with more than 65536 block sizes"
