"""LevelDB as the node's stores need it: what `storage.leveldb` makes honest, plus bounded ranges in either direction.

Both stores of the node (chain and vertices) go through here, so both find a flipped bit, and both go on writing once
a full disk has space again. Non-goals: schemas, transactions across databases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import plyvel

from mpisa.primitives.errors import NotFound
from storage import leveldb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_RANGE_ITEMS = 100_000

Change = tuple[bytes, bytes | None]
"""A key and its new value; None deletes."""


class Database(leveldb.Database):
    """One LevelDB directory; thread-safe. Raises StoreBusy, StoreDamaged with a hint, or DiskFull."""

    def __init__(self, path: Path, what: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        super().__init__(path, what)

    def range(
        self,
        start: bytes,
        stop: bytes,
        *,
        limit: int = MAX_RANGE_ITEMS,
        max_bytes: int | None = None,
        reverse: bool = False,
    ) -> list[tuple[bytes, bytes]]:
        """Pairs with start <= key < stop, at most `limit` and about `max_bytes` of values (the last may exceed it)."""
        with self._read_lock:
            try:
                return _range(self._handle(), start, stop, limit, max_bytes, reverse)
            except (plyvel.CorruptionError, plyvel.IOError) as error:
                raise self._damaged(error) from None

    def snapshot(self) -> DatabaseSnapshot:
        """What the database holds now, for as long as the snapshot is open."""
        with self._read_lock:
            return DatabaseSnapshot(self, self._handle())


class DatabaseSnapshot:
    """Reads of one moment; thread-safe. It ends with `close`, and when a full disk made the database open again."""

    def __init__(self, database: Database, handle: Any) -> None:
        self._database = database
        self._handle = handle
        self._snapshot: Any = handle.snapshot()

    def get(self, key: bytes) -> bytes | None:
        """The value, or None. Raises NotFound once the snapshot has ended."""
        found = self.range(key, key + b"\0", limit=1)
        return found[0][1] if found else None

    def range(
        self,
        start: bytes,
        stop: bytes,
        *,
        limit: int = MAX_RANGE_ITEMS,
        max_bytes: int | None = None,
        reverse: bool = False,
    ) -> list[tuple[bytes, bytes]]:
        """As Database.range. Raises NotFound once the snapshot has ended."""
        with self._database._read_lock:
            if self._snapshot is None or self._database._db is not self._handle:
                raise NotFound("the snapshot has ended", hint="take a new one")
            try:
                return _range(self._snapshot, start, stop, limit, max_bytes, reverse)
            except (plyvel.CorruptionError, plyvel.IOError) as error:
                raise self._database._damaged(error) from None

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All pairs under a prefix, in order."""
        start, stop = prefix, prefix_end(prefix)
        while True:
            page = self.range(start, stop, limit=leveldb.SCAN_BATCH)
            yield from page
            if len(page) < leveldb.SCAN_BATCH:
                return
            start = page[-1][0] + b"\0"

    def close(self) -> None:
        """End it; harmless when it has ended."""
        with self._database._read_lock:
            if self._snapshot is not None:
                self._snapshot.close()
                self._snapshot = None


def _range(
    handle: Any, start: bytes, stop: bytes, limit: int, max_bytes: int | None, reverse: bool
) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = []
    size = 0
    with handle.iterator(start=start, stop=stop, reverse=reverse, verify_checksums=True) as cursor:
        for pair in cursor:
            found.append(pair)
            size += len(pair[1])
            if len(found) >= limit or (max_bytes is not None and size >= max_bytes):
                break
    return found


def prefix_end(prefix: bytes) -> bytes:
    """The smallest key above every key with this prefix (which must not be all 0xff)."""
    trimmed = prefix.rstrip(b"\xff")
    assert trimmed, "a prefix of 0xff bytes has no end"
    return trimmed[:-1] + bytes([trimmed[-1] + 1])
