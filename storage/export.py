"""A tree of blocks onto the file system, without leaving the place that was named.

Everything is made in a new directory beside the destination and renamed at the end, so that the destination appears
whole or not at all; one that exists is refused. Names are single components that were checked; directories are entered
by descriptor and files made exclusively, so neither a symlink of the tree nor one that somebody plants meanwhile is
followed. Symlinks that could lead out of the tree are refused unless asked for.

Where the tree says permission bits and times, what is made gets them when it is complete: never set-user-id,
set-group-id or sticky bits, and the owner of a directory can always enter and write it.
"""

import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mpisa.primitives.car_stream import MAX_TREE_DEPTH
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import MpisaError, Rejection, RejectionReason, UsageError
from mpisa.primitives.unixfs_tree import (
    Content,
    DirectoryContent,
    Entry,
    FileContent,
    ShardContent,
    SymlinkContent,
    symlink_escapes,
)
from storage.blockstore import Progress
from storage.files import disk_error
from storage.reader import DagReader

MAX_EXPORTED_ENTRIES = 10_000_000

OWNER_OF_DIRECTORY = 0o700
MAX_SECONDS = 1 << 33
"""Times further from 1970 than this (1697 to 2242) are left out: not every file system holds them."""

_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class _Open:
    """A directory being filled."""

    descriptor: int
    entries: Iterator[Entry]
    path: tuple[str, ...]
    content: Content


def export_to_path(
    reader: DagReader,
    cid: Cid,
    destination: Path,
    *,
    allow_escaping_symlinks: bool = False,
    progress: Progress | None = None,
) -> int:
    """Write a file, directory or symlink to a path that must not exist; the bytes of content written.

    Raises UsageError when the destination exists or can't be made, DiskFull, Rejection that names the entry at fault
    and what the reader raises; then nothing is left behind.
    """
    if os.path.lexists(destination):
        raise UsageError(f"{destination} exists already", hint="choose another path, or remove it first")
    parent = destination.absolute().parent
    if not parent.is_dir():
        raise UsageError(f"{parent} is not a directory")
    work = parent / f".mpisa-{secrets.token_hex(8)}"
    try:
        work.mkdir(mode=0o700)
        written = _Exporter(reader, allow_escaping_symlinks, progress).export(cid, work)
        if os.path.lexists(destination):
            raise UsageError(f"{destination} exists already", hint="choose another path, or remove it first")
        (work / "tree").rename(destination)
        return written
    except MpisaError:
        raise
    except OSError as error:
        raise disk_error(error, destination) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


class _Exporter:
    def __init__(self, reader: DagReader, allow_escaping: bool, progress: Progress | None) -> None:
        self._reader = reader
        self._allow_escaping = allow_escaping
        self._progress = progress
        self._written = 0
        self._count = 0

    def export(self, cid: Cid, work: Path) -> int:
        """Make the tree as `tree` in `work`."""
        stack: list[_Open] = []
        descriptor = os.open(work, _DIRECTORY_FLAGS)
        try:
            self._make(stack, descriptor, "tree", cid, ())
            while stack:
                directory = stack[-1]
                entry = next(directory.entries, None)
                if entry is None:
                    _describe(directory.descriptor, directory.content, OWNER_OF_DIRECTORY)
                    os.close(stack.pop().descriptor)
                    continue
                self._make(stack, directory.descriptor, entry.name, entry.cid, (*directory.path, entry.name))
        finally:
            for opened in stack:
                os.close(opened.descriptor)
            os.close(descriptor)
        return self._written

    def _make(self, stack: list[_Open], parent: int, name: str, cid: Cid, path: tuple[str, ...]) -> None:
        """Make one entry; a directory is put on the stack to be filled."""
        self._count += 1
        if self._count > MAX_EXPORTED_ENTRIES:
            raise Rejection(RejectionReason.TOO_MANY, f"the tree has more than {MAX_EXPORTED_ENTRIES} entries")
        if len(path) > MAX_TREE_DEPTH:
            raise Rejection(
                RejectionReason.TOO_DEEP, f"{_shown(path)} lies more than {MAX_TREE_DEPTH} directories deep"
            )
        content = self._reader.content(cid)
        try:
            if isinstance(content, FileContent):
                self._write_file(parent, name, cid, content)
            elif isinstance(content, SymlinkContent):
                self._write_symlink(parent, name, content, path)
            else:
                assert isinstance(content, DirectoryContent | ShardContent)
                os.mkdir(name, 0o777, dir_fd=parent)
                descriptor = os.open(name, _DIRECTORY_FLAGS, dir_fd=parent)
                stack.append(_Open(descriptor, self._reader.entries(cid), path, content))
        except FileExistsError:
            raise Rejection(
                RejectionReason.DUPLICATE, f"{_shown(path)} collides with another entry on this file system"
            ) from None

    def _write_file(self, parent: int, name: str, cid: Cid, content: FileContent) -> None:
        descriptor = os.open(name, _FILE_FLAGS, 0o666, dir_fd=parent)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            for piece in self._reader.read_file(cid):
                view = memoryview(piece)
                while view:
                    view = view[file.write(view) :]
                self._written += len(piece)
                if self._progress is not None:
                    self._progress(self._written)
            _describe(descriptor, content, 0)

    def _write_symlink(self, parent: int, name: str, content: SymlinkContent, path: tuple[str, ...]) -> None:
        target = content.target
        if not self._allow_escaping and symlink_escapes(path, target):
            raise Rejection(
                RejectionReason.BAD_NAME, f"symlink {_shown(path)} points to {target!r}, outside of the tree"
            )
        os.symlink(target, name, dir_fd=parent)
        if (times := _times(content)) is not None:
            os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)


def _describe(descriptor: int, content: Content, always: int) -> None:
    """Give a file or directory what the tree says of it; permission bits `always` are set whatever it says."""
    if content.mode is not None:
        os.fchmod(descriptor, content.mode & 0o777 | always)
    if (times := _times(content)) is not None:
        os.utime(descriptor, ns=times)


def _times(content: Content) -> tuple[int, int] | None:
    """Access and modification time in nanoseconds; None where the tree says none that the system could hold."""
    if content.mtime is None or not -MAX_SECONDS <= content.mtime.seconds <= MAX_SECONDS:
        return None
    time = content.mtime.seconds * 1_000_000_000 + (content.mtime.nanoseconds or 0)
    return time, time


def _shown(path: tuple[str, ...]) -> str:
    return repr("/".join(path)) if path else "the root"
