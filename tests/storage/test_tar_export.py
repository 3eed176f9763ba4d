"""Tar archives out of trees: what goes in comes out, the same bytes each time, nothing outside of the top name."""

import io
import tarfile
from pathlib import Path

import pytest

from mpisa.primitives.cid import DAG_PB, Cid
from mpisa.primitives.dag_pb import PBLink, PBNode, encode_node
from mpisa.primitives.errors import NotFound, Rejection, RejectionReason
from mpisa.primitives.unixfs import FileType, UnixFsNode, encode_unixfs
from storage import tar_export
from storage.blockstore import MemoryBlockStore
from storage.importer import cid_of_path, import_path, import_tar
from storage.profiles import UNIXFS_V1_2025
from storage.reader import DagReader
from storage.tar_export import write_tar
from tests.storage.gateway_cars import load

SMALL = UNIXFS_V1_2025.replace(chunk_size=10, max_links=3)


@pytest.fixture
def store() -> MemoryBlockStore:
    return MemoryBlockStore()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "top"
    (top / "sub" / "empty").mkdir(parents=True)
    (top / "sub" / "big").write_bytes(bytes(i % 251 for i in range(5000)))
    (top / "sub" / "none").write_bytes(b"")
    (top / "exact").write_bytes(bytes(512))
    (top / ("long-" * 40)).write_bytes(b"long")
    (top / "sub" / ("ą" * 100)).mkdir()
    (top / "sub" / ("ą" * 100) / ("ę" * 60)).write_bytes(b"not ASCII")
    (top / "sub" / "to").symlink_to("../exact")
    (top / "sub" / "far").symlink_to("x" * 300)
    return top


def extracted(data: bytes, place: Path) -> Path:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        tar.extractall(place, filter="data")
    return place


@pytest.mark.parametrize("threshold", [0, 1 << 18])
def test_a_tree_comes_out_as_it_went_in(store: MemoryBlockStore, tree: Path, tmp_path: Path, threshold: int) -> None:
    profile = SMALL.replace(hamt_threshold=threshold)
    root = import_path(store, tree, profile).cid
    data = b"".join(write_tar(DagReader(store.get), root, "model"))
    assert data == b"".join(write_tar(DagReader(store.get), root, "model"))
    assert len(data) % 512 == 0
    out = extracted(data, tmp_path / "out")
    assert [path.name for path in out.iterdir()] == ["model"]
    assert cid_of_path(out / "model", profile) == root
    again = import_tar(MemoryBlockStore(), io.BytesIO(data), profile).cid
    assert again == cid_of_path(out, profile)


def test_a_file_and_a_symlink(store: MemoryBlockStore, tree: Path, tmp_path: Path) -> None:
    reader = DagReader(store.get)
    file = import_path(store, tree / "sub" / "big", SMALL).cid
    out = extracted(b"".join(write_tar(reader, file, "one")), tmp_path / "out")
    assert (out / "one").read_bytes() == (tree / "sub" / "big").read_bytes()
    (tree / "inside").symlink_to("exact")
    link = import_path(store, tree / "inside", SMALL).cid
    with tarfile.open(fileobj=io.BytesIO(b"".join(write_tar(reader, link, "link")))) as tar:
        assert tar.getmember("link").linkname == "exact"


def test_the_headers_are_fixed(store: MemoryBlockStore, tree: Path) -> None:
    root = import_path(store, tree, SMALL).cid
    with tarfile.open(fileobj=io.BytesIO(b"".join(write_tar(DagReader(store.get), root, "x")))) as tar:
        for member in tar:
            assert (member.uid, member.gid, member.uname, member.gname, member.mtime) == (0, 0, "", "", 0)
            assert member.mode == (0o755 if member.isdir() else 0o777 if member.issym() else 0o644)


@pytest.mark.parametrize("target", ["../out", "/etc/passwd", "sub/../../x"])
def test_symlinks_that_lead_out_are_refused_before_anything_of_them(
    store: MemoryBlockStore, tmp_path: Path, target: str
) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "a").write_bytes(b"first")
    (tmp_path / "t" / "link").symlink_to(target)
    root = import_path(store, tmp_path / "t", SMALL).cid
    given = io.BytesIO()
    with pytest.raises(Rejection) as caught:
        given.writelines(write_tar(DagReader(store.get), root, "t"))
    assert str(caught.value) == f"bad-name: symlink 'link' points to {target!r}, outside of the tree"
    assert b"first" in given.getvalue()
    assert b"link" not in given.getvalue()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "a\0", "x" * 256])
def test_top_names_that_are_no_names_are_refused(store: MemoryBlockStore, name: str) -> None:
    with pytest.raises(Rejection) as caught:
        next(write_tar(DagReader(store.get), Cid.of(b"", codec=DAG_PB), name))
    assert caught.value.reason is RejectionReason.BAD_NAME


def test_names_that_lead_out_are_refused() -> None:
    store, root = load("path_gateway_tar/outside-root.car")
    with pytest.raises(Rejection, match=r"directory entry named '\.\./foo'"):
        next(write_tar(DagReader(store.get), root, "x"))


def test_names_that_lead_up_within_the_tree_are_followed(tmp_path: Path) -> None:
    store, root = load("path_gateway_tar/inside-root.car")
    out = extracted(b"".join(write_tar(DagReader(store.get), root, "x")), tmp_path)
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*")) == [
        "x", "x/foobar", "x/foobar/directory", "x/foobar/file",
    ]  # fmt: skip


def directory(store: MemoryBlockStore, entries: dict[str, Cid], kind: FileType = FileType.DIRECTORY) -> Cid:
    links = tuple(PBLink(cid.to_bytes(), name, 0) for name, cid in entries.items())
    block = encode_node(PBNode(links, encode_unixfs(UnixFsNode(kind))))
    cid = Cid.of(block, codec=DAG_PB)
    store.put([(cid, block)])
    return cid


@pytest.mark.parametrize(
    "name", ["../../x", "../a/x", "/x", "x/", "a/x", "../", "..", ".", "", "../..", "./x", "../.", "x\0", "../x\0"]
)
def test_other_names_that_are_paths_are_refused(store: MemoryBlockStore, name: str) -> None:
    leaf = Cid.of(b"leaf")
    store.put([(leaf, b"leaf")])
    root = directory(store, {"a": directory(store, {name: leaf})})
    with pytest.raises(Rejection) as caught:
        list(write_tar(DagReader(store.get), root, "x"))
    assert caught.value.reason is RejectionReason.BAD_NAME


def test_two_entries_never_lie_in_one_place(store: MemoryBlockStore) -> None:
    leaf = Cid.of(b"leaf")
    store.put([(leaf, b"leaf")])
    for inner in ("../b", "../a"):
        root = directory(store, {"a": directory(store, {inner: leaf}), "b": leaf})
        with pytest.raises(Rejection) as caught:
            list(write_tar(DagReader(store.get), root, "x"))
        assert str(caught.value) == f"duplicate: two entries lie at '{inner[-1]}'"


def test_the_published_tree(tmp_path: Path) -> None:
    store, root = load("path_gateway_tar/fixtures.car")
    out = extracted(b"".join(write_tar(DagReader(store.get), root, str(root))), tmp_path)
    assert (out / str(root) / "ą" / "ę" / "file-źł.txt").read_bytes() == b"I am a txt file on path with utf8\n"


def test_a_file_of_a_billion_billion_bytes_ends_at_the_bound(store: MemoryBlockStore) -> None:
    cid, size = Cid.of(b"0123456789"), 10
    store.put([(cid, b"0123456789")])
    for _ in range(9):
        links = tuple(PBLink(cid.to_bytes(), "", 0) for _ in range(100))
        block = encode_node(PBNode(links, encode_unixfs(UnixFsNode(FileType.FILE, None, size * 100, (size,) * 100))))
        cid, size = Cid.of(block, codec=DAG_PB), size * 100
        store.put([(cid, block)])
    assert size == 10**19
    given = io.BytesIO()
    with pytest.raises(Rejection) as caught:
        given.writelines(write_tar(DagReader(store.get), cid, "huge", max_bytes=100_000))
    assert str(caught.value) == f"too-large: the archive of {cid} has more than 100000 bytes"
    assert 90_000 < len(given.getvalue()) <= 100_000


def test_the_number_of_entries_is_bounded(store: MemoryBlockStore, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_export, "MAX_TAR_ENTRIES", 3)
    root = import_path(store, tree, SMALL).cid
    with pytest.raises(Rejection, match="the tree has more than 3 entries"):
        list(write_tar(DagReader(store.get), root, "x"))


def test_a_missing_block_ends_the_archive_with_its_error(store: MemoryBlockStore) -> None:
    with pytest.raises(NotFound):
        list(write_tar(DagReader(store.get), Cid.of(b"missing"), "x"))
