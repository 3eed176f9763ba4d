"""Damaged packs and indexes: refused with the place, repaired, and never read as anything wrong."""

import hashlib
import os
import shutil
import struct
from pathlib import Path

import pytest

from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import NotFound, StoreDamaged
from storage.packs import DiskBlockStore, repair_store
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


def test_damage_in_the_middle_is_refused_on_opening_and_repaired(tmp_path: Path) -> None:
    store = DiskBlockStore.open(tmp_path)
    for i in range(5):
        store.put([block(i)])
    store.close()
    flip(pack_path(tmp_path), record_offset(2) + 64 + 500)
    with pytest.raises(StoreDamaged) as error:
        DiskBlockStore.open(tmp_path)
    assert str(error.value) == (
        f"{pack_path(tmp_path)} is damaged at byte {record_offset(2)} (block {block(2)[0]}): "
        "the bytes do not match the CID"
    )
    assert error.value.hint == "run `mpisa node repair`"
    report = repair_store(tmp_path)
    assert (report.kept, report.lost) == (4, (block(2)[0],))
    assert [(d.offset, d.cid) for d in report.quarantined] == [(record_offset(2), block(2)[0])]
    assert [path.name for path in (tmp_path / "quarantine").iterdir()] == [f"00000001-{record_offset(2)}.bin"]
    store = DiskBlockStore.open(tmp_path)
    assert store.stats().blocks == 4
    assert not store.has(block(2)[0])
    store.put([block(2)])
    assert store.verify().blocks == 5
    assert store.verify().intact
    store.close()


def test_a_damaged_last_acknowledged_record_is_not_taken_for_a_torn_tail(tmp_path: Path) -> None:
    store = DiskBlockStore.open(tmp_path)
    store.put([block(0)])
    store.put([block(1)])
    store.close()
    flip(pack_path(tmp_path), record_offset(1) + 5)
    with pytest.raises(StoreDamaged, match="no whole record header"):
        DiskBlockStore.open(tmp_path)
    report = repair_store(tmp_path)
    assert (report.kept, report.lost) == (1, (block(1)[0],))


def test_damage_before_a_later_group_is_damage_even_without_an_index(tmp_path: Path) -> None:
    store = DiskBlockStore.open(tmp_path)
    store.put([block(0), block(1)])
    store.put([block(2)])
    store.close()
    shutil.rmtree(tmp_path / "index")
    flip(pack_path(tmp_path), record_offset(1) + 2)
    with pytest.raises(StoreDamaged, match=f"damaged at byte {record_offset(1)}: no whole record header"):
        DiskBlockStore.open(tmp_path)
    assert repair_store(tmp_path).kept == 2
    DiskBlockStore.open(tmp_path).close()


def test_damage_found_while_running_is_reported_and_repaired_in_place(tmp_path: Path) -> None:
    limit = PACK_HEADER_BYTES + 3 * record_size(CID_BYTES, 1000)
    store = DiskBlockStore.open(tmp_path, max_pack_bytes=limit)
    for i in range(7):
        store.put([block(i)])
    flip(pack_path(tmp_path), record_offset(1) + 200)
    with pytest.raises(StoreDamaged, match="the bytes do not match the CID"):
        store.get(block(1)[0])
    report = store.verify()
    assert (report.damaged, report.blocks, report.damages[0].cid) == (1, 6, block(1)[0])
    assert store.repair().lost == (block(1)[0],)
    assert not pack_path(tmp_path).exists()
    assert all(store.get(block(i)[0]) == block(i)[1] for i in range(7) if i != 1)
    with pytest.raises(NotFound):
        store.get(block(1)[0])
    assert store.stats().blocks == 6
    assert store.verify().intact
    store.close()
    store = DiskBlockStore.open(tmp_path, max_pack_bytes=limit)
    assert store.stats().blocks == 6
    store.close()


def test_a_missing_or_shortened_pack_is_refused_and_repaired(tmp_path: Path) -> None:
    limit = PACK_HEADER_BYTES + 3 * record_size(CID_BYTES, 1000)
    store = DiskBlockStore.open(tmp_path, max_pack_bytes=limit)
    for i in range(7):
        store.put([block(i)])
    store.close()
    os.truncate(pack_path(tmp_path, 1), limit - 10)
    with pytest.raises(StoreDamaged) as error:
        DiskBlockStore.open(tmp_path, max_pack_bytes=limit)
    assert str(error.value) == (
        f"{pack_path(tmp_path, 1)} is damaged at byte {limit - 10}: "
        f"the file ends here, acknowledged blocks reach to byte {limit}"
    )
    pack_path(tmp_path, 2).unlink()
    report = repair_store(tmp_path)
    assert sorted(report.lost) == sorted(block(i)[0] for i in (2, 3, 4, 5))
    store = DiskBlockStore.open(tmp_path)
    assert [i for i in range(7) if store.has(block(i)[0])] == [0, 1, 6]
    assert store.verify().intact
    store.close()


def test_every_flipped_bit_gives_the_right_bytes_or_an_error(tmp_path: Path) -> None:
    """A sample over all files; what is refused on opening is repaired, and the rest must be whole."""
    origin = tmp_path / "origin"
    store = DiskBlockStore.open(origin)
    blocks = [block(i, 300) for i in range(12)]
    for pair in blocks:
        store.put([pair])
    store.close()
    DiskBlockStore.open(origin).close()
    wrong: list[str] = []
    places = [
        (path.relative_to(origin), offset)
        for path in sorted(origin.rglob("*"))
        if path.is_file() and path.name not in ("LOCK", "LOG", "LOG.old")
        for offset in range(0, path.stat().st_size, max(1, path.stat().st_size // 60))
    ]
    for number, (name, offset) in enumerate(places):
        copy = tmp_path / "copy"
        shutil.copytree(origin, copy)
        flip(copy / name, offset, number % 8)
        wrong += examine(copy, blocks, f"{name} byte {offset} bit {number % 8}")
        shutil.rmtree(copy)
    assert wrong == []


def examine(path: Path, blocks: list[tuple[Cid, bytes]], where: str) -> list[str]:
    wrong = []
    damaged = False
    try:
        store = DiskBlockStore.open(path)
    except StoreDamaged:
        lost = repair_store(path).lost
        store = DiskBlockStore.open(path)
        damaged = True
        if len(lost) > 1:
            wrong.append(f"{where}: more than one block lost by one bit")
    for cid, data in blocks:
        try:
            if store.get(cid) != data:
                wrong.append(f"{where}: wrong bytes")
        except StoreDamaged:
            damaged = True
        except NotFound:
            if not damaged:
                wrong.append(f"{where}: silently lost {cid}")
    store.close()
    return wrong


def test_the_index_alone_is_made_again_without_a_word_of_the_operator(tmp_path: Path) -> None:
    store = DiskBlockStore.open(tmp_path)
    store.put([block(i) for i in range(10)])
    store.close()
    log = next((tmp_path / "index").glob("MANIFEST-*"))
    log.write_bytes(b"garbage" * 10)
    store = DiskBlockStore.open(tmp_path)
    assert store.index_rebuilt
    assert all(store.get(block(i)[0]) == block(i)[1] for i in range(10))
    store.close()
    assert not DiskBlockStore.open(tmp_path).index_rebuilt


def test_a_block_cannot_pass_for_a_record(tmp_path: Path) -> None:
    """A block that holds the bytes of a record with a good checksum for another place is only data."""
    store = DiskBlockStore.open(tmp_path)
    store.put([block(0)])
    forged = pack_path(tmp_path).read_bytes()[PACK_HEADER_BYTES:]
    store.put([(Cid.of(forged), forged)])
    store.put([block(1)])
    store.close()
    shutil.rmtree(tmp_path / "index")
    flip(pack_path(tmp_path), record_offset(1) + 9)
    repair_store(tmp_path)
    store = DiskBlockStore.open(tmp_path)
    assert sorted(store.cids()) == sorted([block(0)[0], block(1)[0]])
    store.close()


def test_a_record_that_claims_too_much_is_no_record(tmp_path: Path) -> None:
    store = DiskBlockStore.open(tmp_path)
    store.put([block(0)])
    store.close()
    with pack_path(tmp_path).open("r+b") as file:
        file.seek(PACK_HEADER_BYTES + 8)
        file.write(struct.pack(">I", 0xFFFFFFFF))
    with pytest.raises(StoreDamaged, match="no whole record header"):
        DiskBlockStore.open(tmp_path)
