"""What LevelDB overlooks in its logs: found for every length that a flipped bit can make, never for a write cut off."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from mpisa.primitives.errors import StoreDamaged
from storage.leveldb import Database
from storage.log_files import BLOCK_BYTES, find_hidden_damage, hidden_damage_at

HEADER_BYTES = 7


def written(path: Path, count: int, size: int) -> tuple[Path, bytes]:
    """The log of a database after `count` synced puts of `size` bytes."""
    database = Database(path, "test")
    dice = random.Random(5)
    for number in range(count):
        database.write([(b"%06d" % number, dice.randbytes(size))], sync=True)
    database.close()
    (log,) = path.glob("*.log")
    return log, log.read_bytes()


def headers_of_last_block(log: bytes) -> list[int]:
    offsets = []
    offset = len(log) - len(log) % BLOCK_BYTES
    while offset + HEADER_BYTES <= len(log):
        offsets.append(offset)
        offset += HEADER_BYTES + int(struct.unpack_from("<H", log, offset + 4)[0])
    return offsets


@pytest.mark.parametrize(("count", "size"), [(20, 100), (120, 700)])
def test_a_flipped_length_that_hides_acknowledged_records_is_damage(tmp_path: Path, count: int, size: int) -> None:
    log, original = written(tmp_path / "db", count, size)
    hidden: list[bytes] = []
    for header in headers_of_last_block(original):
        for bit in range(16):
            raw = bytearray(original)
            raw[header + 4 + bit // 8] ^= 1 << bit % 8
            length = struct.unpack_from("<H", raw, header + 4)[0]
            reaches_beyond_the_end = header + HEADER_BYTES + length > len(raw)
            assert (hidden_damage_at(bytes(raw)) == header) is reaches_beyond_the_end
            if reaches_beyond_the_end:
                hidden.append(bytes(raw))
    assert len(hidden) > 20
    log.write_bytes(hidden[0])
    with pytest.raises(StoreDamaged, match="a record's length at byte") as refused:
        Database(tmp_path / "db", "test")
    assert refused.value.hint == "run `mpisa node repair`"


def test_a_write_that_a_crash_cut_off_is_no_damage(tmp_path: Path) -> None:
    log, original = written(tmp_path / "db", 60, 900)
    assert len(original) > BLOCK_BYTES
    for length in range(len(original) - 2500, len(original)):
        assert hidden_damage_at(original[:length]) is None
    log.write_bytes(original[:-100])
    database = Database(tmp_path / "db", "test")
    assert len(list(database.scan(b""))) == 59
    database.close()


def test_zeros_behind_the_last_record_are_room_and_zeros_before_one_are_damage(tmp_path: Path) -> None:
    log, original = written(tmp_path / "db", 20, 100)
    assert hidden_damage_at(original + bytes(512)) is None
    header = headers_of_last_block(original)[10]
    log.write_bytes(original[:header] + bytes(64) + original[header + 64 :])
    assert find_hidden_damage(tmp_path / "db") == f"{log.name}: a record's length at byte {header} is wrong"


def test_the_manifest_is_looked_at_too(tmp_path: Path) -> None:
    written(tmp_path / "db", 5, 100)
    Database(tmp_path / "db", "test").close()
    (manifest,) = (tmp_path / "db").glob("MANIFEST-*")
    raw = bytearray(manifest.read_bytes())
    raw[headers_of_last_block(bytes(raw))[-1] + 5] ^= 0x40
    manifest.write_bytes(raw)
    with pytest.raises(StoreDamaged, match=rf"{manifest.name}: a record's length at byte"):
        Database(tmp_path / "db", "test")
