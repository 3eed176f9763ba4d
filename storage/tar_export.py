"""A tree of blocks as a tar archive, streamed: the same bytes for the same tree.

Everything lies below one top name. A directory's name that is a path (some trees have "../file") is followed where it
stays below the top and meets no other entry, and refused otherwise; symlinks that could lead out of the tree are
refused, as `export` does, before anything of that entry is written. Entries come in the order of the directories'
blocks, with owner 0 and, unless the tree says otherwise, a fixed mode and time. Long and non-ASCII names are in pax
headers. Of the tree only the directories on the way are held.
"""

import hashlib
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

from mpisa.primitives.car_stream import MAX_TREE_DEPTH
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.unixfs_layout import DIRECTORY_MODE, FILE_MODE
from mpisa.primitives.unixfs_tree import (
    PERMISSIONS,
    Content,
    DirectoryContent,
    Entry,
    FileContent,
    SymlinkContent,
    check_name,
    symlink_escapes,
)
from storage.reader import DagReader

MAX_REMEMBERED = 1 << 18
"""Entries up to which names that are paths are taken: beyond, a collision couldn't be seen."""

SYMLINK_MODE = 0o777
MAX_TAR_ENTRIES = 10_000_000
_BLOCK = 512


@dataclass(slots=True)
class _Open:
    """A directory whose entries are being written; its path below the top."""

    path: tuple[str, ...]
    entries: Iterator[Entry]


class _Places:
    """Where entries lie, and that no two lie in one place."""

    def __init__(self) -> None:
        self._taken: set[bytes] = set()
        self._count = 0

    def place(self, directory: tuple[str, ...], name: str) -> tuple[str, ...]:
        """Where an entry of that name lies. Raises Rejection(BAD_NAME, DUPLICATE, TOO_MANY)."""
        self._count += 1
        if self._count > MAX_TAR_ENTRIES:
            raise Rejection(RejectionReason.TOO_MANY, f"the tree has more than {MAX_TAR_ENTRIES} entries")
        if "/" in name and self._count > MAX_REMEMBERED:
            raise Rejection(RejectionReason.BAD_NAME, f"directory entry named {name!r}")
        path = _path_of(directory, name)
        if self._count <= MAX_REMEMBERED:
            digest = hashlib.sha256("/".join(path).encode()).digest()[:16]
            if digest in self._taken:
                raise Rejection(RejectionReason.DUPLICATE, f"two entries lie at {_shown(path)}")
            self._taken.add(digest)
        return path


def _path_of(directory: tuple[str, ...], name: str) -> tuple[str, ...]:
    """Up and one name, or one name: then what is above it is a directory on the way here, never a symlink."""
    *climbs, last = name.split("/")
    if any(part != ".." for part in climbs) or len(climbs) > len(directory):
        raise Rejection(RejectionReason.BAD_NAME, f"directory entry named {name!r}")
    return (*directory[: len(directory) - len(climbs)], check_name(last))


def write_tar(reader: DagReader, cid: Cid, name: str, *, max_bytes: int | None = None) -> Iterator[bytes]:
    """The archive of a file, directory or symlink under a top name, in pieces. `max_bytes` bounds the whole archive.

    Raises Rejection(BAD_NAME) before the entry at fault, Rejection(TOO_LARGE) where the bound would be passed, and
    what the reader raises.
    """
    check_name(name)
    written = 0
    for piece in _pieces(reader, cid, name):
        written += len(piece)
        if max_bytes is not None and written > max_bytes:
            raise Rejection(RejectionReason.TOO_LARGE, f"the archive of {cid} has more than {max_bytes} bytes")
        yield piece


def _pieces(reader: DagReader, cid: Cid, name: str) -> Iterator[bytes]:
    stack: list[_Open] = []
    places = _Places()
    yield from _entry(reader, stack, cid, name, ())
    while stack:
        directory = stack[-1]
        entry = next(directory.entries, None)
        if entry is None:
            stack.pop()
            continue
        yield from _entry(reader, stack, entry.cid, name, places.place(directory.path, entry.name))
    yield bytes(2 * _BLOCK)


def _entry(reader: DagReader, stack: list[_Open], cid: Cid, top: str, path: tuple[str, ...]) -> Iterator[bytes]:
    """One entry; a directory is put on the stack, to be filled."""
    if len(path) > MAX_TREE_DEPTH:
        raise Rejection(RejectionReason.TOO_DEEP, f"{_shown(path)} lies more than {MAX_TREE_DEPTH} directories deep")
    content = reader.content(cid, check_names=False)
    info = tarfile.TarInfo("/".join((top, *path)))
    if isinstance(content, FileContent):
        yield _header(info, content, FILE_MODE, size=content.size)
        yield from reader.read_file(cid)
        yield bytes(-content.size % _BLOCK)
    elif isinstance(content, SymlinkContent):
        if symlink_escapes(path, content.target):
            raise Rejection(
                RejectionReason.BAD_NAME,
                f"symlink {_shown(path)} points to {content.target!r}, outside of the tree",
            )
        info.type, info.linkname = tarfile.SYMTYPE, content.target
        yield _header(info, content, SYMLINK_MODE)
    else:
        if isinstance(content, DirectoryContent):
            for entry in content.entries:  # all of them before the first byte, so that a bad root gives nothing at all
                _path_of(path, entry.name)
        stack.append(_Open(path, reader.entries(cid, check_names=False)))
        info.type = tarfile.DIRTYPE
        yield _header(info, content, DIRECTORY_MODE)


def _header(info: tarfile.TarInfo, content: Content, mode: int, *, size: int = 0) -> bytes:
    info.size = size
    info.mode = (mode if content.mode is None else content.mode) & PERMISSIONS
    if content.mtime is not None:
        nanoseconds = content.mtime.nanoseconds or 0
        info.mtime = content.mtime.seconds
        if nanoseconds or not 0 <= content.mtime.seconds < 1 << 33:
            info.pax_headers = {"mtime": _seconds(content.mtime.seconds, nanoseconds)}
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def _shown(path: tuple[str, ...]) -> str:
    return repr("/".join(path)) if path else "the root"


def _seconds(seconds: int, nanoseconds: int) -> str:
    """Decimal seconds as pax has them: exact, which a float wouldn't be."""
    total = seconds * 1_000_000_000 + nanoseconds
    sign, total = ("-", -total) if total < 0 else ("", total)
    whole, rest = divmod(total, 1_000_000_000)
    return f"{sign}{whole}.{rest:09}" if rest else f"{sign}{whole}"
