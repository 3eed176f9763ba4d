"""Full and failing disks: typed errors, nothing half there, reads meanwhile, and writing again once there is space."""

import errno
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import plyvel
import pytest

from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import DiskFull
from storage import leveldb
from storage.files import OsFiles, write_fully
from storage.packs import DiskBlockStore
from storage.pins import PinStore


def block(seed: int, size: int = 1000) -> tuple[Cid, bytes]:
    data = hashlib.shake_256(seed.to_bytes(8, "big")).digest(size)
    return Cid.of(data), data


class SickFiles(OsFiles):
    """A disk with `room` bytes left to write, which may also refuse to sync, to cut or to create."""

    def __init__(self) -> None:
        self.room: int | None = None
        self.write_error = errno.ENOSPC
        self.failing_syncs = 0
        self.can_truncate = True
        self.can_create = True

    def open(self, path: Path, *, create: bool) -> int:
        if create and not self.can_create:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().open(path, create=create)

    def write(self, descriptor: int, buffers: Sequence[bytes | memoryview], offset: int) -> int:
        if self.room is None:
            return super().write(descriptor, buffers, offset)
        if self.room == 0:
            raise OSError(self.write_error, os.strerror(self.write_error))
        data = b"".join(buffers)[: self.room]
        self.room -= len(data)
        return super().write(descriptor, [data], offset)

    def sync(self, descriptor: int) -> None:
        if self.failing_syncs:
            self.failing_syncs -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync(descriptor)

    def truncate(self, descriptor: int, length: int) -> None:
        if not self.can_truncate:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().truncate(descriptor, length)


HINT = "free space on this disk (or check it for faults); writes resume by themselves, reads go on meanwhile"


@pytest.mark.parametrize(
    ("number", "text"), [(errno.ENOSPC, "No space left on device"), (errno.EIO, "Input/output error")]
)
@pytest.mark.parametrize("room", [0, 1, 500, 1500, 2119])
def test_a_write_that_does_not_fit_leaves_nothing(tmp_path: Path, number: int, text: str, room: int) -> None:
    files = SickFiles()
    files.write_error = number
    store = DiskBlockStore.open(tmp_path, files=files)
    store.put([block(0)])
    before = store.stats()
    files.room = room
    for _ in range(2):
        with pytest.raises(DiskFull) as error:
            store.put([block(1), block(2)])
        assert str(error.value) == f"can't write to {tmp_path}/packs/00000001.pack: {text}"
        assert error.value.hint == HINT
        files.room = 0
    assert store.get(block(0)[0]) == block(0)[1]
    assert [store.has(block(i)[0]) for i in (1, 2)] == [False, False]
    assert store.stats() == before
    assert (tmp_path / "packs" / "00000001.pack").stat().st_size == before.bytes_used
    files.room = None
    store.put([block(1), block(2)])
    assert store.verify().blocks == 3
    store.close()


def test_after_a_failed_sync_writing_goes_on_in_a_new_pack(tmp_path: Path) -> None:
    files = SickFiles()
    store = DiskBlockStore.open(tmp_path, files=files)
    store.put([block(0)])
    files.failing_syncs, files.can_truncate = 1, False
    with pytest.raises(DiskFull, match="Input/output error"):
        store.put([block(1)])
    files.can_truncate = True
    assert not store.has(block(1)[0])
    store.put([block(2)])
    assert sorted(path.name for path in (tmp_path / "packs").iterdir()) == ["00000001.pack", "00000002.pack"]
    store.close()
    for keep_index in (True, False):
        if not keep_index:
            leveldb.remove_database(tmp_path / "index")
        store = DiskBlockStore.open(tmp_path)
        assert [store.has(block(i)[0]) for i in range(3)] == [True, False, True]
        assert store.verify().intact
        store.close()


def test_a_pack_that_cannot_be_begun_is_tried_again(tmp_path: Path) -> None:
    files = SickFiles()
    store = DiskBlockStore.open(tmp_path, files=files)
    files.can_create = False
    with pytest.raises(DiskFull, match="No space left on device"):
        store.put([block(0)])
    files.can_create, files.failing_syncs = True, 1
    with pytest.raises(DiskFull, match="Input/output error"):
        store.put([block(0)])
    assert list((tmp_path / "packs").iterdir()) == []
    store.put([block(0)])
    assert store.get(block(0)[0]) == block(0)[1]
    store.close()


def test_each_of_the_waiting_callers_gets_an_error_of_its_own(tmp_path: Path) -> None:
    files = SickFiles()
    store = DiskBlockStore.open(tmp_path, files=files)
    store.put([block(0)])
    files.room = 0
    errors: list[DiskFull] = []

    def put(seed: int) -> None:
        try:
            store.put([block(seed)])
        except DiskFull as error:
            errors.append(error)

    threads = [threading.Thread(target=put, args=(seed,)) for seed in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(errors) == len({id(error) for error in errors}) == 8
    store.close()


class FullDatabase:
    """A LevelDB handle after its disk was full: it reads, and refuses to write for good."""

    def __init__(self, real: plyvel.DB) -> None:
        self._real = real

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)

    def write_batch(self, **options: object) -> "FullDatabase":
        return self

    def put(self, key: bytes, value: bytes) -> None:
        pass

    def delete(self, key: bytes) -> None:
        pass

    def write(self) -> None:
        raise plyvel.IOError(b"IO error: 000003.log: No space left on device")


def test_an_index_on_a_full_disk_is_reopened_and_catches_up(tmp_path: Path) -> None:
    store = DiskBlockStore.open(tmp_path)
    store.put([block(0)])
    database = store._index.database
    database._db = FullDatabase(database._db)
    with pytest.raises(DiskFull) as error:
        store.put([block(1)])
    assert str(error.value) == (f"can't write to index {tmp_path}/index: IO error: 000003.log: No space left on device")
    assert error.value.hint == HINT.replace("free space", "free 8 MiB")
    assert store.get(block(0)[0]) == block(0)[1]
    (tmp_path / "index" / "space-probe").mkdir()
    with pytest.raises(DiskFull):
        store.put([block(2)])
    assert store.get(block(0)[0]) == block(0)[1]
    (tmp_path / "index" / "space-probe").rmdir()
    store.put([block(2)])
    assert not database.broken
    assert store.get(block(1)[0]) == block(1)[1]
    assert store.stats().blocks == 3
    assert store.verify().intact
    store.close()


def test_pins_on_a_full_disk_recover(tmp_path: Path) -> None:
    pins = PinStore(tmp_path / "pins")
    pins.pin(block(0)[0])
    pins._database._db = FullDatabase(pins._database._db)
    with pytest.raises(DiskFull):
        pins.pin(block(1)[0])
    assert pins.is_pinned(block(0)[0])
    assert not pins.is_pinned(block(1)[0])
    pins.pin(block(1)[0])
    assert pins.is_pinned(block(1)[0])
    pins.close()


def test_dev_full_is_a_full_disk() -> None:
    descriptor = os.open("/dev/full", os.O_RDWR)
    try:
        with pytest.raises(OSError, match="No space left on device"):
            write_fully(OsFiles(), descriptor, [b"x" * 10], 0)
    finally:
        os.close(descriptor)


LIMITED = """
import resource, signal, sys, hashlib
from pathlib import Path
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import DiskFull
from storage.packs import DiskBlockStore

def block(seed):
    data = hashlib.shake_256(seed.to_bytes(8, "big")).digest(100_000)
    return Cid.of(data), data

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = DiskBlockStore.open(Path(sys.argv[1]))
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
stored = 0
try:
    while True:
        store.put([block(stored)])
        stored += 1
except DiskFull as error:
    print(stored, error)
assert all(store.get(block(i)[0]) == block(i)[1] for i in range(stored))
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
store.put([block(i) for i in range(stored, stored + 5)])
assert store.verify().blocks == stored + 5
store.close()
"""


def test_a_real_limit_of_the_system_is_met_and_lifted(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert run.stderr == ""
    assert run.stdout == f"9 can't write to {tmp_path}/packs/00000001.pack: File too large\n"
    store = DiskBlockStore.open(tmp_path)
    assert store.stats().blocks == 14
    assert store.verify().intact
    store.close()
