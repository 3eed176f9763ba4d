"""LevelDB as the node's stores need it: what `storage.leveldb` makes honest, plus bounded ranges in either direction.

Both stores of the node (chain and vertices) go through here, so both find a flipped bit, and both go on writing once
a full disk has space again. Non-goals: schemas, transactions across databases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import plyvel

from storage import leveldb

if TYPE_CHECKING:
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
        found: list[tuple[bytes, bytes]] = []
        size = 0
        with self._read_lock:
            try:
                with self._handle().iterator(start=start, stop=stop, reverse=reverse, verify_checksums=True) as cursor:
                    for pair in cursor:
                        found.append(pair)
                        size += len(pair[1])
                        if len(found) >= limit or (max_bytes is not None and size >= max_bytes):
                            break
            except (plyvel.CorruptionError, plyvel.IOError) as error:
                raise self._damaged(error) from None
        return found


def prefix_end(prefix: bytes) -> bytes:
    """The smallest key above every key with this prefix (which must not be all 0xff)."""
    trimmed = prefix.rstrip(b"\xff")
    assert trimmed, "a prefix of 0xff bytes has no end"
    return trimmed[:-1] + bytes([trimmed[-1] + 1])
