"""Exports stay where they were asked to, whole or not at all."""

import os
from pathlib import Path

import pytest

from mpisa.primitives.cid import DAG_PB, Cid
from mpisa.primitives.dag_pb import PBLink, PBNode, encode_node
from mpisa.primitives.errors import NotFound, Rejection, UsageError
from mpisa.primitives.unixfs import FileType, UnixFsNode, encode_unixfs
from storage import export as export_module
from storage.blockstore import MemoryBlockStore
from storage.export import export_to_path
from storage.importer import cid_of_path, import_path
from storage.profiles import UNIXFS_V1_2025
from storage.reader import DagReader


@pytest.fixture
def store() -> MemoryBlockStore:
    return MemoryBlockStore()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def put_node(store: MemoryBlockStore, content: UnixFsNode, links: dict[str, Cid] | None = None) -> Cid:
    pairs = tuple(PBLink(cid.to_bytes(), name, 0) for name, cid in (links or {}).items())
    block = encode_node(PBNode(pairs, encode_unixfs(content)))
    cid = Cid.of(block, codec=DAG_PB)
    store.put([(cid, block), (Cid.of(b"x"), b"x")])
    return cid


def symlink(store: MemoryBlockStore, target: str) -> Cid:
    return put_node(store, UnixFsNode(FileType.SYMLINK, target.encode()))


def directory(store: MemoryBlockStore, **links: Cid) -> Cid:
    return put_node(store, UnixFsNode(FileType.DIRECTORY), links)


@pytest.mark.parametrize("threshold", [0, 1 << 18])
def test_what_went_in_comes_out(store: MemoryBlockStore, out: Path, tmp_path: Path, threshold: int) -> None:
    top = tmp_path / "top"
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "b" / "up").symlink_to("../../f")
    (top / "f").write_bytes(os.urandom(5000))
    (top / "empty").touch()
    profile = UNIXFS_V1_2025.replace(chunk_size=100, max_links=3, hamt_threshold=threshold)
    root = import_path(store, top, profile).cid
    seen: list[int] = []
    assert export_to_path(DagReader(store.get), root, out / "copy", progress=seen.append) == 5000
    assert cid_of_path(out / "copy", profile) == root
    assert seen[-1] == 5000
    export_to_path(DagReader(store.get), cid_of_path(top / "f", profile), out / "file")
    assert (out / "file").read_bytes() == (top / "f").read_bytes()
    assert sorted(path.name for path in out.iterdir()) == ["copy", "file"]


def test_an_existing_path_is_not_touched(store: MemoryBlockStore, out: Path) -> None:
    root = directory(store, f=Cid.of(b"x"))
    (out / "dangling").symlink_to("nowhere")
    (out / "dir").mkdir()
    for name in ("dangling", "dir"):
        with pytest.raises(UsageError) as error:
            export_to_path(DagReader(store.get), root, out / name)
        assert str(error.value) == f"{out}/{name} exists already"
    with pytest.raises(UsageError) as error:
        export_to_path(DagReader(store.get), root, out / "no" / "copy")
    assert str(error.value) == f"{out}/no is not a directory"
    assert sorted(path.name for path in out.iterdir()) == ["dangling", "dir"]


def test_a_missing_block_leaves_nothing(store: MemoryBlockStore, out: Path) -> None:
    root = directory(store, a=Cid.of(b"x"), b=Cid.of(b"missing"))
    with pytest.raises(NotFound):
        export_to_path(DagReader(store.get), root, out / "copy")
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("target", ["/etc/passwd", "..", "../x", "a/../../x", "a/..", "./../x"])
def test_symlinks_that_could_lead_out_are_refused(store: MemoryBlockStore, out: Path, target: str) -> None:
    root = directory(store, s=symlink(store, target))
    with pytest.raises(Rejection) as error:
        export_to_path(DagReader(store.get), root, out / "copy")
    assert str(error.value) == f"bad-name: symlink 's' points to {target!r}, outside of the tree"
    assert list(out.iterdir()) == []
    export_to_path(DagReader(store.get), root, out / "copy", allow_escaping_symlinks=True)
    assert (out / "copy" / "s").readlink() == Path(target)


def test_symlinks_that_only_together_lead_out_are_refused(store: MemoryBlockStore, out: Path) -> None:
    """`d/up` leads to the top, so `d/up/..` would lead above it."""
    root = directory(store, d=directory(store, up=symlink(store, "..")), out=symlink(store, "d/up/.."))
    with pytest.raises(Rejection) as error:
        export_to_path(DagReader(store.get), root, out / "copy")
    assert str(error.value) == "bad-name: symlink 'out' points to 'd/up/..', outside of the tree"


@pytest.mark.parametrize("name", ["..", ".", "a/b", "/abs", "", "nul\0"])
def test_names_that_leave_their_directory_are_refused(store: MemoryBlockStore, out: Path, name: str) -> None:
    root = put_node(store, UnixFsNode(FileType.DIRECTORY), {name: Cid.of(b"x")})
    with pytest.raises(Rejection) as error:
        export_to_path(DagReader(store.get), root, out / "copy")
    assert str(error.value) == f"bad-name: block {root}: directory entry named {name!r}"
    assert list(out.iterdir()) == []


def test_a_name_in_two_shards_is_refused(store: MemoryBlockStore, out: Path) -> None:
    shard = UnixFsNode(FileType.HAMT_SHARD, b"\x01", hash_type=0x22, fanout=256)
    both = UnixFsNode(FileType.HAMT_SHARD, b"\x03", hash_type=0x22, fanout=256)
    one = put_node(store, shard, {"00same": symlink(store, "elsewhere")})
    two = put_node(store, shard, {"00same": Cid.of(b"x")})
    root = put_node(store, both, {"00": one, "01": two})
    with pytest.raises(Rejection) as error:
        export_to_path(DagReader(store.get), root, out / "copy")
    assert str(error.value) == f"duplicate: block {two}: directory with the name 'same' twice"
    assert list(out.iterdir()) == []


def test_the_number_of_entries_and_the_depth_are_bounded(
    store: MemoryBlockStore, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "MAX_EXPORTED_ENTRIES", 3)
    fits = directory(store, a=Cid.of(b"x"), b=Cid.of(b"x"))
    more = directory(store, a=Cid.of(b"x"), b=Cid.of(b"x"), c=Cid.of(b"x"))
    export_to_path(DagReader(store.get), fits, out / "fits")
    with pytest.raises(Rejection) as error:
        export_to_path(DagReader(store.get), more, out / "more")
    assert str(error.value) == "too-many: the tree has more than 3 entries"
    monkeypatch.setattr(export_module, "MAX_TREE_DEPTH", 1)
    with pytest.raises(Rejection) as error:
        export_to_path(DagReader(store.get), directory(store, d=fits), out / "deep")
    assert str(error.value) == "too-deep: 'd/a' lies more than 1 directories deep"
