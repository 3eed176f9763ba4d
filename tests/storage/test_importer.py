"""Imports: bounded memory, special files, changes under way, hostile archives."""

import io
import os
import socket
import tarfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import Denied, DiskFull, IntegrityError, NotFound, Rejection, UsageError
from storage import importer, session, tar_reader
from storage.blockstore import MemoryBlockStore
from storage.importer import cid_of_path, import_path, import_stream, import_tar
from storage.packs import DiskBlockStore
from storage.profiles import UNIXFS_V0_2015, UNIXFS_V1_2025, profile_by_name
from storage.reader import DagReader

SMALL = UNIXFS_V1_2025.replace(chunk_size=10, max_links=3)


class Dribble(io.RawIOBase):
    """A reader that gives a few bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, size: int = -1, /) -> bytes:
        piece, self._data = self._data[: min(size, 7)], self._data[min(size, 7) :]
        return piece


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 29, 30, 31, 90, 91, 275])
@pytest.mark.parametrize("profile", [SMALL, SMALL.replace(raw_leaves=False, cid_version=0)])
def test_streams_and_files_give_one_cid_and_read_back(tmp_path: Path, size: int, profile: object) -> None:
    data = bytes(i * 7 % 251 for i in range(size))
    path = tmp_path / "file"
    path.write_bytes(data)
    store = MemoryBlockStore()
    result = import_path(store, path, profile)  # type: ignore[arg-type]
    assert import_stream(MemoryBlockStore(), Dribble(data), profile) == result  # type: ignore[arg-type]
    assert cid_of_path(path, profile) == result.cid  # type: ignore[arg-type]
    reader = DagReader(store.get)
    assert b"".join(reader.read_file(result.cid)) == data
    assert (result.size, reader.stat(result.cid).size, reader.stat(result.cid).dag_size) == (
        size,
        size,
        result.dag_size,
    )
    assert result.blocks == store.stats().blocks


def test_profiles_have_names_and_limits() -> None:
    assert profile_by_name("unixfs-v0-2015") is UNIXFS_V0_2015
    with pytest.raises(UsageError) as error:
        profile_by_name("nope")
    assert str(error.value) == "unknown profile 'nope'; known are unixfs-v1-2025, unixfs-v0-2015"
    for changes, message in [
        ({"cid_version": 2}, "the CID version must be 0 or 1, not 2"),
        ({"chunk_size": 0}, "the chunk size must be from 1 to 2096896, not 0"),
        ({"chunk_size": 2096897}, "the chunk size must be from 1 to 2096896, not 2096897"),
        ({"max_links": 1}, "the number of links must be from 2 to 8192, not 1"),
        ({"hamt_threshold": -1}, "the HAMT threshold must be from 0 to 2147483648, not -1"),
        ({"hamt_fanout": 16}, "the HAMT fanout must be 256, not 16"),
    ]:
        with pytest.raises(UsageError) as error:
            UNIXFS_V1_2025.replace(**changes)
        assert str(error.value) == message
    assert UNIXFS_V1_2025.replace(chunk_size=None, cid_version=0).hamt_estimate is UNIXFS_V1_2025.hamt_estimate


def test_memory_is_bounded_by_batches_and_progress_is_told() -> None:
    class Watching(MemoryBlockStore):
        largest = 0

        def put(self, blocks: Sequence[tuple[Cid, bytes]]) -> None:
            self.largest = max(self.largest, sum(len(data) for _, data in blocks))
            super().put([])

    class Endless:
        left = 64 << 20

        def read(self, size: int, /) -> bytes:
            size = min(size, self.left)
            self.left -= size
            return os.urandom(64) * (size // 64)

    store = Watching()
    seen: list[int] = []
    result = import_stream(store, Endless(), progress=seen.append)
    assert (result.size, seen[-1], seen == sorted(seen)) == (64 << 20, 64 << 20, True)
    assert 0 < store.largest <= session.BATCH_BYTES + UNIXFS_V1_2025.chunk_size


def test_a_failing_store_stops_the_import() -> None:
    class Full(MemoryBlockStore):
        def put(self, blocks: Sequence[tuple[Cid, bytes]]) -> None:
            raise DiskFull("no space")

    with pytest.raises(DiskFull, match="no space"):
        import_stream(Full(), io.BytesIO(bytes(100)))
    with pytest.raises(DiskFull, match="no space"):
        import_stream(Full(), io.BytesIO(os.urandom(50 << 20)))


def test_everything_that_was_imported_is_durable(tmp_path: Path) -> None:
    store = DiskBlockStore.open(tmp_path / "store")
    data = os.urandom(5 << 20)
    result = import_stream(store, io.BytesIO(data))
    store.close()
    store = DiskBlockStore.open(tmp_path / "store")
    assert b"".join(DagReader(store.get).read_file(result.cid)) == data
    store.close()


def test_symlinks_are_stored_and_never_followed(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "out").symlink_to("/etc/passwd")
    (tmp_path / "dir" / "loop").symlink_to(".")
    store = MemoryBlockStore()
    reader = DagReader(store.get)
    root = import_path(store, tmp_path / "dir").cid
    assert {entry.name: reader.stat(entry.cid).target for entry in reader.ls(root)} == {
        "out": "/etc/passwd",
        "loop": ".",
    }
    alone = import_path(store, tmp_path / "dir" / "loop").cid
    assert reader.stat(alone).target == "."


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.parametrize(("make", "kind"), [(make_pipe, "a pipe"), (make_socket, "a socket")])
def test_special_files_are_refused(tmp_path: Path, make: Callable[[Path], None], kind: str) -> None:
    make(tmp_path / "x")
    for path in (tmp_path, tmp_path / "x"):
        with pytest.raises(UsageError) as error:
            cid_of_path(path)
        assert str(error.value) == f"{tmp_path}/x is {kind}; only files, directories and symlinks can be stored"
    with pytest.raises(UsageError, match="/dev/null is a character device"):
        cid_of_path(Path("/dev/null"))


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as error:
        cid_of_path(tmp_path / "no")
    assert str(error.value) == f"{tmp_path}/no does not exist"
    (tmp_path / "d").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path / "d") + b"/\xff")).touch()
    with pytest.raises(UsageError) as usage:
        cid_of_path(tmp_path / "d")
    assert str(usage.value) == f"{tmp_path}/d has an entry b'\\xff' whose name is not UTF-8"
    (tmp_path / "l").symlink_to(os.fsdecode(b"\xff"))
    with pytest.raises(UsageError) as usage:
        cid_of_path(tmp_path / "l")
    assert str(usage.value) == f"{tmp_path}/l is a symlink whose target is not UTF-8"


def test_a_file_that_may_not_be_read_is_denied(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"x")
    secret.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(Denied) as error:
            cid_of_path(secret)
    finally:
        os.seteuid(user)
    assert str(error.value) == f"{secret} can't be read: permission denied"


@pytest.mark.parametrize("change", ["grow", "shrink", "rewrite"])
def test_a_file_that_changes_is_noticed(tmp_path: Path, change: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(100))

    def progress(done: int) -> None:
        if done == 20:
            if change == "grow":
                with path.open("ab") as file:
                    file.write(b"more")
            elif change == "shrink":
                os.truncate(path, 50)
            else:
                path.write_bytes(bytes(100))
                os.utime(path, ns=(1, 1))

    with pytest.raises(IntegrityError) as error:
        import_path(MemoryBlockStore(), path, SMALL, progress)
    assert str(error.value) == f"{path} changed while it was read"


def test_depth_and_width_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importer, "MAX_IMPORT_DEPTH", 3)
    monkeypatch.setattr(importer, "MAX_DIRECTORY_ENTRIES", 2)
    (tmp_path / "a" / "b").mkdir(parents=True)
    cid_of_path(tmp_path)
    (tmp_path / "a" / "b" / "c").mkdir()
    with pytest.raises(UsageError) as error:
        cid_of_path(tmp_path)
    assert str(error.value) == f"{tmp_path}/a/b/c lies more than 3 directories deep"
    for name in "xyz":
        (tmp_path / name).touch()
    with pytest.raises(UsageError) as error:
        cid_of_path(tmp_path)
    assert str(error.value) == f"{tmp_path} has more than 2 entries"


def test_a_directory_too_large_for_a_block_asks_for_sharding(tmp_path: Path) -> None:
    profile = UNIXFS_V1_2025.replace(hamt_threshold=1 << 31)
    archive = tar(*[file(f"{i:0250}") for i in range(7500)])
    with pytest.raises(UsageError) as error:
        import_tar(MemoryBlockStore(), archive, profile)
    assert str(error.value) == "a directory of 7500 entries takes a block of 2220004 bytes; at most 2097152 fit"
    assert error.value.hint == "choose a lower HAMT threshold"


def test_imports_run_side_by_side(tmp_path: Path) -> None:
    store = DiskBlockStore.open(tmp_path)
    results: dict[int, Cid] = {}

    def work(number: int) -> None:
        results[number] = import_stream(store, io.BytesIO(bytes([number]) * 3_000_000)).cid

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for number, cid in results.items():
        assert b"".join(DagReader(store.get).read_file(cid)) == bytes([number]) * 3_000_000
    assert len(results) == 6
    store.close()


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def file(name: str, data: bytes = b"data") -> tuple[tarfile.TarInfo, bytes]:
    info = entry(name)
    info.size = len(data)
    return info, data


def tar(*members: tuple[tarfile.TarInfo, bytes] | tarfile.TarInfo, layout: int = tarfile.PAX_FORMAT) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=layout) as archive:
        for member in members:
            info, data = member if isinstance(member, tuple) else (member, b"")
            archive.addfile(info, io.BytesIO(data))
    return io.BytesIO(buffer.getvalue())


@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("threshold", [0, 1 << 18])
def test_an_archive_is_the_directory_it_was_made_of(tmp_path: Path, layout: int, threshold: int) -> None:
    top = tmp_path / "top"
    (top / "b" / "empty").mkdir(parents=True)
    (top / ("d" * 60) / ("e" * 60)).mkdir(parents=True)
    (top / ("d" * 60) / ("e" * 60) / "long").write_bytes(b"long")
    (top / "b" / "é.bin").write_bytes(bytes(1000))
    (top / "b" / "link").symlink_to("../.." + "/x" * 40)
    (top / "zero").touch()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=layout) as archive:
        archive.add(top, arcname=".")
    profile = SMALL.replace(hamt_threshold=threshold)
    assert import_tar(MemoryBlockStore(), Dribble(buffer.getvalue()), profile) == import_path(
        MemoryBlockStore(), top, profile
    )


LONG = "n" * 256
BAD_ARCHIVES = {
    "absolute": ([file("/etc/passwd")], "bad-name: tar entry '/etc/passwd' has an absolute name"),
    "above": ([file("a/../../x")], "bad-name: tar entry 'a/../../x' has '..' in its name"),
    "dotdot": ([entry("..", tarfile.DIRTYPE)], "bad-name: tar entry '..' has '..' in its name"),
    "empty part": ([file("a//b")], "bad-name: tar entry 'a//b' has an empty part in its name"),
    "no name": ([file(".")], "bad-name: tar entry '.' has no name"),
    "long part": ([file(LONG)], f"too-large: tar entry '{'n' * 120}...' has a name part of more than 255 bytes"),
    "long name": (
        [file("d/" * 2049 + "x")],
        f"too-large: tar entry '{'d/' * 60}...' has a name of more than 4096 bytes",
    ),
    "deep": ([file("d/" * 128 + "x")], f"too-deep: tar entry '{'d/' * 60}...' lies more than 128 directories deep"),
    "twice": ([file("a"), file("./a")], "duplicate: tar entry './a' is there twice"),
    "directory twice": (
        [entry("d", tarfile.DIRTYPE), entry("d", tarfile.DIRTYPE)],
        "duplicate: tar entry 'd' is there twice",
    ),
    "file then directory": ([file("a"), entry("a", tarfile.DIRTYPE)], "duplicate: tar entry 'a' is there twice"),
    "directory then file": ([file("a/b"), file("a")], "duplicate: tar entry 'a' is there twice"),
    "below a file": ([file("a"), file("a/b")], "duplicate: tar entry 'a/b' lies in 'a', which is not a directory"),
    "below a symlink": (
        [entry("s", tarfile.SYMTYPE, "/etc"), file("s/passwd")],
        "duplicate: tar entry 's/passwd' lies in 's', which is not a directory",
    ),
    "hard link": ([file("a"), entry("b", tarfile.LNKTYPE, "a")], "unsupported: tar entry 'b' is a hard link"),
    "device": ([entry("null", tarfile.CHRTYPE)], "unsupported: tar entry 'null' is a character device"),
    "disk": ([entry("sda", tarfile.BLKTYPE)], "unsupported: tar entry 'sda' is a block device"),
    "pipe": ([entry("fifo", tarfile.FIFOTYPE)], "unsupported: tar entry 'fifo' is a pipe"),
    "sparse": ([entry("s", tarfile.GNUTYPE_SPARSE)], "unsupported: tar entry 's' is a sparse file"),
    "unknown": ([entry("u", b"Z")], "unsupported: tar entry 'u' is of unknown type b'Z'"),
}


@pytest.mark.parametrize("name", BAD_ARCHIVES)
def test_hostile_archives_are_refused_by_the_entry(name: str) -> None:
    members, message = BAD_ARCHIVES[name]
    with pytest.raises(Rejection) as error:
        import_tar(MemoryBlockStore(), tar(*members))
    assert str(error.value) == message


def test_symlinks_of_an_archive_are_data() -> None:
    store = MemoryBlockStore()
    result = import_tar(store, tar(entry("s", tarfile.SYMTYPE, "../../../etc/shadow")))
    assert [DagReader(store.get).stat(e.cid).target for e in DagReader(store.get).ls(result.cid)] == [
        "../../../etc/shadow"
    ]


def test_truncated_archives_are_noticed() -> None:
    whole = tar(file("a", bytes(600)), file("b")).getvalue()
    assert len(whole) == 10240
    for end, message in [
        (0, "malformed: the tar archive is cut off in a header at its beginning"),
        (100, "malformed: the tar archive is cut off in a header at its beginning"),
        (600, "malformed: tar entry 'a' is cut off, 512 bytes are missing"),
        (1500, "malformed: the tar archive is cut off in padding after entry 'a'"),
        (1536, "malformed: the tar archive is cut off in a header after entry 'a'"),
        (2560, "malformed: the tar archive is cut off in a header after entry 'b'"),
    ]:
        with pytest.raises(Rejection) as error:
            import_tar(MemoryBlockStore(), io.BytesIO(whole[:end]))
        assert str(error.value) == message
    with pytest.raises(Rejection) as error:
        import_tar(MemoryBlockStore(), io.BytesIO(whole + b"smuggled"))
    assert str(error.value) == "malformed: the tar archive has bytes behind its end marker"


def test_extended_headers_are_bounded() -> None:
    for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME):
        info = entry("bomb", kind)
        info.size = 1 << 40
        with pytest.raises(Rejection) as error:
            import_tar(MemoryBlockStore(), io.BytesIO(info.tobuf(tarfile.GNU_FORMAT)))
        assert str(error.value) == (
            "too-large: tar entry 'bomb' is an extended header of 1099511627776 bytes, at most 65536 are read"
        )


@pytest.mark.parametrize("record", [b"x", b"5 a=", b"99 a=b\n", b"-5 a=b\n", b"6 abc\n"])
def test_bad_pax_records_are_refused(record: bytes) -> None:
    info = entry("pax", tarfile.XHDTYPE)
    info.size = len(record)
    raw = info.tobuf(tarfile.GNU_FORMAT) + record.ljust(512, b"\0")
    with pytest.raises(Rejection) as error:
        import_tar(MemoryBlockStore(), io.BytesIO(raw + tar(file("a")).getvalue()))
    assert str(error.value) == "malformed: pax header 'pax': bad record at 0"


def test_the_number_of_entries_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_reader, "MAX_TAR_ENTRIES", 2)
    import_tar(MemoryBlockStore(), tar(file("a"), file("b")))
    with pytest.raises(Rejection) as error:
        import_tar(MemoryBlockStore(), tar(file("a"), file("b"), file("c")))
    assert str(error.value) == "too-many: tar entry 'c' is one of more than 2"


def test_random_bytes_are_no_archive() -> None:
    with pytest.raises(Rejection, match="malformed: tar header after entry ''"):
        import_tar(MemoryBlockStore(), io.BytesIO(b"\x01" * 512))
