"""The disk store: what it promises, across reopening, crashes, damage and limits."""

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mpisa.primitives.cid import DAG_PB, Cid
from mpisa.primitives.errors import NotFound, NotReady, Rejection, StoreBusy, UsageError
from storage.blockstore import MAX_BLOCK_BYTES, MemoryBlockStore, QuotaExceeded
from storage.files import MAX_OPEN_PACKS, OsFiles, PackFiles
from storage.packs import DiskBlockStore
from storage.records import PACK_HEADER_BYTES, record_size

CID_BYTES = 36


def block(seed: int, size: int = 1000) -> tuple[Cid, bytes]:
    data = hashlib.shake_256(seed.to_bytes(8, "big")).digest(size)
    return Cid.of(data), data


def pack_path(path: Path, number: int = 1) -> Path:
    return path / "packs" / f"{number:08d}.pack"


def flip(path: Path, offset: int, bit: int = 0) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ (1 << bit)]))


def record_offset(index: int, size: int = 1000) -> int:
    """Where the record of the index-th equally large block begins in a pack."""
    return PACK_HEADER_BYTES + index * record_size(CID_BYTES, size)


def wait_until(condition: Callable[[], bool], *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        pause.wait(0.002)


@pytest.fixture(params=["memory", "disk"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MemoryBlockStore | DiskBlockStore]:
    opened = MemoryBlockStore() if request.param == "memory" else DiskBlockStore.open(tmp_path / "store")
    yield opened
    opened.close()


def test_blocks_come_back_under_every_form_of_their_cid(store: MemoryBlockStore | DiskBlockStore) -> None:
    data = b"\x0a\x02\x08\x01"
    old, new = Cid.of(data, codec=DAG_PB, version=0), Cid.of(data, codec=DAG_PB)
    store.put([(old, data), block(1), block(1)])
    assert (store.get(old), store.get(new), store.size_of(new), store.has(new)) == (data, data, 4, True)
    assert store.get(block(1)[0]) == block(1)[1]
    assert store.stats().blocks == 2
    assert sorted(store.cids()) == sorted([old, block(1)[0]])
    assert store.verify().intact


def test_what_is_not_there_is_not_found(store: MemoryBlockStore | DiskBlockStore) -> None:
    cid = block(1)[0]
    assert not store.has(cid)
    with pytest.raises(NotFound) as error:
        store.get(cid)
    assert str(error.value) == f"block {cid} is not in this store"
    with pytest.raises(NotFound):
        store.size_of(cid)


def test_identity_cids_carry_their_block(store: MemoryBlockStore | DiskBlockStore) -> None:
    cid = Cid(1, 0x55, 0, b"tiny")
    store.put([(cid, b"tiny")])
    assert (store.get(cid), store.has(cid), store.size_of(cid)) == (b"tiny", True, 4)
    assert store.stats().blocks == 0


def test_blocks_that_nobody_could_check_are_refused(store: MemoryBlockStore | DiskBlockStore) -> None:
    large = bytes(MAX_BLOCK_BYTES + 1)
    with pytest.raises(UsageError) as error:
        store.put([(Cid.of(large), large)])
    assert str(error.value) == f"block {Cid.of(large)} has 2097153 bytes; at most 2097152 are stored"
    store.put([(Cid.of(large[:-1]), large[:-1])])
    with pytest.raises(Rejection, match="expected sha2-256 or identity"):
        store.put([(Cid(1, 0x55, 0x13, bytes(64)), b"x")])


def test_the_empty_block_and_an_empty_put(store: MemoryBlockStore | DiskBlockStore) -> None:
    store.put([])
    store.put([(Cid.of(b""), b"")])
    assert store.get(Cid.of(b"")) == b""


def test_blocks_survive_reopening(tmp_path: Path) -> None:
    store = DiskBlockStore.open(tmp_path)
    blocks = [block(i) for i in range(50)]
    store.put(blocks[:25])
    store.put(blocks[25:])
    before = store.stats()
    store.close()
    store.close()
    with pytest.raises(NotReady):
        store.put([block(99)])
    store = DiskBlockStore.open(tmp_path)
    assert store.stats() == before
    assert [store.get(cid) for cid, _ in blocks] == [data for _, data in blocks]
    store.close()


def test_a_second_opener_is_told_who_holds_it(tmp_path: Path) -> None:
    store = DiskBlockStore.open(tmp_path)
    with pytest.raises(StoreBusy) as error:
        DiskBlockStore.open(tmp_path)
    assert str(error.value) == f"another node runs on this home: {tmp_path} is locked"
    assert error.value.hint == "stop that node first, or talk to it with --endpoint"
    store.close()
    DiskBlockStore.open(tmp_path).close()


def test_packs_are_finished_at_their_size(tmp_path: Path) -> None:
    limit = PACK_HEADER_BYTES + 3 * record_size(CID_BYTES, 1000)
    store = DiskBlockStore.open(tmp_path, max_pack_bytes=limit)
    for i in range(7):
        store.put([block(i)])
    assert [path.stat().st_size for path in sorted((tmp_path / "packs").iterdir())] == [limit, limit, 32 + 1060]
    store.close()
    shutil.rmtree(tmp_path / "index")
    store = DiskBlockStore.open(tmp_path, max_pack_bytes=limit)
    assert store.stats().blocks == 7
    assert all(store.get(block(i)[0]) == block(i)[1] for i in range(7))
    store.put([block(7)])
    assert store.verify().intact
    store.close()


def test_the_quota_is_never_exceeded(tmp_path: Path) -> None:
    limit = PACK_HEADER_BYTES + 2 * record_size(CID_BYTES, 1000)
    store = DiskBlockStore.open(tmp_path, max_bytes=limit)
    store.put([block(0)])
    with pytest.raises(QuotaExceeded) as error:
        store.put([block(1), block(2)])
    assert str(error.value) == f"the store may hold {limit} bytes, 1092 are used and 2120 more do not fit"
    assert not store.has(block(1)[0])
    store.put([block(0), block(1)])
    assert store.stats().bytes_used == limit == pack_path(tmp_path).stat().st_size
    store.close()


def test_concurrent_puts_share_syncs_and_all_are_durable(tmp_path: Path) -> None:
    syncs = 0
    entered, release = threading.Event(), threading.Event()

    class CountingFiles(OsFiles):
        def sync(self, descriptor: int) -> None:
            nonlocal syncs
            syncs += 1
            entered.set()
            assert release.wait(30)
            super().sync(descriptor)

    store = DiskBlockStore.open(tmp_path, files=CountingFiles())
    threads = [threading.Thread(target=store.put, args=([block(0)],))]
    threads[0].start()
    assert entered.wait(30)
    threads += [threading.Thread(target=store.put, args=([block(i)],)) for i in range(1, 20)]
    for thread in threads[1:]:
        thread.start()
    wait_until(lambda: store._queue.waiting == 19)
    release.set()
    for thread in threads:
        thread.join(30)
    assert syncs == 3  # the pack's header, the first put, all others together
    store.close()
    store = DiskBlockStore.open(tmp_path)
    assert all(store.get(block(i)[0]) == block(i)[1] for i in range(20))
    store.close()


def test_a_torn_tail_is_cut_wherever_it_tore(tmp_path: Path) -> None:
    store = DiskBlockStore.open(tmp_path / "whole")
    store.put([block(0), block(1)])
    index_before = tmp_path / "index-before"
    store.close()
    shutil.copytree(tmp_path / "whole" / "index", index_before)
    store = DiskBlockStore.open(tmp_path / "whole")
    store.put([block(2), block(3)])
    store.close()
    whole = pack_path(tmp_path / "whole").read_bytes()
    start = record_offset(2)
    for end in [
        start,
        start + 1,
        start + 27,
        start + 63,
        start + 900,
        record_offset(3),
        record_offset(3) + 70,
        len(whole) - 1,
    ]:
        torn = tmp_path / f"torn-{end}"
        (torn / "packs").mkdir(parents=True)
        shutil.copytree(index_before, torn / "index")
        pack_path(torn).write_bytes(whole[:end])
        store = DiskBlockStore.open(torn)
        assert store.stats().blocks == 2
        assert pack_path(torn).stat().st_size == start
        store.put([block(2), block(4)])
        assert store.verify().blocks == 4
        store.close()


def test_a_tail_of_pages_that_never_reached_the_disk_is_cut(tmp_path: Path) -> None:
    store = DiskBlockStore.open(tmp_path)
    store.put([block(0)])
    store.close()
    with pack_path(tmp_path).open("ab") as file:
        file.write(bytes(5000))
    store = DiskBlockStore.open(tmp_path)
    assert pack_path(tmp_path).stat().st_size == record_offset(1)
    assert store.get(block(0)[0]) == block(0)[1]
    store.close()


def test_what_the_index_lost_in_a_power_cut_is_found_in_the_packs(tmp_path: Path) -> None:
    store = DiskBlockStore.open(tmp_path)
    store.put([block(0)])
    store.close()
    shutil.copytree(tmp_path / "index", tmp_path / "index-old")
    store = DiskBlockStore.open(tmp_path)
    for i in range(1, 30):
        store.put([block(i)])
    store.close()
    shutil.rmtree(tmp_path / "index")
    (tmp_path / "index-old").rename(tmp_path / "index")
    store = DiskBlockStore.open(tmp_path)
    assert store.stats().blocks == 30
    assert all(store.get(block(i)[0]) == block(i)[1] for i in range(30))
    assert store.verify().intact
    store.close()


def test_a_pack_whose_creation_was_cut_short_is_forgotten(tmp_path: Path) -> None:
    store = DiskBlockStore.open(tmp_path)
    store.put([block(0)])
    store.close()
    for leftover in (b"", b"MPISAPK1", bytes(PACK_HEADER_BYTES)):
        pack_path(tmp_path, 2).write_bytes(leftover)
        store = DiskBlockStore.open(tmp_path)
        assert not pack_path(tmp_path, 2).exists()
        assert store.get(block(0)[0]) == block(0)[1]
        store.close()


def test_open_packs_are_bounded_and_never_closed_in_use(tmp_path: Path) -> None:
    limit = PACK_HEADER_BYTES + record_size(CID_BYTES, 100)
    store = DiskBlockStore.open(tmp_path, max_pack_bytes=limit)
    count = MAX_OPEN_PACKS + 16
    for i in range(count):
        store.put([block(i, 100)])
    failures: list[BaseException] = []

    def read_all() -> None:
        try:
            for i in range(count):
                assert store.get(block(i, 100)[0]) == block(i, 100)[1]
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=read_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert store._packs.open_count() <= MAX_OPEN_PACKS
    store.close()


def test_a_leased_pack_stays_open_while_others_push_it_out(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        pack_path(tmp_path, number).parent.mkdir(exist_ok=True)
        pack_path(tmp_path, number).write_bytes(bytes([number]))
    packs = PackFiles(tmp_path / "packs", OsFiles(), max_open=1)
    with packs.lease(1) as descriptor:
        assert packs.read(2, 1, 0) == b"\x02"
        assert packs.read(3, 1, 0) == b"\x03"
        packs.forget(1)
        assert os.pread(descriptor, 1, 0) == b"\x01"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pread(descriptor, 1, 0)
    packs.close()
