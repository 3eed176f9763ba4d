"""Blocks on their way to the disk: readable at once, grouped, bounded, and whoever waits hears of failures."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from mpisa.node import write_behind
from mpisa.node.write_behind import Arrivals, Owner, WriteBehind
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import DiskFull, NotReady
from storage.blockstore import MemoryBlockStore


class Gated(MemoryBlockStore):
    """A store whose puts wait for a gate and may fail."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.groups: list[int] = []
        self.error: DiskFull | None = None

    def put(self, blocks: Sequence[tuple[Cid, bytes]]) -> None:
        assert self.gate.wait(10)
        if self.error is not None:
            raise self.error
        self.groups.append(len(blocks))
        super().put(blocks)


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture
def store() -> Gated:
    return Gated()


def block(number: int, size: int = 1000) -> tuple[Cid, bytes]:
    data = number.to_bytes(4, "big") * (size // 4)
    return Cid.of(data), data


async def test_a_block_is_read_before_it_is_durable(store: Gated, executor: ThreadPoolExecutor) -> None:
    behind, owner = WriteBehind(store, executor, 1 << 20), Owner()
    store.gate.clear()
    cid, data = block(1)
    await behind.add(cid, data, owner)
    settling = asyncio.create_task(behind.settle(owner))
    await asyncio.sleep(0)
    assert Arrivals(behind, store).get(cid) == data
    assert (store.has(cid), settling.done(), behind.held_bytes) == (False, False, 1000)
    store.gate.set()
    await settling
    assert (store.get(cid), behind.get(cid), behind.held_bytes) == (data, None, 0)


async def test_what_comes_while_the_disk_is_busy_makes_one_group(store: Gated, executor: ThreadPoolExecutor) -> None:
    behind, owner = WriteBehind(store, executor, 1 << 20), Owner()
    store.gate.clear()
    for number in range(100):
        await behind.add(*block(number), owner)
    store.gate.set()
    await behind.settle(owner)
    assert store.groups == [100]


async def test_a_group_starts_by_itself(store: Gated, executor: ThreadPoolExecutor) -> None:
    stored = asyncio.Event()
    behind = WriteBehind(store, executor, 1 << 20)
    await behind.add(*block(1), Owner(stored.set))
    async with asyncio.timeout(10):
        await stored.wait()


async def test_no_more_is_held_than_the_window(store: Gated, executor: ThreadPoolExecutor) -> None:
    behind, owner = WriteBehind(store, executor, 10_000), Owner()
    store.gate.clear()
    for number in range(10):
        await behind.add(*block(number), owner)
    eleventh = asyncio.create_task(behind.add(*block(10), owner))
    await asyncio.sleep(0)
    assert (eleventh.done(), behind.held_bytes) == (False, 10_000)
    store.gate.set()
    await eleventh
    await behind.settle(owner)
    assert len(list(store.cids())) == 11


async def test_a_block_larger_than_the_window_passes_alone(store: Gated, executor: ThreadPoolExecutor) -> None:
    behind, owner = WriteBehind(store, executor, 10), Owner()
    for number in range(3):
        await behind.add(*block(number), owner)
    await behind.settle(owner)
    assert len(list(store.cids())) == 3


async def test_small_blocks_are_bounded_by_their_number(
    store: Gated, executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_behind, "MAX_BLOCKS", 3)
    behind, owner = WriteBehind(store, executor, 1 << 20), Owner()
    store.gate.clear()
    for number in range(3):
        await behind.add(*block(number), owner)
    fourth = asyncio.create_task(behind.add(*block(4), owner))
    await asyncio.sleep(0)
    assert not fourth.done()
    store.gate.set()
    await fourth
    await behind.close()


async def test_a_failed_write_is_heard_by_its_owners_alone(store: Gated, executor: ThreadPoolExecutor) -> None:
    behind, heard = WriteBehind(store, executor, 1 << 20), list[Exception]()
    one, other = Owner(on_failed=heard.append), Owner()
    store.error = DiskFull("no space left")
    cid, data = block(1)
    await behind.add(cid, data, one)
    with pytest.raises(DiskFull):
        await behind.settle(one)
    with pytest.raises(DiskFull):
        await behind.add(*block(2), one)
    assert (heard, behind.get(cid)) == ([store.error], None)
    store.error = None
    await behind.add(cid, data, other)
    await behind.settle(other)
    assert store.get(cid) == data


async def test_two_owners_of_one_block_wait_for_one_write(store: Gated, executor: ThreadPoolExecutor) -> None:
    behind, one, other = WriteBehind(store, executor, 1 << 20), Owner(), Owner()
    await behind.add(*block(1), one)
    await behind.add(*block(1), other)
    assert behind.held_bytes == 1000
    await asyncio.gather(behind.settle(one), behind.settle(other))
    assert (store.groups, one.pending, other.pending) == ([1], 0, 0)


async def test_closing_stores_what_is_left_and_takes_no_more(store: Gated, executor: ThreadPoolExecutor) -> None:
    behind, owner = WriteBehind(store, executor, 1 << 20), Owner()
    for number in range(5):
        await behind.add(*block(number), owner)
    await behind.close()
    assert len(list(store.cids())) == 5
    with pytest.raises(NotReady):
        await behind.add(*block(9), owner)
