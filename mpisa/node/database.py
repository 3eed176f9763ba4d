"""LevelDB as the node needs it: checked on every read, one batch a logical write, and able to outlive a full disk.

LevelDB finds a flipped bit only when told to look (paranoid_checks, verify_checksums), and after a failed write its
handle stays broken even when there is space again: `write` then reopens it once and tries again, and raises DiskFull
when that fails too. Reads may come from any thread; writes come from one thread at a time. Non-goals: transactions,
schemas.
"""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

import plyvel

from mpisa.primitives.errors import DiskFull, StoreBusy, StoreDamaged

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MAX_RANGE_ITEMS = 100_000
_FULL = tuple(os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))

Change = tuple[bytes, bytes | None]
"""A key and its new value; None deletes."""


class Database:
    """One LevelDB directory."""

    def __init__(self, path: Path, *, write_buffer: int = 4 << 20) -> None:
        """Raises StoreBusy when another process has it open, StoreDamaged with a hint when it can't be trusted."""
        self._path = path
        self._write_buffer = write_buffer
        self._lock = threading.Lock()
        path.mkdir(parents=True, exist_ok=True)
        self._db = self._open()

    def _open(self) -> plyvel.DB:
        try:
            return plyvel.DB(
                str(self._path),
                create_if_missing=True,
                paranoid_checks=True,
                write_buffer_size=self._write_buffer,
                bloom_filter_bits=10,
            )
        except plyvel.CorruptionError as error:
            raise self._damaged(error) from error
        except plyvel.IOError as error:
            if "lock" in str(error).lower():
                raise StoreBusy(f"{self._path} is open in another process", hint="stop that node first") from error
            raise self._refused(error) from error
        except plyvel.Error as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> StoreDamaged:
        return StoreDamaged(
            f"{self._path} is damaged: {error}",
            hint=f"mpisa node repair --home {self._path.parent}, or remove {self._path} and let the node sync again",
        )

    def _refused(self, error: Exception) -> DiskFull | StoreDamaged:
        if any(text in str(error) for text in _FULL):
            return DiskFull(f"no space to write {self._path}", hint="free some space; the node then goes on by itself")
        return self._damaged(error)

    def get(self, key: bytes) -> bytes | None:
        """Raises StoreDamaged when what is stored doesn't match its checksum."""
        with self._lock:
            try:
                value: bytes | None = self._db.get(key, verify_checksums=True)
            except plyvel.Error as error:
                raise self._damaged(error) from error
        return value

    def scan(
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
        with self._lock:
            try:
                with self._db.iterator(
                    start=start, stop=stop, reverse=reverse, verify_checksums=True, fill_cache=False
                ) as iterator:
                    for pair in iterator:
                        found.append(pair)
                        size += len(pair[1])
                        if len(found) >= limit or (max_bytes is not None and size >= max_bytes):
                            break
            except plyvel.Error as error:
                raise self._damaged(error) from error
        return found

    def write(self, changes: Iterable[Change], *, sync: bool) -> None:
        """One batch: all of it or none. Raises DiskFull when there is no space, StoreDamaged otherwise."""
        listed = list(changes)
        try:
            self._write(listed, sync)
        except plyvel.Error:
            self._reopen()
            try:
                self._write(listed, sync)
            except plyvel.Error as error:
                raise self._refused(error) from error

    def _write(self, changes: list[Change], sync: bool) -> None:
        with self._db.write_batch(sync=sync, transaction=True) as batch:
            for key, value in changes:
                if value is None:
                    batch.delete(key)
                else:
                    batch.put(key, value)

    def _reopen(self) -> None:
        with self._lock:
            self._db.close()
            self._db = self._open()

    def close(self) -> None:
        """Harmless when closed already."""
        with self._lock:
            self._db.close()


def prefix_end(prefix: bytes) -> bytes:
    """The smallest key above every key with this prefix (which must not be all 0xff)."""
    trimmed = prefix.rstrip(b"\xff")
    assert trimmed, "a prefix of 0xff bytes has no end"
    return trimmed[:-1] + bytes([trimmed[-1] + 1])


def repair(path: Path) -> None:
    """Lets LevelDB salvage what it can of a damaged directory; what was lost must come from peers."""
    plyvel.repair_db(str(path))
