"""A tree as a tar archive, made of proven events as they come: the same bytes for the same tree.

Everything lies below one top name. Owners are 0; modes and times fixed unless the tree says them; long
and non-ASCII names are in pax headers, so that GNU tar and Python's tarfile read them. A symlink that could lead out of
the tree is refused before it is written.
"""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING, Final

from mpisa.primitives.car_stream import (
    DirectoryEntered,
    Event,
    FileBytes,
    FileEnded,
    FileStarted,
    SymlinkFound,
    TreeEnded,
)
from mpisa.primitives.errors import IntegrityError
from mpisa.primitives.unixfs_tree import PERMISSIONS, check_name, symlink_escapes

if TYPE_CHECKING:
    from pathlib import Path

    from mpisa.primitives.unixfs import Mtime
    from mpisa.sdk.sinks import Sink

FILE_MODE: Final = 0o644
DIRECTORY_MODE: Final = 0o755
SYMLINK_MODE: Final = 0o777
_BLOCK: Final = 512


class TarSink:
    """Writes the archive to a sink for one file."""

    def __init__(self, output: Sink, name: str) -> None:
        self._output = output
        self._name = check_name(name)
        self._size = 0
        self.files = 0
        output.take(FileStarted((), 0))

    @property
    def path(self) -> Path | None:
        """Where the archive will be."""
        return self._output.path

    def take(self, event: Event) -> None:
        if isinstance(event, FileBytes):
            self._output.take(event)
        elif isinstance(event, FileStarted):
            self.files += 1
            self._size = event.size
            info = self._info(event.path, tarfile.REGTYPE, FILE_MODE if event.mode is None else event.mode)
            info.size = event.size
            self._write(_header(info, event.mtime))
        elif isinstance(event, FileEnded):
            self._write(bytes(-self._size % _BLOCK))
        elif isinstance(event, DirectoryEntered):
            mode = DIRECTORY_MODE if event.mode is None else event.mode
            self._write(_header(self._info(event.path, tarfile.DIRTYPE, mode), event.mtime))
        elif isinstance(event, SymlinkFound):
            if symlink_escapes(event.path, event.target):
                raise IntegrityError(
                    f"{'/'.join(event.path) or 'the root'} is a symlink that leads outside, to {event.target[:200]!r}",
                    hint="refused: whoever published this may mean harm",
                )
            info = self._info(event.path, tarfile.SYMTYPE, SYMLINK_MODE)
            info.linkname = event.target
            self._write(_header(info, event.mtime))
        elif isinstance(event, TreeEnded):
            self._write(bytes(2 * _BLOCK))

    def _info(self, path: tuple[str, ...], kind: bytes, mode: int) -> tarfile.TarInfo:
        info = tarfile.TarInfo("/".join((self._name, *path)))
        info.type, info.mode = kind, mode & PERMISSIONS
        return info

    def _write(self, data: bytes) -> None:
        if data:
            self._output.take(FileBytes(data))

    def finish(self) -> None:
        """Put the archive in place."""
        self._output.take(FileEnded(()))
        self._output.finish()

    def discard(self) -> None:
        """Remove what was written."""
        self._output.discard()


def _header(info: tarfile.TarInfo, mtime: Mtime | None) -> bytes:
    if mtime is not None:
        info.mtime = mtime.seconds
        if mtime.nanoseconds or not 0 <= mtime.seconds < 1 << 33:
            info.pax_headers = {"mtime": _seconds(mtime.seconds, mtime.nanoseconds or 0)}
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def _seconds(seconds: int, nanoseconds: int) -> str:
    """Decimal seconds as pax has them: exact, which a float wouldn't be."""
    total = seconds * 1_000_000_000 + nanoseconds
    sign, total = ("-", -total) if total < 0 else ("", total)
    whole, rest = divmod(total, 1_000_000_000)
    return f"{sign}{whole}.{rest:09}" if rest else f"{sign}{whole}"
