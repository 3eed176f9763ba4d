"""LevelDB with the options that make it honest, and with a way back after a full disk.

Measured facts that decide this module: without `paranoid_checks` a flipped bit in the log opens as a hole; without
`verify_checksums` a flipped bit in a table is read as a wrong value; after ENOSPC or EIO the handle refuses writes for
good and must be reopened; closing it while another thread reads crashes the process. So both checks are always on,
reads and reopening exclude each other, and a broken handle keeps serving reads until there is space to open a new one.
A flipped bit in the length of a log's record hides all records behind it even so: log_files.py looks for that first.
"""

import os
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import plyvel

from mpisa.primitives.errors import DiskFull, NotReady, StoreBusy, StoreDamaged
from storage.files import make_directory
from storage.log_files import find_hidden_damage

WRITE_BUFFER_BYTES = 8 * 1024 * 1024
CACHE_BYTES = 8 * 1024 * 1024
MAX_OPEN_TABLES = 64
SCAN_BATCH = 1000
PROBE_BYTES = 8 * 1024 * 1024
"""Free space that must exist before a broken handle is given up: a reopening writes its log out as a table."""

REPAIR_HINT = "run `mpisa node repair`"


def _holds_data(path: Path) -> bool:
    """Whether there ever was a whole database here: LevelDB makes a log or a table only after the file CURRENT.

    A manifest alone is what a crash leaves of one that was being made, and opening makes it anew.
    """
    return any(next(path.glob(pattern), None) is not None for pattern in ("*.log", "*.ldb", "*.sst"))


class Database:
    """Keys and values, ordered by key; thread-safe. Raises StoreDamaged, StoreBusy or DiskFull."""

    def __init__(self, path: Path, what: str) -> None:
        self.path = path
        self._what = what
        self._read_lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._broken = False
        if not (path / "CURRENT").is_file() and _holds_data(path):
            raise StoreDamaged(f"{what} {path}: the file CURRENT is missing", hint=REPAIR_HINT)
        try:
            make_directory(path)
            hidden = find_hidden_damage(path)
        except OSError as error:
            raise self._full(error) from None
        if hidden is not None:
            raise StoreDamaged(f"{what} {path} is damaged: {hidden}", hint=REPAIR_HINT)
        self._db: Any = self._open()

    @property
    def broken(self) -> bool:
        """Whether a write failed, so that the next one has to reopen."""
        return self._broken

    def get(self, key: bytes) -> bytes | None:
        """The value, or None."""
        with self._read_lock:
            try:
                value: bytes | None = self._handle().get(key, verify_checksums=True)
            except (plyvel.CorruptionError, plyvel.IOError) as error:
                raise self._damaged(error) from None
        return value

    def write(self, changes: Iterable[tuple[bytes, bytes | None]], *, sync: bool) -> None:
        """Apply puts, and deletions (value None), all or nothing; with `sync` they are durable on return."""
        with self._write_lock:
            if self._broken:
                self._reopen()
            batch = self._handle().write_batch(sync=sync)
            for key, value in changes:
                if value is None:
                    batch.delete(key)
                else:
                    batch.put(key, value)
            try:
                batch.write()
            except plyvel.CorruptionError as error:
                raise self._damaged(error) from None
            except plyvel.IOError as error:
                self._broken = True
                raise self._full(error) from None

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All entries whose key begins with `prefix`, in order; entries written meanwhile may or may not appear."""
        stop = prefix + b"\xff" * 80
        start = prefix
        include = True
        while True:
            with self._read_lock:
                try:
                    with self._handle().iterator(
                        start=start, stop=stop, include_start=include, verify_checksums=True
                    ) as cursor:
                        page = [entry for entry, _ in zip(cursor, range(SCAN_BATCH), strict=False)]
                except (plyvel.CorruptionError, plyvel.IOError) as error:
                    raise self._damaged(error) from None
            yield from page
            if len(page) < SCAN_BATCH:
                return
            start, include = page[-1][0], False

    def recover(self) -> None:
        """Replace a broken handle by a new one. Raises DiskFull, and keeps the old one for reads, without space."""
        with self._write_lock:
            if self._broken:
                self._reopen()

    def close(self) -> None:
        """Close it; closing twice is harmless."""
        with self._write_lock, self._read_lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def _open(self) -> Any:
        try:
            return plyvel.DB(
                str(self.path),
                create_if_missing=True,
                paranoid_checks=True,
                write_buffer_size=WRITE_BUFFER_BYTES,
                lru_cache_size=CACHE_BYTES,
                max_open_files=MAX_OPEN_TABLES,
                compression=None,  # mostly hashes and signatures: trying to compress them cost a tenth of a busy node
            )
        except plyvel.CorruptionError as error:
            raise self._damaged(error) from None
        except plyvel.IOError as error:
            text = _text(error)
            if "/LOCK" in text:
                raise StoreBusy(
                    f"another node runs on this home: {self.path} is locked",
                    hint="stop that node first, or talk to it with --endpoint",
                ) from None
            if "No such file" in text or "Input/output" in text:
                raise self._damaged(error) from None
            raise self._full(error) from None
        except plyvel.Error as error:
            raise self._damaged(error) from None

    def _reopen(self) -> None:
        self._probe()
        with self._read_lock:
            if self._db is not None:
                self._db.close()
                self._db = None
            self._db = self._open()
            self._broken = False

    def _probe(self) -> None:
        probe = self.path / "space-probe"
        try:
            descriptor = os.open(probe, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, PROBE_BYTES)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise self._full(error) from None
        finally:
            with suppress(OSError):
                probe.unlink(missing_ok=True)

    def _handle(self) -> Any:
        if self._db is None and self._broken:
            self._db = self._open()
        if self._db is None:
            raise NotReady(f"{self._what} {self.path} is closed")
        return self._db

    def _damaged(self, error: Exception) -> StoreDamaged:
        return StoreDamaged(f"{self._what} {self.path} is damaged: {_text(error)}", hint=REPAIR_HINT)

    def _full(self, error: OSError) -> DiskFull:
        return DiskFull(
            f"can't write to {self._what} {self.path}: {_text(error)}",
            hint=f"free {PROBE_BYTES >> 20} MiB on this disk (or check it for faults); "
            "writes resume by themselves, reads go on meanwhile",
        )


def _text(error: Exception) -> str:
    """LevelDB's own message: plyvel hands it over as bytes."""
    argument = error.args[0] if error.args else ""
    if isinstance(argument, bytes):
        return argument.decode(errors="replace")
    return getattr(error, "strerror", None) or str(error)


def salvage(path: Path) -> None:
    """Let LevelDB make a damaged database openable with what is still whole. Raises StoreDamaged when it can't."""
    try:
        plyvel.repair_db(str(path), paranoid_checks=True)
    except plyvel.Error as error:
        raise StoreDamaged(f"{path} can't be salvaged: {_text(error)}", hint="restore it from a backup") from None


def remove_database(path: Path) -> None:
    """Delete a database that can be made again from something else."""
    shutil.rmtree(path, ignore_errors=True)
