"""Appending groups of blocks to the newest pack.

What must be synced, and why. A put is acknowledged after one fdatasync of the pack: the packs alone are the truth. The
header of a new pack and its name in the directory are synced before anything is written to it. The index is written
after the packs and not synced, for it can be made again from them (see index.py); only a finished pack syncs it.

After a failed write the pack is cut back to its acknowledged length. After a failed fdatasync nobody knows which pages
reached the disk, and asking again may lie, so writing goes on in a new pack.
"""

import os
from collections.abc import Sequence
from contextlib import suppress

from mpisa.primitives.cid import Cid
from storage.files import PackFiles, disk_error, write_fully
from storage.records import (
    MAX_GROUP_RECORDS,
    PACK_HEADER_BYTES,
    PackHeader,
    Record,
    encode_pack_header,
    encode_record_header,
    record_size,
)
from storage.recovery import Tail

MAX_PACK_BYTES = 256 * 1024 * 1024
"""A pack is finished before a group that would take it beyond this size."""


class PackWriter:
    """The end of the newest pack. One thread at a time: the store's commit lock guards it."""

    def __init__(self, packs: PackFiles, tail: Tail, max_pack_bytes: int) -> None:
        self._packs = packs
        self._max_pack_bytes = max_pack_bytes
        self._descriptor = -1
        self._suspect = False
        self.pack = tail.pack
        self.length = tail.length
        self._group = tail.group

    def needs_new_pack(self, size: int) -> bool:
        """Whether a group of that many bytes has to go to a new pack."""
        if self.pack == 0 or self._suspect:
            return True
        return self.length > PACK_HEADER_BYTES and self.length + size > self._max_pack_bytes

    def start_pack(self) -> tuple[int, int]:
        """Begin a new pack, durably; the number and the length of the finished one. Raises DiskFull."""
        finished = (self.pack, self.length)
        number = self.pack + 1
        path = self._packs.path(number)
        descriptor = -1
        try:
            descriptor = self._packs.layer.open(path, create=True)
            header = encode_pack_header(PackHeader(number, self.length))
            write_fully(self._packs.layer, descriptor, [header], 0)
            self._packs.layer.sync(descriptor)
            self._packs.layer.sync_directory(path.parent)
        except OSError as error:
            if descriptor >= 0:
                os.close(descriptor)
                with suppress(OSError):
                    path.unlink()
            raise disk_error(error, path) from error
        self.close()
        self._descriptor = descriptor
        self.pack, self.length, self._group, self._suspect = number, PACK_HEADER_BYTES, 0, False
        return finished

    def append(self, blocks: Sequence[tuple[Cid, bytes]]) -> list[Record]:
        """Write blocks as one group; durable on return. Raises DiskFull, and then none of them is there."""
        assert 0 < len(blocks) <= MAX_GROUP_RECORDS
        records, buffers = self._layout(blocks)
        path = self._packs.path(self.pack)
        try:
            if self._descriptor < 0:
                self._descriptor = self._packs.layer.open(path, create=False)
            end = write_fully(self._packs.layer, self._descriptor, buffers, self.length)
        except OSError as error:
            self._cut_back()
            raise disk_error(error, path) from error
        try:
            self._packs.layer.sync(self._descriptor)
        except OSError as error:
            self._suspect = True
            self._cut_back()
            raise disk_error(error, path) from error
        self.length = end
        self._group += 1
        return records

    def close(self) -> None:
        """Close the newest pack; closing twice is harmless."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _layout(self, blocks: Sequence[tuple[Cid, bytes]]) -> tuple[list[Record], list[bytes | memoryview]]:
        offset = self.length
        group = self._group + 1
        records: list[Record] = []
        buffers: list[bytes | memoryview] = []
        for remaining, (cid, data) in zip(range(len(blocks) - 1, -1, -1), blocks, strict=True):
            raw = cid.to_bytes()
            records.append(Record(self.pack, offset, cid, len(raw), len(data), group, remaining))
            buffers += (encode_record_header(self.pack, offset, raw, len(data), group, remaining), data)
            offset += record_size(len(raw), len(data))
        return records, buffers

    def _cut_back(self) -> None:
        try:
            if self._descriptor >= 0:
                self._packs.layer.truncate(self._descriptor, self.length)
        except OSError:
            self._suspect = True
