"""The verifier of CAR streams: whole trees proven, anything else refused, in memory that stays bounded."""

import random
from pathlib import Path

import libipld
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpisa.primitives.car_stream import (
    MAX_CAR_SECTION_BYTES,
    CarFrames,
    CarStreamVerifier,
    DirectoryEntered,
    Event,
    FileBytes,
    FileEnded,
    FileStarted,
    SymlinkFound,
    TreeEnded,
    encode_car_header,
    encode_car_section,
)
from mpisa.primitives.cid import DAG_PB, IDENTITY, RAW, Cid
from mpisa.primitives.dag_pb import PBLink, PBNode, encode_node, encode_varint
from mpisa.primitives.errors import IntegrityError
from mpisa.primitives.unixfs import FileType, UnixFsNode, encode_unixfs
from storage.blockstore import MemoryBlockStore
from storage.car import export_car
from storage.importer import import_path
from storage.profiles import UNIXFS_V0_2015, UNIXFS_V1_2025

SMALL = UNIXFS_V1_2025.replace(chunk_size=10, max_links=3)


def verify(root: Cid, stream: bytes, *, step: int = 1 << 20) -> list[Event]:
    verifier = CarStreamVerifier(root)
    events: list[Event] = []
    for start in range(0, len(stream), step):
        events += verifier.feed(stream[start : start + step])
    events += verifier.finish()
    assert verifier.complete
    return events


def car(root: Cid, blocks: list[tuple[Cid, bytes]]) -> bytes:
    return encode_car_header((root,)) + b"".join(encode_car_section(c, len(b)) + b for c, b in blocks)


def node(content: UnixFsNode, links: list[PBLink] | None = None) -> tuple[Cid, bytes]:
    block = encode_node(PBNode(tuple(links or ()), encode_unixfs(content)))
    return Cid.of(block, codec=DAG_PB), block


def link(cid: Cid, name: str = "") -> PBLink:
    return PBLink(cid.to_bytes(), name, 0)


def raw(data: bytes) -> tuple[Cid, bytes]:
    return Cid.of(data), data


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "tree"
    (top / "sub" / "empty").mkdir(parents=True)
    (top / "a.txt").write_bytes(b"0123456789" * 2)
    (top / "zeros").write_bytes(bytes(95))
    (top / "none").write_bytes(b"")
    (top / "sub" / "link").symlink_to("../a.txt")
    return top


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
@pytest.mark.parametrize("threshold", [0, 1 << 18])
def test_a_tree_is_proven_whatever_the_pieces(tree: Path, step: int, threshold: int) -> None:
    store = MemoryBlockStore()
    root = import_path(store, tree, SMALL.replace(hamt_threshold=threshold)).cid
    events = verify(root, b"".join(export_car(store, root)), step=step)
    found: dict[tuple[str, ...], object] = {}
    for event in events:
        if isinstance(event, DirectoryEntered):
            found[event.path] = "directory"
        elif isinstance(event, FileStarted):
            current, found[event.path] = event.path, (event.size, b"")
        elif isinstance(event, FileBytes):
            size, data = found[current]  # type: ignore[misc]
            found[current] = (size, data + event.data)
        elif isinstance(event, FileEnded):
            assert event.path == current
        elif isinstance(event, SymlinkFound):
            found[event.path] = event.target
    assert found == {
        (): "directory",
        ("a.txt",): (20, b"0123456789" * 2),
        ("none",): (0, b""),
        ("sub",): "directory",
        ("sub", "empty"): "directory",
        ("sub", "link"): "../a.txt",
        ("zeros",): (95, bytes(95)),
    }
    assert isinstance(events[-1], TreeEnded)
    assert events[-1].size == 115


def test_a_single_file_and_a_single_symlink() -> None:
    cid, data = raw(b"hello")
    assert verify(cid, car(cid, [(cid, data)])) == [
        FileStarted((), 5),
        FileBytes(b"hello"),
        FileEnded(()),
        TreeEnded(1, 5),
    ]
    cid, data = node(UnixFsNode(FileType.SYMLINK, b"/etc/passwd"))
    assert verify(cid, car(cid, [(cid, data)])) == [SymlinkFound((), "/etc/passwd"), TreeEnded(1, 0)]


def test_the_old_profile(tree: Path) -> None:
    store = MemoryBlockStore()
    root = import_path(store, tree, UNIXFS_V0_2015.replace(chunk_size=10)).cid
    assert root.version == 0
    assert verify(root, b"".join(export_car(store, root)))[-1] == TreeEnded(
        len(list(export_car(store, root))) // 2, 115
    )


def test_identity_blocks_are_in_the_cid_and_may_also_be_sent() -> None:
    inline = Cid(1, RAW, IDENTITY, b"tiny")
    root, block = node(UnixFsNode(FileType.DIRECTORY), [link(inline, "f")])
    expected = [DirectoryEntered(()), FileStarted(("f",), 4), FileBytes(b"tiny"), FileEnded(("f",)), TreeEnded(2, 4)]
    assert verify(root, car(root, [(root, block)])) == expected
    assert verify(root, car(root, [(root, block), (inline, b"tiny")])) == expected
    assert verify(inline, car(inline, [])) == [FileStarted((), 4), FileBytes(b"tiny"), FileEnded(()), TreeEnded(1, 4)]


def test_every_truncation_is_noticed(tree: Path) -> None:
    store = MemoryBlockStore()
    root = import_path(store, tree, SMALL).cid
    stream = b"".join(export_car(store, root))
    for end in range(0, len(stream), 5):
        verifier = CarStreamVerifier(root)
        verifier.feed(stream[:end])
        with pytest.raises(IntegrityError):
            verifier.finish()
        assert not verifier.complete


def test_every_flipped_bit_is_noticed(tree: Path) -> None:
    store = MemoryBlockStore()
    root = import_path(store, tree, SMALL).cid
    stream = b"".join(export_car(store, root))
    rng = random.Random(3)
    for _ in range(500):
        changed = bytearray(stream)
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        with pytest.raises(IntegrityError):
            verify(root, bytes(changed))


A, B = raw(b"aaa"), raw(b"bbb")
DIRECTORY = node(UnixFsNode(FileType.DIRECTORY), [link(A[0], "a"), link(B[0], "b")])
DEEP = [raw(b"x")]
for _ in range(65):
    DEEP.append(node(UnixFsNode(FileType.FILE, None, 1, (1,)), [link(DEEP[-1][0])]))
SHARD = UnixFsNode(FileType.HAMT_SHARD, b"\x01", hash_type=0x22, fanout=256)
SHARDS = [node(SHARD, [link(A[0], "00a")])]
for _ in range(8):
    SHARDS.append(node(SHARD, [link(SHARDS[-1][0], "00")]))
LIAR = node(UnixFsNode(FileType.FILE, None, 4, (4,)), [link(A[0])])
BOTH = UnixFsNode(FileType.HAMT_SHARD, b"\x03", hash_type=0x22, fanout=256)
TWIN = node(SHARD, [link(A[0], "00same")])
TWINS = node(BOTH, [link(TWIN[0], "00"), link(TWIN[0], "01")])
NOT_A_SHARD = node(SHARD, [link(A[0], "00")])


@pytest.mark.parametrize(
    ("root", "blocks", "message"),
    [
        (DIRECTORY[0], [DIRECTORY, B, A], f"the CAR stream has block {B[0]} where {A[0]} must come"),
        (DIRECTORY[0], [DIRECTORY, A], f"the CAR stream of {DIRECTORY[0]} ends after 2 blocks, {B[0]} is missing"),
        (DIRECTORY[0], [DIRECTORY, A, B, A], f"the CAR stream goes on behind the end with block {A[0]}"),
        (A[0], [(A[0], b"aab")], f"block {A[0]} does not match its CID"),
        (LIAR[0], [LIAR, A], f"block {A[0]} holds 3 bytes of a file, its parent claims 4"),
        (
            DEEP[-1][0],
            DEEP[::-1],
            f"block {DEEP[1][0]} lies more than 64 levels deep in a file",
        ),
        (SHARDS[-1][0], SHARDS[::-1], f"block {SHARDS[0][0]} lies more than 8 levels deep in a directory"),
        (TWINS[0], [TWINS, TWIN, A, TWIN], f"block {TWIN[0]}: directory with the name 'same' twice"),
        (NOT_A_SHARD[0], [NOT_A_SHARD, A], f"block {A[0]} is part of a sharded directory, but holds a file"),
    ],
)
def test_wrong_streams_say_what_is_wrong(root: Cid, blocks: list[tuple[Cid, bytes]], message: str) -> None:
    with pytest.raises(IntegrityError) as error:
        verify(root, car(root, blocks))
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("content", "links", "message"),
    [
        (UnixFsNode(FileType.DIRECTORY), [link(A[0], "..")], "directory entry named '..'"),
        (UnixFsNode(FileType.DIRECTORY), [link(A[0], "a/b")], "directory entry named 'a/b'"),
        (UnixFsNode(FileType.DIRECTORY), [link(A[0], "")], "directory entry named ''"),
        (UnixFsNode(FileType.DIRECTORY), [link(A[0], "a\0")], "directory entry named 'a\\x00'"),
        (
            UnixFsNode(FileType.DIRECTORY),
            [link(A[0], "n" * 256)],
            f"directory entry with a name of more than 255 bytes: '{'n' * 60}'",
        ),
        (UnixFsNode(FileType.DIRECTORY), [link(A[0], "a"), link(B[0], "a")], "directory with the name 'a' twice"),
        (UnixFsNode(FileType.FILE, None, 3, ()), [link(A[0])], "file node with 1 links and 0 sizes"),
        (UnixFsNode(FileType.FILE, b"x", 3), [], "file node claims 3 bytes, its parts have 1"),
        (UnixFsNode(FileType.METADATA), [], "a UnixFS metadata node is no file and no directory"),
        (UnixFsNode(FileType.SYMLINK), [], "symlink target of 0 bytes, expected 1 to 4096 and none of them zero"),
        (UnixFsNode(FileType.SYMLINK, b"\xff"), [], "symlink target that is not UTF-8"),
        (
            UnixFsNode(FileType.HAMT_SHARD, b"\x01", hash_type=0x22, fanout=16),
            [],
            "directory shard with hash 34 and fanout 16, expected 34 and 256",
        ),
        (SHARD, [link(A[0], "0")], "directory shard with a link named '0'"),
        (SHARD, [link(A[0], "01a")], "directory shard whose bit field does not match its links"),
        (BOTH, [link(A[0], "01a"), link(B[0], "00b")], "directory shard with slot 00 out of order"),
        (SHARD, [link(A[0], "00..")], "directory entry named '..'"),
    ],
)
def test_bad_nodes_are_named(content: UnixFsNode, links: list[PBLink], message: str) -> None:
    root, block = node(content, links)
    with pytest.raises(IntegrityError) as error:
        verify(root, car(root, [(root, block)]))
    assert str(error.value) == f"block {root}: {message}"


def test_other_codecs_are_refused() -> None:
    cid = Cid.of(b"\xa0", codec=0x71)
    with pytest.raises(IntegrityError) as error:
        verify(cid, car(cid, [(cid, b"\xa0")]))
    assert str(error.value) == f"block {cid}: codec 0x71 is neither a file nor a directory (raw or dag-pb)"


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"", "the CAR stream ends before its header is complete"),
        (b"\x00", "a CAR header of 0 bytes, expected 1 to 65536"),
        (b"\xff\xff\xff\xff\x01", "a CAR section has a length of more than 28 bits"),
        (encode_varint(65537), "a CAR header of 65537 bytes, expected 1 to 65536"),
        (b"\x01\xa0", "the CAR header is not that of version 1: roots and version"),
        (encode_car_header((B[0],)), f"the CAR stream names {B[0]}, expected {A[0]}"),
        (encode_car_header(()), f"the CAR stream names no root, expected {A[0]}"),
    ],
)
def test_bad_headers(header: bytes, message: str) -> None:
    with pytest.raises(IntegrityError) as error:
        verify(A[0], header)
    assert str(error.value) == message


def test_header_bombs_are_refused() -> None:
    for body in (b"\x81" * 60_000, libipld.encode_dag_cbor({"roots": [b"x"], "version": 1}), b"\x9b" + b"\xff" * 8):
        with pytest.raises(IntegrityError, match="header"):
            verify(A[0], encode_varint(len(body)) + body)


def test_sections_are_bounded() -> None:
    frames = CarFrames()
    frames.feed(encode_car_header((A[0],)))
    with pytest.raises(IntegrityError) as error:
        frames.feed(encode_varint(MAX_CAR_SECTION_BYTES + 1))
    assert str(error.value) == f"a CAR section of 2097409 bytes, expected 1 to {MAX_CAR_SECTION_BYTES}"


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_any_bytes_behind_a_header_are_refused(junk: bytes) -> None:
    with pytest.raises(IntegrityError):
        verify(DIRECTORY[0], encode_car_header((DIRECTORY[0],)) + junk)


def test_a_node_that_links_itself_many_times_costs_only_what_is_sent() -> None:
    """Ten levels of a thousand equal links claim 10^30 blocks; the verifier holds a few thousand links."""
    level = raw(b"")
    blocks = [level]
    for _ in range(10):
        level = node(UnixFsNode(FileType.FILE, None, 0, (0,) * 1000), [link(level[0])] * 1000)
        blocks.append(level)
    verifier = CarStreamVerifier(level[0])
    verifier.feed(car(level[0], blocks[::-1]))
    for _ in range(1000):
        verifier.feed(encode_car_section(*_sized(blocks[0])))
        if len(verifier._stack) <= 9 * 1000:
            break
    assert len(verifier._stack) <= 10 * 1000 + 1
    with pytest.raises(IntegrityError, match="is missing"):
        verifier.finish()


def _sized(block: tuple[Cid, bytes]) -> tuple[Cid, int]:
    return block[0], len(block[1])
