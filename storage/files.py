"""The few file operations that packs need, behind a Protocol, so that tests can fill a disk or break it.

`PackFiles` keeps a bounded number of packs open for reading; a descriptor that is in use is never closed.
"""

import fcntl
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from mpisa.primitives.errors import DiskFull, StoreBusy

MAX_OPEN_PACKS = 64
MAX_BUFFERS_PER_WRITE = 1024
"""The kernel's limit for one vectored write."""


class FileLayer(Protocol):
    """File operations; each raises OSError as the operating system does."""

    def open(self, path: Path, *, create: bool) -> int:
        """A descriptor for reading and writing; `create` makes the file anew, empty."""
        ...

    def read(self, descriptor: int, length: int, offset: int) -> bytes:
        """Up to `length` bytes at `offset`; fewer only at the end of the file."""
        ...

    def write(self, descriptor: int, buffers: Sequence[bytes | memoryview], offset: int) -> int:
        """Write buffers one after another at `offset`; the number of bytes written may be less than asked for."""
        ...

    def sync(self, descriptor: int) -> None:
        """Make the file's bytes and length durable."""
        ...

    def truncate(self, descriptor: int, length: int) -> None:
        """Cut the file to `length` bytes."""
        ...

    def sync_directory(self, path: Path) -> None:
        """Make the names in a directory durable."""
        ...


class OsFiles:
    """The operating system's files."""

    def open(self, path: Path, *, create: bool) -> int:
        """See FileLayer.open."""
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC if create else os.O_RDWR
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def read(self, descriptor: int, length: int, offset: int) -> bytes:
        """See FileLayer.read."""
        data = os.pread(descriptor, length, offset)
        if len(data) == length or not data:
            return data
        parts = [data]
        missing = length - len(data)
        while missing and (part := os.pread(descriptor, missing, offset + length - missing)):
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def write(self, descriptor: int, buffers: Sequence[bytes | memoryview], offset: int) -> int:
        """See FileLayer.write."""
        return os.pwritev(descriptor, buffers, offset)

    def sync(self, descriptor: int) -> None:
        """See FileLayer.sync."""
        os.fdatasync(descriptor)

    def truncate(self, descriptor: int, length: int) -> None:
        """See FileLayer.truncate."""
        os.ftruncate(descriptor, length)

    def sync_directory(self, path: Path) -> None:
        """See FileLayer.sync_directory."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_fully(files: FileLayer, descriptor: int, buffers: Sequence[bytes | memoryview], offset: int) -> int:
    """Write all buffers at `offset` without joining them; the offset behind them. Raises OSError."""
    pending = [view for view in buffers if len(view)]
    position = 0
    while position < len(pending):
        window = pending[position : position + MAX_BUFFERS_PER_WRITE]
        written = files.write(descriptor, window, offset)
        if written <= 0:
            raise OSError(5, "a write made no progress")
        offset += written
        for view in window:
            if written < len(view):
                pending[position] = memoryview(view)[written:]
                break
            written -= len(view)
            position += 1
    return offset


def disk_error(error: OSError, path: Path) -> DiskFull:
    """The typed error for a write that the disk refused."""
    cause = error.strerror or str(error)
    return DiskFull(
        f"can't write to {path}: {cause}",
        hint="free space on this disk (or check it for faults); writes resume by themselves, reads go on meanwhile",
    )


def make_directory(path: Path) -> None:
    """Create a directory and those above it, each durably. Raises OSError."""
    missing = [path]
    while not missing[-1].parent.exists():
        missing.append(missing[-1].parent)
    for directory in reversed(missing):
        if not directory.is_dir():
            directory.mkdir(exist_ok=True)
            OsFiles().sync_directory(directory.parent)


class DirectoryLock:
    """An exclusive lock on a directory, held by this process until released or dead. Raises StoreBusy."""

    def __init__(self, directory: Path) -> None:
        self._descriptor = os.open(directory / "LOCK", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise StoreBusy(
                f"another node runs on this home: {directory} is locked",
                hint="stop that node first, or talk to it with --endpoint",
            ) from None

    def release(self) -> None:
        """Give the lock back; releasing twice is harmless."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class _OpenPack:
    __slots__ = ("descriptor", "users")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.users = 0


class PackFiles:
    """Pack files of one directory by number, at most `MAX_OPEN_PACKS` idle ones kept open; thread-safe."""

    def __init__(self, directory: Path, files: FileLayer, *, max_open: int = MAX_OPEN_PACKS) -> None:
        self.directory = directory
        self.layer = files
        self._max_open = max_open
        self._lock = threading.Lock()
        self._open: OrderedDict[int, _OpenPack] = OrderedDict()

    def path(self, pack: int) -> Path:
        """Where the pack lies."""
        return self.directory / f"{pack:08d}.pack"

    def numbers(self) -> list[int]:
        """Numbers of the packs in the directory, ascending."""
        stems = (entry.name[:-5] for entry in self.directory.iterdir() if entry.name.endswith(".pack"))
        return sorted(int(stem) for stem in stems if len(stem) == 8 and stem.isascii() and stem.isdigit())

    def size(self, pack: int) -> int:
        """Length of the file in bytes. Raises OSError."""
        return self.path(pack).stat().st_size

    @contextmanager
    def lease(self, pack: int) -> Iterator[int]:
        """A descriptor that stays open within the context. Raises OSError."""
        entry = self._acquire(pack)
        try:
            yield entry.descriptor
        finally:
            self._release(entry)

    def read(self, pack: int, length: int, offset: int) -> bytes:
        """Bytes of a pack; fewer than `length` only at its end. Raises OSError."""
        with self.lease(pack) as descriptor:
            return self.layer.read(descriptor, length, offset)

    def open_count(self) -> int:
        """How many descriptors are open now."""
        return len(self._open)

    def forget(self, pack: int) -> None:
        """Close the pack once nobody reads it, for it is about to be removed."""
        with self._lock:
            entry = self._open.pop(pack, None)
            if entry is not None:
                entry.users -= 1
                if entry.users < 0:
                    os.close(entry.descriptor)

    def close(self) -> None:
        """Close every descriptor that is not in use, and the others once they are free."""
        for pack in list(self._open):
            self.forget(pack)

    def _acquire(self, pack: int) -> _OpenPack:
        with self._lock:
            entry = self._open.get(pack)
            if entry is None:
                entry = _OpenPack(self.layer.open(self.path(pack), create=False))
                self._open[pack] = entry
            self._open.move_to_end(pack)
            entry.users += 1
            self._evict()
            return entry

    def _release(self, entry: _OpenPack) -> None:
        with self._lock:
            entry.users -= 1
            if entry.users < 0:
                os.close(entry.descriptor)

    def _evict(self) -> None:
        if len(self._open) <= self._max_open:
            return
        for pack, entry in self._open.items():
            if entry.users == 0:
                os.close(entry.descriptor)
                del self._open[pack]
                return
