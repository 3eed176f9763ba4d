"""What each recent chain block replaced in the state: enough to read and prove the state as it was before the block.

An `Undo` is one flat record: the old entry of every path that changed (empty where there was none), the old nodes of
two rows of the crown, and the old pages below it. The state after height h is today's, with the records of h + 1 and
later put over it, newest first: the oldest word wins. So a reader takes today's bytes FIRST and the records after: what
a block changes meanwhile is then in a record, and nothing has to be locked.

No root binds what a record says (but for proofs, which are checked whole), so a digest stands before it on the disk.

Layout, big-endian: counts of entries, nodes and pages (u32 each) | paths | ends of the entries (u32 each) | entries |
heap indexes (u32 each), kinds, hashes of nodes | heap index (33 bytes) and page, each.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left, bisect_right
from hashlib import sha256
from typing import TYPE_CHECKING

from mpisa.primitives.errors import NotFound, StoreDamaged
from mpisa.primitives.merkle_bucket import PAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mpisa.node.state_storage import StateStorage
    from mpisa.primitives.merkle_crown import Node

HISTORY_BYTES = 16 * 1024 * 1024
"""Undo records kept in memory; older ones are read from the disk."""

UNDO = b"u"
_INDEX_BYTES = 33
_HEADER_BYTES = 12


def undo_key(height: int) -> bytes:
    """Where the record of what this height replaced is stored."""
    return UNDO + height.to_bytes(8, "big")


class Undo:
    """See the module. Immutable."""

    __slots__ = ("_ends", "_entries", "_hashes", "_indexes", "_kinds", "_pages", "_paths", "raw")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        try:
            entries, nodes, pages = _numbers(raw[:_HEADER_BYTES])
            at = _HEADER_BYTES
            self._paths, at = raw[at : at + 32 * entries], at + 32 * entries
            self._ends, at = _numbers(raw[at : at + 4 * entries]), at + 4 * entries
            size = self._ends[-1] if entries else 0
            self._entries, at = raw[at : at + size], at + size
            self._indexes, at = _numbers(raw[at : at + 4 * nodes]), at + 4 * nodes
            self._kinds, at = raw[at : at + nodes], at + nodes
            self._hashes, at = raw[at : at + 32 * nodes], at + 32 * nodes
            self._pages = {
                int.from_bytes(raw[i : i + _INDEX_BYTES], "big"): raw[i + _INDEX_BYTES : i + _INDEX_BYTES + PAGE_BYTES]
                for i in range(at, len(raw), _INDEX_BYTES + PAGE_BYTES)
            }
        except ValueError:
            raise _damaged() from None
        if len(self._pages) != pages or at + pages * (_INDEX_BYTES + PAGE_BYTES) != len(raw):
            raise _damaged()

    def stored(self) -> bytes:
        """As it is on the disk: sha256 of the record, the record."""
        return sha256(self.raw).digest() + self.raw

    @classmethod
    def read(cls, stored: bytes) -> Undo:
        """From `stored`'s form. Raises StoreDamaged."""
        if sha256(stored[32:]).digest() != stored[:32]:
            raise _damaged()
        return cls(stored[32:])

    @classmethod
    def make(
        cls, entries: Sequence[tuple[bytes, bytes]], nodes: Sequence[tuple[int, Node]], pages: Mapping[int, bytes]
    ) -> Undo:
        """Of old entries by path, and old nodes and pages by heap index, each ascending."""
        ends, end = array("I"), 0
        for _, entry in entries:
            end += len(entry)
            ends.append(end)
        parts = [
            _packed(array("I", (len(entries), len(nodes), len(pages)))),
            b"".join([path for path, _ in entries]),
            _packed(ends),
            b"".join([entry for _, entry in entries]),
            _packed(array("I", [index for index, _ in nodes])),
            bytes([node[0] for _, node in nodes]),
            b"".join([node[1] for _, node in nodes]),
        ]
        for index, page in pages.items():
            parts += (index.to_bytes(_INDEX_BYTES, "big"), page)
        return cls(b"".join(parts))

    def entry(self, path: bytes) -> bytes | None:
        """The old entry of a path, empty where there was none; None when this block didn't change it."""
        at = self._paths.find(path)
        while at > 0 and at % 32:
            at = self._paths.find(path, at + 1)
        return None if at < 0 else self._entry(at // 32)

    def entries(self, first: bytes, last: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Path and old entry of every change with first <= path <= last, ascending."""
        count = range(len(self._ends))
        for number in range(bisect_left(count, first, key=self._path), bisect_right(count, last, key=self._path)):
            yield self._path(number), self._entry(number)

    def nodes(self, first: int, count: int) -> Iterator[tuple[int, Node]]:
        """Old nodes with a heap index from `first`, at most `count` of them further."""
        for at in range(bisect_left(self._indexes, first), bisect_left(self._indexes, first + count)):
            yield self._indexes[at], (self._kinds[at], self._hashes[32 * at : 32 * at + 32])

    def page(self, index: int) -> bytes | None:
        """The old page of a heap index; None when this block didn't replace it."""
        return self._pages.get(index)

    def _path(self, number: int) -> bytes:
        return self._paths[32 * number : 32 * number + 32]

    def _entry(self, number: int) -> bytes:
        return self._entries[self._ends[number - 1] if number else 0 : self._ends[number]]


class History:
    """The undo records of recent heights: the newest in memory, all of them on the disk."""

    def __init__(self, storage: StateStorage, max_bytes: int = HISTORY_BYTES) -> None:
        self._storage = storage
        self._max_bytes = max_bytes
        self._bytes = 0
        self._undos: dict[int, Undo] = {}

    def keep(self, height: int, undo: Undo) -> None:
        """Show a record to readers: before its block is written, so that they never see a new value as an old one."""
        self.forget(height)
        self._undos[height] = undo
        self._bytes += len(undo.raw)
        while self._bytes > self._max_bytes and len(self._undos) > 1:
            self.forget(next(iter(self._undos)))

    def forget(self, height: int) -> None:
        """Drop a record from memory."""
        undo = self._undos.pop(height, None)
        if undo is not None:
            self._bytes -= len(undo.raw)

    def undo(self, height: int) -> Undo:
        """Raises NotFound for a height whose record isn't kept any more."""
        found = self._undos.get(height)
        if found is None:
            raw = self._storage.get(undo_key(height))
            if raw is None:
                raise NotFound(f"the state before height {height} isn't kept any more")
            found = Undo.read(raw)
        return found

    def newest(self, height: int) -> int:
        """The newest height with a record, `height` or the one that is being written above it."""
        return height + 1 if height + 1 in self._undos else height


def _numbers(raw: bytes) -> array[int]:
    numbers = array("I")
    numbers.frombytes(raw)
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers


def _packed(numbers: array[int]) -> bytes:
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers.tobytes()


def _damaged() -> StoreDamaged:
    return StoreDamaged("an undo record of the state is damaged", hint="run `mpisa node repair`")
