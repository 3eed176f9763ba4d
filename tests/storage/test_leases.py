"""Leases: what they protect, until when, and that memory stays bounded."""

import hashlib
import threading
from pathlib import Path

import pytest

from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import NotFound, NotReady
from storage import leases as module
from storage.blockstore import MemoryBlockStore
from storage.leases import MAX_LEASES, Leases
from storage.packs import DiskBlockStore
from tests.storage.test_packs import block

OLD, NEW = (1, 32), (2, 500)


def name(seed: int) -> bytes:
    return Cid.of(seed.to_bytes(8, "big")).multihash


def test_what_was_written_since_a_lease_began_is_protected_until_the_last_one_ends() -> None:
    leases = Leases()
    assert leases.doom([(name(1), NEW)]) == {name(1)}
    leases.spare()
    first = leases.open("first", (2, 400))
    second = leases.open("second", (3, 32))
    assert leases.doom([(name(1), NEW), (name(2), OLD)]) == {name(2)}
    leases.spare()
    first.release()
    first.release()
    assert leases.doom([(name(1), NEW), (name(3), (3, 32))]) == {name(1)}
    leases.spare()
    second.release()
    assert (len(leases), leases.doom([(name(3), (3, 32))])) == (0, {name(3)})


def test_touches_and_kept_blocks_are_protected_by_every_lease_open_then() -> None:
    leases = Leases()
    leases.touch(name(1))
    first = leases.open("first", NEW)
    leases.touch(name(2))
    first.keep([Cid.of((3).to_bytes(8, "big")), Cid(1, 0x55, 0, b"inline")])
    second = leases.open("second", NEW)
    first.release()
    blocks = [(name(i), OLD) for i in (1, 2, 3)]
    assert leases.doom(blocks) == {name(1)}
    leases.spare()
    second.release()
    assert leases.doom(blocks) == {name(1), name(2), name(3)}


def test_a_doomed_block_is_absent_for_whoever_asks_under_a_lease() -> None:
    leases = Leases()
    with leases.open("reader", NEW):
        assert leases.doom([(name(1), OLD)]) == {name(1)}
        assert (leases.touch(name(1)), leases.touch(name(2))) == (False, True)
        leases.spare()
        assert leases.touch(name(1))
        assert leases.doom([(name(1), OLD)]) == frozenset()


def test_memory_is_bounded_and_touches_are_never_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FILTER_BLOCKS", 100)
    monkeypatch.setattr(module, "MAX_FILTERS", 4)
    leases = Leases()
    long = leases.open("long", NEW)
    touched = [name(i) for i in range(2_000)]
    for multihash in touched:
        leases.touch(multihash)
    assert len(leases._filters) == 4
    strangers = [(name(i), OLD) for i in range(10_000, 20_000)]
    assert leases.doom([(multihash, OLD) for multihash in touched]) == frozenset()
    assert len(leases.doom(strangers)) > 9_900
    leases.spare()
    short = leases.open("short", NEW)
    long.release()
    assert len(leases._filters) == 1
    short.release()
    assert len(leases._filters) == 0


def test_leases_are_bounded() -> None:
    leases = Leases()
    opened = [leases.open("work", NEW) for _ in range(MAX_LEASES)]
    with pytest.raises(NotReady) as error:
        leases.open("one more", NEW)
    assert str(error.value) == "one more: 1024 pieces of work hold blocks already"
    opened[0].release()
    leases.open("one more", NEW)


def test_threads_that_touch_at_once_lose_no_touch() -> None:
    leases = Leases()
    leases.open("work", NEW)
    names = [hashlib.sha256(i.to_bytes(8, "big")).digest() for i in range(8_000)]
    threads = [
        threading.Thread(target=lambda lane=lane: [leases.touch(n) for n in names[lane::4]]) for lane in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert leases.doom([(n, OLD) for n in names]) == frozenset()


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_stores_answer_lengths_in_one_call_and_lease(tmp_path: Path, kind: str) -> None:
    store = MemoryBlockStore() if kind == "memory" else DiskBlockStore.open(tmp_path)
    store.put([block(0, 100), block(1, 200)])
    inline = Cid(1, 0x55, 0, b"tiny")
    assert store.lengths([block(1, 200)[0], block(2)[0], inline, block(0, 100)[0]]) == [200, None, 4, 100]
    with store.lease("test") as lease:
        lease.keep([block(2)[0]])
    store.close()


def test_every_way_of_finding_a_block_protects_it(tmp_path: Path) -> None:
    store = DiskBlockStore.open(tmp_path)
    blocks = [block(i) for i in range(6)]
    names = [cid.multihash for cid, _ in blocks]
    store.put(blocks)
    with store.lease("reader"):
        store.get(blocks[0][0])
        store.has(blocks[1][0])
        store.size_of(blocks[2][0])
        store.lengths([blocks[3][0]])
        store.put([blocks[4]])
        assert store._leases.doom([(multihash, OLD) for multihash in names]) == {names[5]}
        with pytest.raises(NotFound):
            store.get(blocks[5][0])
        assert (store.has(blocks[5][0]), store.lengths([blocks[5][0]])) == (False, [None])
        store._leases.spare()
        assert store.get(blocks[5][0]) == blocks[5][1]
    store.close()
