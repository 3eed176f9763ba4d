"""Reading trees: stat, ls, paths, ranges, walks, CAR, and blocks that make no sense."""

import io
import random
from pathlib import Path

import pytest

from mpisa.primitives.cid import DAG_PB, IDENTITY, RAW, Cid
from mpisa.primitives.dag_pb import PBLink, PBNode, encode_node
from mpisa.primitives.errors import IntegrityError, NotFound, Rejection, UsageError
from mpisa.primitives.unixfs import FileType, UnixFsNode, encode_unixfs
from storage import car as car_module
from storage import reader as reader_module
from storage.blockstore import MemoryBlockStore
from storage.car import CarReader, export_car, import_car, write_car
from storage.importer import import_path, import_stream
from storage.profiles import UNIXFS_V1_2025
from storage.reader import DagReader, DirectoryEntry, Kind

SMALL = UNIXFS_V1_2025.replace(chunk_size=10, max_links=3)


def node(content: UnixFsNode, links: list[PBLink]) -> tuple[Cid, bytes]:
    block = encode_node(PBNode(tuple(links), encode_unixfs(content)))
    return Cid.of(block, codec=DAG_PB), block


def link(cid: Cid, name: str = "") -> PBLink:
    return PBLink(cid.to_bytes(), name, 0)


@pytest.fixture
def store() -> MemoryBlockStore:
    return MemoryBlockStore()


@pytest.fixture
def top(tmp_path: Path) -> Path:
    path = tmp_path / "top"
    (path / "sub").mkdir(parents=True)
    (path / "big").write_bytes(bytes(range(100)))
    (path / "one").write_bytes(b"1")
    (path / "sub" / "deep").write_bytes(b"deep")
    (path / "to").symlink_to("one")
    return path


@pytest.mark.parametrize("threshold", [0, 1 << 18])
def test_directories_are_listed_and_resolved(store: MemoryBlockStore, top: Path, threshold: int) -> None:
    root = import_path(store, top, SMALL.replace(hamt_threshold=threshold)).cid
    reader = DagReader(store.get)
    assert reader.stat(root).kind is Kind.DIRECTORY
    assert reader.stat(root).sharded == (threshold == 0)
    listed = {(entry.name, entry.kind, entry.size) for entry in reader.ls(root)}
    sub = reader.resolve(root, "sub")
    assert listed == {
        ("big", Kind.FILE, 100),
        ("one", Kind.FILE, 1),
        ("sub", Kind.DIRECTORY, reader.stat(sub).dag_size),
        ("to", Kind.SYMLINK, 3),
    }
    deep = Cid.of(b"deep")
    assert reader.resolve(root, "/sub/deep/") == deep
    assert next(reader.ls(sub)) == DirectoryEntry("deep", deep, Kind.FILE, 4, 4)
    assert reader.resolve(root, "") == root
    for path, message in [
        ("nope", f"there is no 'nope' in {root}"),
        ("sub/nope", f"there is no 'nope' in {root}/sub"),
        ("..", f"there is no '..' in {root}"),
        ("one/x", f"{reader.resolve(root, 'one')} is not a directory, so there is no 'x' in it"),
        ("to/x", f"{reader.resolve(root, 'to')} is not a directory, so there is no 'x' in it"),
    ]:
        with pytest.raises(NotFound) as error:
            reader.resolve(root, path)
        assert str(error.value) == message
    with pytest.raises(UsageError) as usage:
        reader.resolve(root, "a/" * 257)
    assert str(usage.value) == "a path of 257 parts, at most 256"


def test_large_sharded_directories_read_only_the_shards_of_a_path(store: MemoryBlockStore, tmp_path: Path) -> None:
    for i in range(400):
        (tmp_path / f"f{i}").write_bytes(bytes([i % 256]))
    root = import_path(store, tmp_path, SMALL.replace(hamt_threshold=0)).cid
    fetched: list[Cid] = []

    def get(cid: Cid) -> bytes:
        fetched.append(cid)
        return store.get(cid)

    reader = DagReader(get)
    for i in range(400):
        fetched.clear()
        assert reader.resolve(root, f"f{i}") == Cid.of(bytes([i % 256]))
        assert len(fetched) <= 3
    assert sorted(entry.name for entry in reader.entries(root)) == sorted(f"f{i}" for i in range(400))


def test_ranges_read_only_what_they_cover(store: MemoryBlockStore) -> None:
    data = bytes(i % 251 for i in range(995))
    root = import_stream(store, io.BytesIO(data), SMALL).cid
    fetched = 0

    def get(cid: Cid) -> bytes:
        nonlocal fetched
        fetched += cid.codec == RAW
        return store.get(cid)

    reader = DagReader(get)
    rng = random.Random(1)
    for _ in range(300):
        offset = rng.randrange(996)
        length = rng.randrange(996 - offset)
        fetched = 0
        assert b"".join(reader.read_file(root, offset, length)) == data[offset : offset + length]
        assert fetched <= length // 10 + 2
    assert b"".join(reader.read_file(root, 990)) == data[990:]
    for offset, length in [(-1, 1), (996, None), (0, 996), (5, -1)]:
        with pytest.raises(UsageError, match=f"lie outside of {root}, which has 995"):
            reader.read_file(root, offset, length)


def test_files_and_directories_are_not_taken_for_each_other(store: MemoryBlockStore, top: Path) -> None:
    root = import_path(store, top).cid
    reader = DagReader(store.get)
    with pytest.raises(UsageError) as error:
        reader.read_file(root)
    assert str(error.value) == f"{root} is not a file"
    with pytest.raises(UsageError) as error:
        list(reader.ls(Cid.of(b"1")))
    assert str(error.value) == f"{Cid.of(b'1')} is not a directory"


def test_sizes_that_do_not_add_up_are_noticed_when_read(store: MemoryBlockStore) -> None:
    leaf = (Cid.of(b"abc"), b"abc")
    root = node(UnixFsNode(FileType.FILE, None, 4, (4,)), [link(leaf[0])])
    directory = node(UnixFsNode(FileType.DIRECTORY), [])
    odd = node(UnixFsNode(FileType.FILE, None, 4, (4,)), [link(directory[0])])
    store.put([leaf, root, directory, odd])
    reader = DagReader(store.get)
    with pytest.raises(IntegrityError) as error:
        list(reader.read_file(root[0]))
    assert str(error.value) == f"block {leaf[0]} holds 3 bytes of a file, its parent claims 4"
    with pytest.raises(IntegrityError) as error:
        list(reader.read_file(odd[0]))
    assert str(error.value) == f"block {directory[0]} is part of a file, but holds no file"


def test_depth_is_bounded(store: MemoryBlockStore) -> None:
    current = (Cid.of(b"x"), b"x")
    store.put([current])
    for _ in range(330):
        current = node(UnixFsNode(FileType.FILE, None, 1, (1,)), [link(current[0])])
        store.put([current])
    reader = DagReader(store.get)
    with pytest.raises(Rejection, match=r"too-deep: block .* lies more than 64 levels deep"):
        list(reader.read_file(current[0]))
    with pytest.raises(Rejection, match=r"too-deep: block .* lies more than 320 levels deep"):
        list(reader.walk(current[0]))
    shard = UnixFsNode(FileType.HAMT_SHARD, b"\x01", hash_type=0x22, fanout=256)
    current = node(shard, [link(Cid.of(b"x"), "00x")])
    for _ in range(9):
        store.put([current])
        current = node(shard, [link(current[0], "00")])
    store.put([current])
    with pytest.raises(Rejection, match=r"too-deep: block .*: directory with more than 8 levels"):
        list(reader.entries(current[0]))


def test_a_walk_comes_with_or_without_duplicates(store: MemoryBlockStore) -> None:
    root = import_stream(store, io.BytesIO(bytes(95)), SMALL).cid
    reader = DagReader(store.get)
    blocks = list(reader.walk(root))
    assert blocks[0][0] == root
    assert sum(cid == Cid.of(bytes(10)) for cid, _ in blocks) == 9
    once = [cid for cid, _ in reader.walk(root, duplicates=False)]
    assert sorted(once) == sorted(store.cids())
    assert len(set(once)) == len(once)


def test_a_walk_holds_a_bounded_number_of_links(store: MemoryBlockStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "MAX_PENDING_LINKS", 10)
    leaf = (Cid.of(b""), b"")
    fits = node(UnixFsNode(FileType.FILE, None, 0, (0,) * 10), [link(leaf[0])] * 10)
    more = node(UnixFsNode(FileType.FILE, None, 0, (0,) * 11), [link(leaf[0])] * 11)
    store.put([leaf, fits, more])
    reader = DagReader(store.get)
    assert len(list(reader.walk(fits[0]))) == 11
    with pytest.raises(Rejection) as error:
        list(reader.walk(more[0]))
    assert str(error.value) == f"too-large: {more[0]} links to more than 10 blocks at once"


def test_identity_blocks_need_no_store(store: MemoryBlockStore) -> None:
    inline = Cid(1, RAW, IDENTITY, b"tiny")
    root = node(UnixFsNode(FileType.DIRECTORY), [link(inline, "f")])
    store.put([root])
    reader = DagReader(store.get)
    assert [entry.size for entry in reader.ls(root[0])] == [4]
    assert b"".join(reader.read_file(reader.resolve(root[0], "f"), 1, 2)) == b"in"
    assert [cid for cid, _ in reader.walk(root[0])] == [root[0]]


def test_a_bad_block_is_named(store: MemoryBlockStore) -> None:
    bad = Cid.of(b"\xff", codec=DAG_PB)
    store.put([(bad, b"\xff")])
    with pytest.raises(Rejection) as error:
        DagReader(store.get).stat(bad)
    assert str(error.value) == f"malformed: block {bad}: unexpected dag-pb field tag 0xff at byte 0"


def test_car_streams_go_out_and_come_back(store: MemoryBlockStore, top: Path) -> None:
    root = import_path(store, top, SMALL).cid
    stream = b"".join(export_car(store, root))
    assert stream == b"".join(export_car(store, root))
    other = MemoryBlockStore()
    assert import_car(other, io.BytesIO(stream)) == (root,)
    assert list(other.cids()) == list(store.cids())
    car = CarReader(io.BytesIO(stream))
    assert car.roots == (root,)
    assert list(car.blocks()) == list(DagReader(store.get).walk(root))
    assert b"".join(write_car([root], car.blocks())) == stream[:59]


def test_broken_car_streams_are_refused(store: MemoryBlockStore, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = import_path(store, top, SMALL).cid
    stream = b"".join(export_car(store, root))
    with pytest.raises(IntegrityError) as error:
        import_car(MemoryBlockStore(), io.BytesIO(stream[:-1]))
    assert str(error.value).startswith("the CAR stream ends within a block, ")
    with pytest.raises(IntegrityError) as error:
        CarReader(io.BytesIO(b""))
    assert str(error.value) == "the CAR stream ends before its header is complete"
    changed = stream[:-1] + bytes([stream[-1] ^ 1])
    with pytest.raises(IntegrityError, match="does not match its CID"):
        import_car(MemoryBlockStore(), io.BytesIO(changed))
    monkeypatch.setattr(car_module, "MAX_CAR_BLOCKS", 3)
    with pytest.raises(Rejection) as rejection:
        import_car(MemoryBlockStore(), io.BytesIO(stream))
    assert str(rejection.value) == "too-many: the CAR stream has more than 3 blocks"
