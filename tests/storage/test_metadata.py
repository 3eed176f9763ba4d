"""Permission bits and modification times: as Helia writes them, in and out again, where the profile keeps them."""

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from mpisa.primitives.car_stream import CarStreamVerifier, DirectoryEntered, FileStarted, SymlinkFound
from mpisa.primitives.cid import DAG_PB, RAW, Cid
from mpisa.primitives.dag_pb import PBNode, encode_node
from mpisa.primitives.errors import Rejection, UsageError
from mpisa.primitives.profiles import UNIXFS_V0_2015, UNIXFS_V1_2025, Profile, profile_by_name
from mpisa.primitives.unixfs import FileType, Mtime, UnixFsNode, encode_unixfs
from mpisa.primitives.unixfs_directory import build_directory
from mpisa.primitives.unixfs_layout import Metadata
from storage.blockstore import MemoryBlockStore
from storage.car import export_car
from storage.export import export_to_path
from storage.importer import cid_of_path, import_path, import_tar
from storage.reader import DagReader
from storage.session import ImportSession
from storage.tar_export import write_tar

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "unixfs-metadata.json").read_text())["cases"]
SMALL = UNIXFS_V1_2025.replace(chunk_size=10, max_links=3)
KEEPING = SMALL.replace(preserve_mode=True, preserve_mtime=True)
TOP = Mtime(1_234_567_890, 123_456_789)
TIMES = {"file": 1_700_000_000_000_000_005, "link": -5_000_000_001, "sub": 7_000_000_000}


def metadata_of(case: dict[str, Any]) -> Metadata:
    time = case["mtime"]
    return Metadata(case["mode"], None if time is None else Mtime(time["seconds"], time["nanoseconds"]))


def test_files_as_helia_makes_them() -> None:
    cases = [case for case in VECTORS if case["kind"] == "file"]
    # With metadata, Helia puts the whole dag-pb block of a single leaf into the file's data: it reads back as other
    # bytes. We write the bytes.
    kept = [case for case in cases if case["raw_leaves"] or case["size"] > 10 or not (case["mode"] or case["mtime"])]
    assert len(kept) > 120
    for case in kept:
        with ImportSession(None, SMALL.replace(raw_leaves=case["raw_leaves"]), None) as session:
            data = bytes(i % 251 for i in range(case["size"]))
            assert str(session.add_file(io.BytesIO(data), metadata_of(case)).cid) == case["cid"], case


def test_directories_as_helia_makes_them() -> None:
    cases = [case for case in VECTORS if case["kind"] == "directory"]
    assert len(cases) == 40
    for case in cases:
        profile = SMALL.replace(hamt_threshold=case["hamt_threshold"])
        with ImportSession(None, profile, None) as session:
            entries = {name: session.add_file(io.BytesIO(name.encode())) for name in case["names"]}
            node = build_directory(entries, profile, session.sink, metadata_of(case))
        assert str(node.cid) == case["cid"], case


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    top = tmp_path / "top"
    (top / "sub" / "plain").mkdir(parents=True)
    (top / "sub" / "file").write_bytes(bytes(200))
    (top / "sub" / "short").write_bytes(b"x")
    (top / "link").symlink_to("sub/file")
    (top / "sub" / "file").chmod(0o750)
    (top / "sub" / "short").chmod(0o600)
    (top / "sub").chmod(0o711)
    top.chmod(0o755)
    os.utime(top / "sub" / "file", ns=(0, TIMES["file"]))
    os.utime(top / "link", ns=(0, TIMES["link"]), follow_symlinks=False)
    os.utime(top / "sub", ns=(0, TIMES["sub"]))
    os.utime(top, ns=(0, 1_234_567_890_123_456_789))
    return top


@pytest.mark.parametrize("threshold", [0, 1 << 18])
@pytest.mark.parametrize("base", [KEEPING, KEEPING.replace(raw_leaves=False, cid_version=0)])
def test_there_and_back(tree: Path, tmp_path: Path, threshold: int, base: Profile) -> None:
    profile = base.replace(hamt_threshold=threshold)
    store = MemoryBlockStore()
    root = import_path(store, tree, profile).cid
    reader = DagReader(store.get)
    export_to_path(reader, root, tmp_path / "out")
    out = tmp_path / "out"
    assert cid_of_path(out, profile) == root
    assert (out / "sub" / "file").stat().st_mode & 0o7777 == 0o750
    assert (out / "link").lstat().st_mtime_ns == TIMES["link"]
    assert out.stat().st_mtime_ns == 1_234_567_890_123_456_789
    stat = reader.stat(reader.resolve(root, "sub/file"))
    assert (stat.mode, stat.mtime, stat.size) == (0o750, Mtime(1_700_000_000, 5), 200)
    assert reader.stat(root).mtime == Mtime(1_234_567_890, 123_456_789)
    archive = b"".join(write_tar(reader, root, "x"))
    assert import_tar(MemoryBlockStore(), io.BytesIO(archive), profile).cid != root
    again = tmp_path / "again"
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(again, filter="data")
        assert tar.getmember("x/sub/file").mode == 0o750
        assert tar.getmember("x/sub").mode == 0o711
    inner = MemoryBlockStore()
    with_top = import_tar(inner, io.BytesIO(archive), profile).cid
    assert DagReader(inner.get).resolve(with_top, "x") == root


def test_a_verifier_tells_them(tree: Path) -> None:
    store = MemoryBlockStore()
    root = import_path(store, tree, KEEPING).cid
    verifier = CarStreamVerifier(root)
    events = [event for piece in export_car(store, root) for event in verifier.feed(piece)]
    assert DirectoryEntered((), None, TOP) in events
    assert DirectoryEntered(("sub",), 0o711, Mtime(7)) in events
    assert FileStarted(("sub", "file"), 200, 0o750, Mtime(1_700_000_000, 5)) in events
    assert SymlinkFound(("link",), "sub/file", Mtime(-6, 999_999_999)) in events


def test_profiles_that_do_not_keep_them_give_the_same_cids(tree: Path) -> None:
    before = [cid_of_path(tree, profile) for profile in (UNIXFS_V0_2015, UNIXFS_V1_2025)]
    (tree / "sub" / "file").chmod(0o777)
    os.utime(tree / "sub" / "file", ns=(0, 1))
    assert [cid_of_path(tree, profile) for profile in (UNIXFS_V0_2015, UNIXFS_V1_2025)] == before
    assert cid_of_path(tree / "sub" / "short", UNIXFS_V1_2025).codec == RAW
    assert cid_of_path(tree / "sub" / "short", KEEPING).codec == DAG_PB
    only_mode = SMALL.replace(preserve_mode=True)
    first = cid_of_path(tree, only_mode)
    os.utime(tree / "sub" / "file", ns=(0, 2))
    assert cid_of_path(tree, only_mode) == first
    (tree / "sub" / "file").chmod(0o700)
    assert cid_of_path(tree, only_mode) != first


def exported(node: UnixFsNode, place: Path) -> Path:
    block = encode_node(PBNode((), encode_unixfs(node)))
    cid = Cid.of(block, codec=DAG_PB)
    store = MemoryBlockStore()
    store.put([(cid, block)])
    export_to_path(DagReader(store.get), cid, place)
    return place


def test_what_strangers_say_is_tamed(tmp_path: Path) -> None:
    file = UnixFsNode(FileType.FILE, b"x", 1, mode=0o106777, mtime=Mtime(1 << 62))
    made = exported(file, tmp_path / "file").stat()
    assert made.st_mode & 0o7777 == 0o777
    assert 0 < made.st_mtime < 1 << 33
    shut = exported(UnixFsNode(FileType.DIRECTORY, mode=0), tmp_path / "shut")
    assert shut.stat().st_mode & 0o7777 == 0o700


@pytest.mark.parametrize("text", ["now", "1e9", "--1", "", "9" * 16, "1.5.5", "0x1"])
def test_times_of_archives_that_are_none(text: str) -> None:
    archive = io.BytesIO()
    with tarfile.open(mode="w", fileobj=archive, format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("a")
        info.pax_headers = {"mtime": text}
        tar.addfile(info)
    archive.seek(0)
    with pytest.raises(Rejection, match="tar entry 'a' has a pax mtime that is no time"):
        import_tar(MemoryBlockStore(), archive, KEEPING)


def test_profiles_by_name_with_what_they_keep() -> None:
    assert profile_by_name("unixfs-v1-2025") is UNIXFS_V1_2025
    both = profile_by_name("unixfs-v0-2015,mode,mtime")
    assert both == UNIXFS_V0_2015.replace(name=both.name, preserve_mode=True, preserve_mtime=True)
    assert profile_by_name("unixfs-v1-2025,mtime").preserve_mode is False
    for name in ("unixfs-v1-2025,", "unixfs-v1-2025,owner", "unixfs-v1-2025,mode,mode", ",mode", "x"):
        with pytest.raises(UsageError):
            profile_by_name(name)
