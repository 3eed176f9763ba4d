"""What LevelDB itself overlooks in its log files (the write-ahead logs and the MANIFEST), even with paranoid checks.

A log is a row of 32 KiB blocks of records: checksum u32 (of kind and data), length u16, kind u8, data. LevelDB takes a
last record that reaches beyond the end of the file for a write that a crash cut off, and forgets it without a word. The
length isn't under the checksum, so one flipped bit in it hides every record from there on. In the same way zeros pass
for room that was never written. This module tells the two apart: a record that was cut off has no length at which its
checksum holds, and behind room never written nothing follows. Non-goals: whatever LevelDB reports by itself.
"""

import struct
from pathlib import Path

BLOCK_BYTES = 32 * 1024
_HEADER = struct.Struct("<IHB")
_KINDS = range(1, 5)
_MASK_DELTA = 0xA282EAD8
_POLYNOMIAL = 0x82F63B78


def _table() -> tuple[int, ...]:
    values = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
        values.append(value)
    return tuple(values)


_CRC32C = _table()


def find_hidden_damage(database: Path) -> str | None:
    """What a damaged log of this database hides, in words; None when nothing. Raises OSError."""
    logs = [*sorted(database.glob("MANIFEST-*")), *sorted(database.glob("*.log"))]
    for log in logs:
        offset = hidden_damage_at(log.read_bytes())
        if offset is not None:
            return f"{log.name}: a record's length at byte {offset} is wrong"
    return None


def hidden_damage_at(log: bytes) -> int | None:
    """The offset of the header that makes LevelDB pass over records without a word; None when there is none."""
    offset = 0
    while offset + _HEADER.size <= len(log):
        end_of_block = min(offset - offset % BLOCK_BYTES + BLOCK_BYTES, len(log))
        if end_of_block - offset < _HEADER.size:
            offset = end_of_block
            continue
        checksum, length, kind = _HEADER.unpack_from(log, offset)
        stop = offset + _HEADER.size + length
        if kind == 0 and length == 0:
            return offset if log[offset:].strip(b"\0") else None
        if stop > end_of_block:
            is_last_block = end_of_block == len(log) and end_of_block % BLOCK_BYTES != 0
            return offset if is_last_block and _is_whole(log, offset, checksum) else None
        offset = stop
    return None


def _is_whole(log: bytes, offset: int, checksum: int) -> bool:
    """Whether there is a length at which the checksum of the record at `offset` holds, and another record follows."""
    unmasked = (checksum - _MASK_DELTA) & 0xFFFFFFFF
    wanted = ((unmasked >> 17) | (unmasked << 15)) & 0xFFFFFFFF ^ 0xFFFFFFFF
    start = offset + _HEADER.size
    value = _CRC32C[(0xFFFFFFFF ^ log[start - 1]) & 0xFF] ^ 0x00FFFFFF
    if value == wanted and _may_follow(log, start):
        return True
    for position in range(start, len(log)):
        value = _CRC32C[(value ^ log[position]) & 0xFF] ^ (value >> 8)
        if value == wanted and _may_follow(log, position + 1):
            return True
    return False


def _may_follow(log: bytes, offset: int) -> bool:
    return len(log) - offset < _HEADER.size or log[offset + _HEADER.size - 1] in _KINDS
