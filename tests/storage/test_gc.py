"""Garbage collection: what goes, what stays, and that it gets out of the way of reads and writes."""

import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mpisa.primitives.cid import DAG_CBOR, Cid
from mpisa.primitives.dag_pb import PBLink, PBNode, encode_node
from mpisa.primitives.errors import NotReady, StoreDamaged
from mpisa.primitives.ipld import Link, encode_dag_cbor
from storage import compaction, marking
from storage.blockstore import QuotaExceeded
from storage.files import OsFiles
from storage.gc import Collector, GcReport
from storage.packs import DiskBlockStore
from storage.pins import PinKind, PinReason, PinStore
from storage.records import PACK_HEADER_BYTES, record_size
from tests.storage.test_packs import CID_BYTES, block, flip, pack_path, record_offset

PACK = PACK_HEADER_BYTES + 4 * record_size(CID_BYTES, 1000)
"""Four blocks a pack."""


class Home:
    """A store, its pins and a collector, in one directory."""

    def __init__(self, path: Path, *, max_bytes: int | None = None, max_pack_bytes: int = PACK) -> None:
        self.path = path
        self.clock = [time.time() + 1_000_000.0]
        self.store = DiskBlockStore.open(path, max_bytes=max_bytes, max_pack_bytes=max_pack_bytes)
        self.pins = PinStore(path / "pins")
        self.collector = Collector(self.store, self.pins, clock=lambda: self.clock[0], scratch=path / "marks")

    def fill(self, count: int) -> None:
        """Put numbered blocks, each by itself, so that packs are filled one after another."""
        for i in range(count):
            self.store.put([block(i)])

    def collect(self, **options: object) -> GcReport:
        return self.collector.run(**{"grace_s": 0.0, "dead_share": 0.01, **options})  # type: ignore[arg-type]

    def close(self) -> None:
        self.pins.close()
        self.store.close()

    def reopen(self) -> None:
        self.close()
        self.store = DiskBlockStore.open(self.path, max_pack_bytes=PACK)
        self.pins = PinStore(self.path / "pins")
        self.collector = Collector(self.store, self.pins, clock=lambda: self.clock[0], scratch=self.path / "marks")

    def here(self, count: int, size: int = 1000) -> list[int]:
        """Which of the numbered blocks are there, each read."""
        return [i for i in range(count) if self.store.has(block(i, size)[0]) and self.store.get(block(i, size)[0])]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    made.close()


def node(*children: Cid) -> tuple[Cid, bytes]:
    data = encode_node(PBNode(tuple(PBLink(child.to_bytes(), "", 0) for child in children), b"x"))
    return Cid.of(data, codec=0x70), data


def packs_of(path: Path) -> dict[int, int]:
    return {int(file.stem): file.stat().st_size for file in sorted((path / "packs").iterdir())}


def test_what_no_pin_keeps_goes_and_its_space_comes_back(home: Home) -> None:
    home.fill(12)
    for i in (0, 5, 6, 7):
        home.pins.pin(block(i)[0], PinKind.DIRECT)
    before = home.store.stats().bytes_used
    report = home.collect()
    assert home.here(12) == [0, 5, 6, 7]
    stats = home.store.stats()
    assert (stats.blocks, stats.bytes_used) == (4, sum(packs_of(home.path).values()))
    assert report.bytes_freed == before + PACK_HEADER_BYTES - stats.bytes_used  # but for the pack begun to end another
    assert (report.marked, report.dead_blocks, report.stopped, report.missing) == (4, 8, False, ())
    assert (report.packs_removed, report.packs_rewritten) == (3, 2)
    assert home.store.verify().intact
    home.reopen()
    assert home.here(12) == [0, 5, 6, 7]
    assert home.store.stats() == stats
    assert home.store.repair().lost == ()


def test_pins_keep_all_below_them_whatever_the_codec(home: Home) -> None:
    leaves = [block(i) for i in range(6)]
    inner = node(leaves[0][0], leaves[1][0])
    top = node(inner[0], leaves[2][0])
    data = encode_dag_cbor({"a": Link(top[0]), "b": [Link(leaves[3][0])]})
    cbor = Cid.of(data, codec=DAG_CBOR), data
    home.store.put([*leaves, inner, top, cbor, block(50)])
    home.pins.pin(cbor[0], reason=PinReason.CUSTODY)
    home.pins.pin(node(block(50)[0])[0], PinKind.DIRECT)
    report = home.collect()
    assert home.here(6) == [0, 1, 2, 3]
    assert all(home.store.has(cid) for cid, _ in (inner, top, cbor))
    assert not home.store.has(block(50)[0])
    assert report.missing == (node(block(50)[0])[0],)
    home.pins.unpin(cbor[0], reason=PinReason.CUSTODY)
    home.collect()
    assert home.store.stats().blocks == 0


def test_a_dry_run_changes_nothing_and_says_what_would_go(home: Home) -> None:
    home.fill(8)
    home.pins.pin(block(0)[0], PinKind.DIRECT)
    before = home.store.stats()
    report = home.collect(dry_run=True)
    size = record_size(CID_BYTES, 1000)
    assert (report.dead_blocks, report.dead_bytes - 2 * PACK_HEADER_BYTES, report.bytes_freed) == (7, 7 * size, 0)
    assert report.dry_run
    assert home.store.stats() == before


def test_young_packs_are_left_alone(home: Home) -> None:
    home.fill(8)
    home.clock[0] = time.time() + 100
    assert home.collect(grace_s=3600.0).dead_blocks == 0
    home.clock[0] = time.time() + 4000
    assert home.collect(grace_s=3600.0).dead_blocks == 8
    assert home.here(8) == []


def test_a_mostly_live_pack_is_not_written_again_for_little(home: Home) -> None:
    home.fill(4)
    for i in range(3):
        home.pins.pin(block(i)[0], PinKind.DIRECT)
    assert home.collect(dead_share=0.3).packs_removed == 0
    assert home.collect(dead_share=0.2).packs_removed == 1


def test_an_open_lease_outlives_several_runs(home: Home) -> None:
    home.store.put([block(0), block(1)])
    lease = home.store.lease("import")
    home.store.put([block(0), block(2)])
    lease.keep([block(1)[0]])
    for _ in range(3):
        home.collect()
        assert home.here(3) == [0, 1, 2]
        home.store.put([block(9)])
    lease.release()
    home.collect()
    assert home.here(10) == []


def test_what_is_put_or_read_or_pinned_while_a_run_goes_on_stays(home: Home) -> None:
    """Everything happens when the marks are complete: between the survey and the first slice."""
    home.fill(16)
    happened = []

    def meanwhile(what: str, done: int, total: int) -> None:
        if what == "compact" and not happened:
            happened.append(True)
            home.store.put([block(1), block(30)])
            assert home.store.get(block(6)[0]) == block(6)[1]
            assert home.store.has(block(11)[0])
            with home.store.lease("pin"):
                home.store.size_of(block(12)[0])
                home.pins.pin(block(12)[0], PinKind.DIRECT)
            home.pins.pin(block(15)[0], PinKind.DIRECT)

    home.collect(progress=meanwhile)
    assert home.here(31) == [1, 6, 11, 12, 15, 30]
    home.collect()
    assert home.here(31) == [12, 15]


def test_a_pin_between_the_choice_and_the_slice_is_seen(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pin comes when the slice has been read and waits for the lock."""
    home.fill(8)
    original = compaction.Compaction._read
    home.pins.pin(block(0)[0], PinKind.DIRECT)

    def read_and_pin(self: compaction.Compaction, record: object) -> bytes:
        if not home.pins.is_pinned(block(2)[0]):
            home.pins.pin(block(2)[0], PinKind.DIRECT)
        return original(self, record)  # type: ignore[arg-type]

    monkeypatch.setattr(compaction.Compaction, "_read", read_and_pin)
    home.collect()
    assert home.here(8) == [0, 2]


def test_below_a_missing_node_nobody_knows_what_is_live_so_nothing_goes(home: Home) -> None:
    inner = node(block(0)[0])
    top = node(inner[0], block(5)[0])
    home.store.put([block(0), top, block(9)])
    home.pins.pin(top[0])
    report = home.collect()
    assert (report.missing, report.hidden_links, report.stopped) == ((inner[0], block(5)[0]), 1, True)
    assert home.here(10) == [0, 9]
    home.store.put([inner])
    report = home.collect()
    assert (report.missing, report.hidden_links) == ((block(5)[0],), 0)
    assert home.here(10) == [0]


def test_a_damaged_pinned_node_stops_collection(home: Home) -> None:
    top = node(*(block(i)[0] for i in range(3)))
    home.store.put([top, *(block(i) for i in range(3)), block(9)])
    home.pins.pin(top[0])
    flip(pack_path(home.path), PACK_HEADER_BYTES + 28 + CID_BYTES + 4)
    with pytest.raises(StoreDamaged, match="the bytes do not match the CID"):
        home.collect()
    assert home.here(10) == [0, 1, 2, 9]


def test_a_damaged_pack_stays_and_the_others_are_collected(home: Home) -> None:
    home.fill(12)
    for i in (0, 1, 8):
        home.pins.pin(block(i)[0], PinKind.DIRECT)
    flip(pack_path(home.path), record_offset(1) + 200)
    with pytest.raises(StoreDamaged, match=f"00000001.pack is damaged at byte {record_offset(1)}"):
        home.collect()
    assert [i for i in range(12) if home.store.has(block(i)[0])] == [0, 1, 2, 3, 8]
    assert home.store.repair().lost == (block(1)[0],)
    assert home.here(12) == [0, 2, 3, 8]
    home.collect()
    assert home.here(12) == [0, 8]


def test_one_run_at_a_time(home: Home) -> None:
    errors: list[str] = []

    def again(what: str, done: int, total: int) -> None:
        with pytest.raises(NotReady) as error:
            home.collect()
        errors.append(str(error.value))

    home.store.put([block(0)])
    home.collect(progress=again)
    assert set(errors) == {"a collection is under way already"}


def test_a_run_ends_when_it_is_told_to_and_the_next_one_finishes_it(home: Home) -> None:
    home.fill(40)
    home.pins.pin(block(3)[0], PinKind.DIRECT)
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 60

    report = home.collect(stop=stop)
    assert report.stopped
    assert 1 < len(home.here(40)) < 40
    assert home.store.verify().intact
    assert not home.collect().stopped
    assert home.here(40) == [3]


def test_marks_beyond_memory_are_as_exact(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marking, "MARKS_IN_MEMORY", 7)
    monkeypatch.setattr(marking, "MAX_AHEAD", 5)
    monkeypatch.setattr(marking, "PUT_OFF_AT_ONCE", 3)
    leaves = [block(i, 50) for i in range(300)]
    nodes = [node(*(cid for cid, _ in leaves[i : i + 10])) for i in range(0, 300, 10)]
    top = node(*(cid for cid, _ in nodes))
    home.store.put([*leaves, *nodes, top, *(block(i, 50) for i in range(500, 520))])
    home.pins.pin(top[0])
    report = home.collect()
    assert report.marked == 331
    assert home.here(600, 50) == list(range(300))
    assert not (home.path / "marks").exists()


def test_a_read_goes_on_while_its_pack_is_cut_away(home: Home) -> None:
    """The block moves after it was looked up: the reader finds it at its new place."""
    home.fill(8)
    home.pins.pin(block(5)[0], PinKind.DIRECT)
    entry = home.store._index.lookup(block(5)[0].multihash)
    assert entry is not None
    assert entry.pack == 2
    original = home.store._index.lookup
    stale = [entry]
    home.collect()
    home.store._index.lookup = lambda multihash: stale.pop() if stale else original(multihash)  # type: ignore[method-assign]
    assert home.store.get(block(5)[0]) == block(5)[1]


def test_the_header_of_a_retired_pack_stays_while_the_pack_before_it_needs_it(tmp_path: Path) -> None:
    """Without an index, its header alone says where the acknowledged part of the pack before it ends."""
    home = Home(tmp_path)
    home.fill(12)
    for i in (0, 1, 2, 3):
        home.pins.pin(block(i)[0], PinKind.DIRECT)
    home.collect()
    assert packs_of(tmp_path) == {1: PACK, 2: PACK_HEADER_BYTES, 4: PACK_HEADER_BYTES}
    home.close()
    shutil.rmtree(tmp_path / "index")
    whole = pack_path(tmp_path).read_bytes()
    pack_path(tmp_path).write_bytes(whole[:-1])
    with pytest.raises(StoreDamaged, match=f"acknowledged blocks reach to byte {PACK}"):
        DiskBlockStore.open(tmp_path, max_pack_bytes=PACK)
    pack_path(tmp_path).write_bytes(whole + b"torn")
    home = Home(tmp_path)
    assert home.here(12) == [0, 1, 2, 3]
    assert home.store.verify().intact
    home.pins.unpin(block(0)[0])
    home.collect(dead_share=0.2)
    assert [number for number, size in packs_of(tmp_path).items() if size > PACK_HEADER_BYTES] == [4]
    assert len(packs_of(tmp_path)) == 1
    home.close()


@pytest.mark.parametrize("crash", ["before the file", "after the header"])
def test_a_crash_between_index_and_file_is_finished_by_opening(tmp_path: Path, crash: str) -> None:
    home = Home(tmp_path)
    home.fill(12)
    for i in (0, 1, 2, 3, 8):
        home.pins.pin(block(i)[0], PinKind.DIRECT)
    middle = pack_path(tmp_path, 2).read_bytes()
    last = pack_path(tmp_path, 3).read_bytes()
    home.collect()
    home.close()
    gone = packs_of(tmp_path)
    header = b"" if crash == "before the file" else pack_path(tmp_path, 2).read_bytes()
    pack_path(tmp_path, 2).write_bytes(header + middle[len(header) :])
    pack_path(tmp_path, 3).write_bytes(last)
    home = Home(tmp_path)
    assert packs_of(tmp_path) == gone
    assert home.here(12) == [0, 1, 2, 3, 8]
    assert home.store.stats().bytes_used == sum(gone.values())
    assert home.store.verify().intact
    home.close()


def test_a_lost_index_brings_dead_blocks_back_at_most(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.fill(12)
    home.pins.pin(block(5)[0], PinKind.DIRECT)
    home.collect(stop=iter([False] * 14 + [True] * 1000).__next__)
    home.close()
    shutil.rmtree(tmp_path / "index")
    home = Home(tmp_path)
    assert 5 in home.here(12)
    home.collect()
    assert home.here(12) == [5]
    assert home.store.verify().intact
    home.close()


def test_a_header_that_a_crash_tore_is_made_again(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.fill(12)
    for i in (0, 1, 2, 3):
        home.pins.pin(block(i)[0], PinKind.DIRECT)
    middle = pack_path(tmp_path, 2).read_bytes()
    home.collect()
    home.close()
    header = pack_path(tmp_path, 2).read_bytes()
    pack_path(tmp_path, 2).write_bytes(header[:10] + bytes(6) + middle[16:])
    home = Home(tmp_path)
    assert pack_path(tmp_path, 2).read_bytes() == header
    assert home.here(12) == [0, 1, 2, 3]
    home.close()


def test_compaction_keeps_the_limit_too(tmp_path: Path) -> None:
    """Without room for a copy the pack stays; what is all dead goes without any."""

    class Weighed(OsFiles):
        heaviest = 0

        def write(self, descriptor: int, buffers: Sequence[bytes | memoryview], offset: int) -> int:
            written = super().write(descriptor, buffers, offset)
            Weighed.heaviest = max(Weighed.heaviest, sum(packs_of(tmp_path).values()))
            return written

    limit = 2 * PACK + 500
    store = DiskBlockStore.open(tmp_path, max_bytes=limit, max_pack_bytes=PACK, files=Weighed())
    for i in range(8):
        store.put([block(i)])
    with pytest.raises(QuotaExceeded):
        store.retire(1, lambda cid: cid == block(0)[0], lambda: False)
    assert all(store.get(block(i)[0]) == block(i)[1] for i in range(8))
    assert store.retire(2, lambda cid: False, lambda: False).complete
    retired = store.retire(1, lambda cid: cid == block(0)[0], lambda: False)
    assert (retired.complete, retired.blocks_kept, retired.blocks_forgotten) == (True, 1, 3)
    assert [i for i in range(8) if store.has(block(i)[0])] == [0]
    assert Weighed.heaviest <= limit
    assert store.verify().intact
    store.close()
