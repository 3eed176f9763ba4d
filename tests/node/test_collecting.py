"""Collection in a node: asked for, by itself when the store is nearly full, and for a put that finds no room."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mpisa.config import Limits
from mpisa.node import collecting as module
from mpisa.node.collecting import Collecting
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import NotFound
from storage.blockstore import QuotaExceeded
from storage.gc import Collector
from storage.packs import DiskBlockStore
from storage.pins import PinKind, PinStore
from storage.records import PACK_HEADER_BYTES, record_size
from tests.node.cluster import running, until
from tests.storage.test_packs import CID_BYTES, block

PACK = PACK_HEADER_BYTES + 4 * record_size(CID_BYTES, 1000)
LIMIT = 16 * PACK


class Place:
    """A store with a limit, its pins, and a collector that takes everything for old."""

    def __init__(self, path: Path, threads: ThreadPoolExecutor) -> None:
        self.threads = threads
        self.store = DiskBlockStore.open(path, max_bytes=LIMIT, max_pack_bytes=PACK)
        self.pins = PinStore(path / "pins")
        collector = Collector(self.store, self.pins, clock=lambda: time.time() + 1e6)
        self.collecting = Collecting(self.store, collector, threads, path, 90)

    def fill(self) -> int:
        """Put numbered blocks one by one until none fits; how many did."""
        self.store.on_full(None)
        count = 0
        try:
            while True:
                self.store.put([block(count)])
                count += 1
        except QuotaExceeded:
            self.store.on_full(self.collecting.make_room)
            return count

    async def put(self, number: int) -> None:
        await asyncio.get_running_loop().run_in_executor(self.threads, self.store.put, [block(number)])


@asynccontextmanager
async def watched(path: Path) -> AsyncIterator[Place]:
    with ThreadPoolExecutor(8) as threads:
        place = Place(path, threads)
        task = asyncio.create_task(place.collecting.watch())
        try:
            yield place
        finally:
            place.collecting.close()
            task.cancel()
            await asyncio.wait((task,))
            place.pins.close()
            place.store.close()


async def test_puts_that_find_no_room_wait_until_a_collection_has_made_some(tmp_path: Path) -> None:
    async with watched(tmp_path) as place:
        count = place.fill()
        assert count > 50
        place.pins.pin(block(0)[0], PinKind.DIRECT)
        with place.store.lease("puts"):  # no pin keeps them from a run for another of them
            await asyncio.gather(*(place.put(number) for number in range(1000, 1006)))
            assert all(place.store.has(block(number)[0]) for number in (0, *range(1000, 1006)))
        assert place.store.stats().bytes_used <= LIMIT
        counters = place.collecting.counters
        assert counters.gc_puts_that_waited >= 1
        assert counters.gc_bytes_freed > 0
        assert counters.gc_runs_failed == 0


async def test_where_nothing_is_dead_a_put_is_refused_and_the_next_one_at_once(tmp_path: Path) -> None:
    async with watched(tmp_path) as place:
        count = place.fill()
        for number in range(count):
            place.pins.pin(block(number)[0], PinKind.DIRECT)
        with pytest.raises(QuotaExceeded, match="more do not fit"):
            await place.put(1000)
        runs = place.collecting.counters.gc_runs
        assert runs >= 1
        with pytest.raises(QuotaExceeded):
            await place.put(1001)
        assert place.collecting.counters.gc_runs == runs
        assert len([number for number in range(count) if place.store.has(block(number)[0])]) == count


async def test_what_a_lease_holds_is_not_collected_for_room(tmp_path: Path) -> None:
    async with watched(tmp_path) as place:
        with place.store.lease("an upload"):
            count = place.fill()
            with pytest.raises(QuotaExceeded):
                await place.put(1000)
        assert all(place.store.has(block(number)[0]) for number in range(count))


async def test_stopping_lets_nobody_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody watches, so that the put waits for good."""
    monkeypatch.setattr(module, "WAIT_S", 300.0)
    with ThreadPoolExecutor(2) as threads:
        place = Place(tmp_path, threads)
        place.fill()
        putting = asyncio.create_task(place.put(1000))
        await until(lambda: place.collecting.counters.gc_puts_that_waited == 1, "the put waits")
        place.collecting.close()
        with pytest.raises(QuotaExceeded):
            await putting
        place.pins.close()
        place.store.close()


async def test_a_store_that_is_nearly_full_is_collected_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    with ThreadPoolExecutor(2) as threads:
        place = Place(tmp_path, threads)
        count = place.fill()
        for number in range(4):
            place.pins.pin(block(number)[0], PinKind.DIRECT)
        watching = asyncio.create_task(place.collecting.watch())
        await until(lambda: place.store.stats().blocks == 4, "only pinned blocks are left")
        assert count > 50
        place.collecting.close()
        watching.cancel()
        await asyncio.wait((watching,))
        place.pins.close()
        place.store.close()


async def test_a_run_whose_caller_goes_away_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marking, go_on = threading.Event(), threading.Event()
    async with watched(tmp_path) as place:
        count = place.fill()
        original = place.store.generations

        def generations() -> object:
            marking.set()
            assert go_on.wait(30)
            return original()

        monkeypatch.setattr(place.store, "generations", generations)
        asked = asyncio.create_task(place.collecting.run())
        await until(marking.is_set, "the run has begun")
        state = place.collecting.state
        assert (state.running, state.phase, state.last) == (True, "mark", None)
        asked.cancel()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert not place.collecting.state.running
        assert place.store.stats().blocks == count


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def test_a_node_collects_what_was_unpinned_and_nothing_else(tmp_path: Path) -> None:
    async with running(tmp_path, count=1) as cluster:
        node = cluster.nodes[0]
        kept = await node.blobs.put_stream(chunks(bytes(range(256)) * 20_000))
        gone = await node.blobs.put_stream(chunks(b"gone" * 500_000))
        await node.blobs.unpin(gone.cid)
        would = await node.collect(dry_run=True)
        assert (would.dead_blocks, would.dry_run, would.bytes_freed) == (gone.blocks, True, 0)
        report = await node.collect()
        assert (report.dead_blocks, report.packs_removed, report.missing) == (gone.blocks, 1, ())
        assert node.blobs.local(kept.cid) is not None
        assert node.blobs.local(gone.cid) is None
        assert node.collection().last == report
        figures = node.metrics()
        assert figures["store_blocks"] == kept.blocks
        assert figures["gc_runs_total"] == 2
        assert figures["gc_bytes_freed_total"] == report.bytes_freed > 1_900_000
        with pytest.raises(NotFound):
            await node.blobs.unpin(gone.cid)


async def test_uploads_beyond_the_limit_make_room_for_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node of 48 MiB takes 20 files of 8 MiB, of which only the last is kept, without ever exceeding its limit."""
    monkeypatch.setattr(module, "PRESSED_GRACE_S", 0.0)
    limits = Limits(store_bytes=48 << 20, gc_grace_ms=0)
    async with running(tmp_path, count=1, limits=limits) as cluster:
        node = cluster.nodes[0]
        before: Cid | None = None
        for number in range(20):
            stored = await node.blobs.put_stream(chunks(random.Random(number).randbytes(8 << 20)))
            if before is not None:
                await node.blobs.unpin(before)
            before = stored.cid
            assert node.metrics()["store_bytes"] <= limits.store_bytes
        assert before is not None
        assert node.blobs.local(before) is not None
        assert node.metrics()["gc_puts_that_waited_total"] > 0


async def test_what_an_upload_asked_about_goes_once_uploads_have_been_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was sent in CARs is held for an hour, so that an upload can go on; not against who asks for the space."""
    async with running(tmp_path, count=1) as cluster:
        node = cluster.nodes[0]
        await node.blobs.missing([block(0)[0]])
        stored = await node.blobs.put_stream(chunks(b"asked about" * 50_000))
        await node.blobs.unpin(stored.cid)
        assert (await node.collect()).bytes_freed < 1000
        assert node.blobs.local(stored.cid) is not None
        monkeypatch.setattr("mpisa.node.car_upload.IDLE_S", 0.0)
        with node.blobs._holding.upload():
            assert (await node.collect()).bytes_freed < 1000
        assert (await node.collect()).bytes_freed > 500_000
        assert node.blobs.local(stored.cid) is None
