"""Walking over the records of a pack, past damage if need be."""

from collections.abc import Iterator
from dataclasses import dataclass

from storage.blockstore import Damage
from storage.files import PackFiles
from storage.records import MAX_RECORD_HEADER_BYTES, RECORD_MAGIC, Record, decode_record_header

SEARCH_WINDOW_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class BadRange:
    """Bytes from `offset` to `end` that are no good record; `record` is its header where that is whole.

    `cut_off` says that the pack ends within the record.
    """

    pack: int
    offset: int
    end: int
    reason: str
    record: Record | None = None
    cut_off: bool = False

    def damage(self, packs: PackFiles) -> Damage:
        """The same for people."""
        return Damage(str(packs.path(self.pack)), self.offset, self.record.cid if self.record else None, self.reason)


def walk(packs: PackFiles, pack: int, start: int, end: int, *, hashed: bool) -> Iterator[Record | BadRange]:
    """The records from `start` to `end` in order; with `hashed` their data is read and checked. Raises OSError."""
    with packs.lease(pack) as descriptor:
        offset = start
        while offset < end:
            item = _item_at(packs, descriptor, pack, offset, end)
            if isinstance(item, Record) and hashed:
                item = _checked(packs, descriptor, item)
            yield item
            offset = item.end


def _item_at(packs: PackFiles, descriptor: int, pack: int, offset: int, end: int) -> Record | BadRange:
    raw = packs.layer.read(descriptor, min(MAX_RECORD_HEADER_BYTES, end - offset), offset)
    record = decode_record_header(raw, pack, offset)
    if record is None:
        following = _next_record(packs, descriptor, pack, offset + 1, end)
        cut_off = following is None and end - offset < MAX_RECORD_HEADER_BYTES
        stop = end if following is None else following
        return BadRange(pack, offset, stop, "no whole record header", cut_off=cut_off)
    if record.end > end:
        return BadRange(pack, offset, end, "the record is cut off", record, cut_off=True)
    return record


def _checked(packs: PackFiles, descriptor: int, record: Record) -> Record | BadRange:
    data = packs.layer.read(descriptor, record.length, record.data_offset)
    if record.cid.matches(data):
        return record
    return BadRange(record.pack, record.offset, record.end, "the bytes do not match the CID", record)


def _next_record(packs: PackFiles, descriptor: int, pack: int, start: int, end: int) -> int | None:
    """The offset of the next whole record header at or after `start`; a checksum bound to its place makes sure."""
    offset = start
    while offset < end:
        window = packs.layer.read(descriptor, min(SEARCH_WINDOW_BYTES + MAX_RECORD_HEADER_BYTES, end - offset), offset)
        position = window.find(RECORD_MAGIC)
        while 0 <= position < SEARCH_WINDOW_BYTES:
            header = window[position : position + MAX_RECORD_HEADER_BYTES]
            if decode_record_header(header, pack, offset + position) is not None:
                return offset + position
            position = window.find(RECORD_MAGIC, position + 1)
        offset += SEARCH_WINDOW_BYTES
    return None
