"""Verify beside puts and collections: a whole store is never reported damaged, and damage is found all the same."""

import threading
from pathlib import Path

import pytest

from storage.appending import Appender
from storage.pins import PinKind
from tests.storage.test_gc import PACK, Home
from tests.storage.test_packs import block, flip, pack_path, record_offset


def test_puts_during_verify_are_no_damage(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.fill(6)
    more = iter(range(6, 40))

    def put(_done: int) -> None:
        home.store.put([block(next(more))])

    report = home.store.verify(put)
    assert (report.blocks, report.damages) == (6, ())
    assert home.store.stats().blocks == 12
    home.close()


def test_packs_that_go_during_verify_are_no_damage(tmp_path: Path) -> None:
    """A collection runs to its end in the middle of each pass, whichever pack that is in."""
    for moment in range(1, 13):
        home = Home(tmp_path / str(moment))
        home.fill(12)
        for i in (1, 5, 6):
            home.pins.pin(block(i)[0], PinKind.DIRECT)
        seen = 0

        def collect(_done: int, home: Home = home, moment: int = moment) -> None:
            nonlocal seen
            seen += 1
            if seen == moment:
                home.collect()

        report = home.store.verify(collect)
        assert report.damages == ()
        assert home.here(12) == [1, 5, 6]
        home.close()


def test_a_collection_that_was_cut_short_is_no_damage_and_repairs_bring_nothing_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_short(_self: Appender, _pack: int) -> None:
        raise OSError(5, "cut short")

    home = Home(tmp_path)
    home.fill(8)
    home.pins.pin(block(1)[0], PinKind.DIRECT)
    home.pins.pin(block(5)[0], PinKind.DIRECT)
    with monkeypatch.context() as patch:
        patch.setattr(Appender, "forget_pack", cut_short)
        with pytest.raises(OSError, match="cut short"):
            home.collect()
    left = home.here(8)
    assert 4 < len(left) < 8
    assert home.store.verify().damages == ()
    assert home.store.repair().lost == ()
    home.reopen()
    assert home.here(8) == left
    home.collect()
    assert home.here(8) == [1, 5]
    home.close()


def test_damage_is_found_beside_puts(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.fill(10)
    flip(pack_path(tmp_path, 2), record_offset(2) + 300)
    more = iter(range(10, 100))
    report = home.store.verify(lambda _done: home.store.put([block(next(more))]))
    assert [(damage.file, damage.offset, damage.cid) for damage in report.damages] == [
        (str(pack_path(tmp_path, 2)), record_offset(2), block(6)[0])
    ]
    pack_path(tmp_path, 1).unlink()
    report = home.store.verify()
    assert report.damaged == 5
    assert {damage.reason for damage in report.damages} == {"the file is missing", "the bytes do not match the CID"}
    home.close()


def test_verify_beside_four_writers_and_a_collector(tmp_path: Path) -> None:
    home = Home(tmp_path, max_pack_bytes=10 * PACK)
    stop = threading.Event()

    def write(lane: int) -> None:
        for i in range(lane * 1000, lane * 1000 + 60):
            with home.store.lease("write"):
                home.store.put([block(i)])
                if i % 3 == 0:
                    home.pins.pin(block(i)[0], PinKind.DIRECT)

    def collect() -> None:
        while not stop.is_set():
            home.collect()

    threads = [threading.Thread(target=write, args=(lane,)) for lane in range(4)]
    collector = threading.Thread(target=collect)
    for thread in [*threads, collector]:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert home.store.verify().damages == ()
    stop.set()
    for thread in [*threads, collector]:
        thread.join(60)
    pinned = [pin.cid for pin in home.pins.list()]
    assert len(pinned) == 80
    home.collect()
    assert sorted(home.store.cids()) == sorted(pinned)
    home.close()
