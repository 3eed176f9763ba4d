"""Paths: through directories, documents, links and symlinks, never out of the tree."""

from pathlib import Path

import pytest

from mpisa.primitives.cid import DAG_CBOR, DAG_JSON, DAG_PB, IDENTITY, RAW, Cid
from mpisa.primitives.dag_json import encode_dag_json
from mpisa.primitives.dag_pb import PBLink, PBNode, encode_node
from mpisa.primitives.errors import NotFound, Rejection, RejectionReason, UsageError
from mpisa.primitives.ipld import Link, Value, encode_dag_cbor
from mpisa.primitives.path_walk import MAX_SYMLINKS
from storage.blockstore import MemoryBlockStore
from storage.importer import import_path
from storage.paths import Resolved, resolve
from storage.profiles import UNIXFS_V1_2025
from storage.reader import DagReader, Kind
from tests.storage.gateway_cars import load


@pytest.fixture
def store() -> MemoryBlockStore:
    return MemoryBlockStore()


def put(store: MemoryBlockStore, value: Value, codec: int = DAG_CBOR) -> Cid:
    block = encode_dag_cbor(value) if codec == DAG_CBOR else encode_dag_json(value)
    cid = Cid.of(block, codec=codec)
    store.put([(cid, block)])
    return cid


def at(store: MemoryBlockStore, root: Cid, path: str, *, follow: bool = True) -> Resolved:
    return resolve(DagReader(store.get), root, path.split("/") if path else [], follow_symlinks=follow)


@pytest.mark.parametrize("threshold", [0, 1 << 18])
def test_symlinks_in_the_middle_are_followed(store: MemoryBlockStore, tmp_path: Path, threshold: int) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(b"found")
    (tmp_path / "to-b").symlink_to("a/./b/")
    (tmp_path / "a" / "up").symlink_to("../to-b")
    (tmp_path / "a" / "here").symlink_to(".")
    root = import_path(store, tmp_path, UNIXFS_V1_2025.replace(hamt_threshold=threshold)).cid
    file = Cid.of(b"found")
    for path in ("a/b/file", "to-b/file", "a/up/file", "a/here/here/b/file", "a/here/up/file"):
        assert at(store, root, path).cid == file, path
    found = at(store, root, "a/up/file")
    assert found.path_blocks[0] == root
    assert found.roots[0] == root
    assert found.roots[-1] == file
    with pytest.raises(NotFound, match="is not a directory"):
        at(store, root, "to-b/file", follow=False)
    link = at(store, root, "to-b").cid
    assert DagReader(store.get).stat(link).target == "a/./b/"


@pytest.mark.parametrize("target", ["/etc", "..", "../x", "a/b/../../..", "../../a/../../.."])
def test_no_symlink_leads_out(store: MemoryBlockStore, tmp_path: Path, target: str) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "out").symlink_to("../" + target if not target.startswith("/") else target)
    root = import_path(store, tmp_path).cid
    with pytest.raises(NotFound, match="leads out of the tree"):
        at(store, root, "a/out/passwd")


def test_symlinks_that_lead_to_each_other_end(store: MemoryBlockStore, tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    root = import_path(store, tmp_path).cid
    with pytest.raises(Rejection) as caught:
        at(store, root, "one/x")
    assert str(caught.value) == f"too-deep: a path below {root} goes through more than {MAX_SYMLINKS} symlinks"


def test_long_targets_of_symlinks_are_bounded(store: MemoryBlockStore, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "s").symlink_to("../d/" * 700 + "s")
    root = import_path(store, tmp_path).cid
    with pytest.raises(Rejection) as caught:
        at(store, root, "d/s/x")
    assert caught.value.reason is RejectionReason.TOO_DEEP


def test_dots_in_a_path_are_names(store: MemoryBlockStore, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "f").write_bytes(b"")
    root = import_path(store, tmp_path).cid
    for part in ("..", ".", "", "a/../f"):
        with pytest.raises(NotFound):
            resolve(DagReader(store.get), root, [*(["a"] if part != "a/../f" else []), part])
    with pytest.raises(UsageError, match="a path of 257 parts, at most 256"):
        resolve(DagReader(store.get), root, ["a"] * 257)


@pytest.mark.parametrize("codec", [DAG_CBOR, DAG_JSON])
def test_documents(store: MemoryBlockStore, codec: int) -> None:
    leaf = put(store, {"name": "leaf", "list": [1, {"deep": None}]}, codec)
    root = put(store, {"a": {"link": Link(leaf)}, "..": 1, "l": [Link(leaf)]}, codec)
    assert at(store, root, "") == Resolved(root, (), (root,))
    assert at(store, root, "a/link") == Resolved(leaf, (root,), (root, leaf))
    assert at(store, root, "l/0") == Resolved(leaf, (root,), (root, leaf))
    assert at(store, root, "l/0/name") == Resolved(leaf, (root,), (root, leaf), ("name",), "leaf")
    assert at(store, root, "l/0/list/1/deep") == Resolved(leaf, (root,), (root, leaf), ("list", "1", "deep"), None)
    assert at(store, root, "..").value == 1
    for path in (
        "a/nope",
        "a/link/nope",
        "l/1",
        "l/00",
        "l/-1",
        "l/x",
        "l/²",
        "a/link/name/x",
        "l/99999999999999999999",
    ):
        with pytest.raises(NotFound) as caught:
            at(store, root, path)
        parts = path.split("/")
        assert str(caught.value) == f"there is no {parts[-1]!r} in {'/'.join([str(root), *parts[:-1]])}"


def test_documents_of_strangers() -> None:
    for name in ("dag-cbor-traversal.car", "dag-json-traversal.car"):
        store, root = load(f"path_gateway_dag/{name}")
        found = at(store, root, "foo/link/bar")
        assert (found.remainder, found.value) == (("bar",), "this is not a link") or found.remainder == ()
        assert at(store, root, "foo").remainder == ("foo",)
        with pytest.raises(NotFound):
            at(store, root, "foo/i-do-not-exist")


def test_from_a_document_into_files_and_no_symlink_back(store: MemoryBlockStore, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "out").symlink_to("../..")
    (tmp_path / "file").write_bytes(b"x")
    tree = import_path(store, tmp_path).cid
    root = put(store, {"tree": Link(tree)})
    assert at(store, root, "tree/file").cid == Cid.of(b"x")
    with pytest.raises(NotFound, match="leads out of the tree"):
        at(store, root, "tree/sub/out/x")


def test_nodes_that_are_no_files_are_followed_by_the_names_of_their_links(store: MemoryBlockStore) -> None:
    leaf = Cid.of(b"leaf")
    block = encode_node(PBNode((PBLink(leaf.to_bytes(), "x", 4),), None))
    root = Cid.of(block, codec=DAG_PB)
    store.put([(root, block)])
    assert at(store, root, "x").cid == leaf
    with pytest.raises(NotFound):
        at(store, root, "y")


def test_identity_documents_need_no_block(store: MemoryBlockStore) -> None:
    leaf = Cid.of(b"leaf")
    root = Cid(1, DAG_CBOR, IDENTITY, encode_dag_cbor({"a": Link(leaf)}))
    assert at(store, root, "a") == Resolved(leaf, (), (root, leaf))


def test_malformed_blocks_are_named(store: MemoryBlockStore) -> None:
    for codec, block in (
        (DAG_CBOR, b"\xff"),
        (DAG_JSON, b"{"),
        (DAG_PB, b"\xff"),
        (DAG_PB, encode_node(PBNode((), b"?"))),
    ):
        root = Cid.of(block, codec=codec)
        store.put([(root, block)])
        with pytest.raises(Rejection):
            at(store, root, "a")
    with pytest.raises(NotFound):
        at(store, Cid.of(b"raw", codec=RAW), "a")


def test_directories_with_documents_are_listed() -> None:
    store, root = load("trustless_gateway_car/dir-with-dag-cbor-with-links.car")
    found = list(DagReader(store.get).ls(root))
    assert [(entry.name, entry.kind, entry.cid.codec) for entry in found] == [("document", Kind.BLOCK, DAG_CBOR)]
