"""Reading tar headers from a stream with every length bounded: ustar, pax and GNU long names.

The standard library parses the 512-byte header and its checksum; what surrounds it is read here, since its own reader
takes extended headers of any claimed size into memory. The end marker is required: an archive that merely stops was cut
off.
"""

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.unixfs import Mtime
from mpisa.primitives.unixfs_tree import PERMISSIONS
from storage.session import Reader

MAX_TAR_ENTRIES = 1_000_000
MAX_EXTENDED_HEADER_BYTES = 64 * 1024
MAX_PATH_BYTES = 4096
MAX_SHOWN_NAME = 120
MAX_PAX_RECORDS = 256

_BLOCK = tarfile.BLOCKSIZE
_SKIP_BYTES = 64 * 1024
_NANOSECONDS = 1_000_000_000
_DECIMAL = re.compile(r"(-?)([0-9]{1,15})(?:\.([0-9]{0,30}))?", re.ASCII)


class EntryKind(Enum):
    """What is taken from an archive."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"


@dataclass(frozen=True, slots=True)
class TarEntry:
    """One entry: the name as the archive has it, bytes of content, target of a symlink, permission bits, time."""

    name: str
    kind: EntryKind
    size: int
    target: str
    mode: int
    mtime: Mtime

    @property
    def shown_name(self) -> str:
        """The name for a message, shortened."""
        return _shown(self.name)


class TarReader:
    """Entries one after another; between them `read` gives the content of the current one. One thread."""

    def __init__(self, source: Reader) -> None:
        self._source = source
        self._left = 0
        self._padding = 0
        self._current = ""

    def entries(self) -> Iterator[TarEntry]:
        """All entries up to the end marker; what was not read of one is skipped. Raises Rejection."""
        count = 0
        while True:
            entry = self._next_entry()
            if entry is None:
                self._finish()
                return
            count += 1
            if count > MAX_TAR_ENTRIES:
                raise Rejection(
                    RejectionReason.TOO_MANY, f"tar entry {entry.shown_name} is one of more than {MAX_TAR_ENTRIES}"
                )
            self._current = entry.name
            self._left = entry.size
            self._padding = -entry.size % _BLOCK
            yield entry
            self._skip_rest()

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes of the current entry's content; none at its end."""
        wanted = min(size, self._left)
        if wanted == 0:
            return b""
        data = self._source.read(wanted)
        if not data:
            raise Rejection(
                RejectionReason.MALFORMED,
                f"tar entry {_shown(self._current)} is cut off, {self._left} bytes are missing",
            )
        self._left -= len(data)
        return data

    def _next_entry(self) -> TarEntry | None:
        overrides: dict[str, str] = {}
        while True:
            block = self._read_exactly(_BLOCK, "a header")
            if not any(block):
                return None
            info = self._parse(block)
            if info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
                overrides |= self._pax(info)
            elif info.type == tarfile.XGLTYPE:
                self._extended(info)
            elif info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
                key = "path" if info.type == tarfile.GNUTYPE_LONGNAME else "linkpath"
                overrides[key] = self._decode(self._extended(info).rstrip(b"\0"), info.name)
            else:
                return self._entry(info, overrides)

    def _parse(self, block: bytes) -> tarfile.TarInfo:
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError) as error:
            raise Rejection(
                RejectionReason.MALFORMED, f"tar header after entry {_shown(self._current)}: {error}"
            ) from None
        if info.size < 0:
            raise Rejection(RejectionReason.MALFORMED, f"tar entry {_shown(info.name)} claims {info.size} bytes")
        return info

    def _entry(self, info: tarfile.TarInfo, overrides: dict[str, str]) -> TarEntry:
        name = overrides.get("path", info.name)
        target = overrides.get("linkpath", info.linkname)
        kind = _kind(info, name, overrides)
        for text, what in ((name, "name"), (target, "link target")):
            if len(text.encode("utf-8", "surrogateescape")) > MAX_PATH_BYTES:
                raise Rejection(
                    RejectionReason.TOO_LARGE,
                    f"tar entry {_shown(name)} has a {what} of more than {MAX_PATH_BYTES} bytes",
                )
            try:
                text.encode()
            except UnicodeEncodeError:
                raise Rejection(
                    RejectionReason.MALFORMED, f"tar entry {_shown(name)} has a {what} that is not UTF-8"
                ) from None
        size = info.size
        if "size" in overrides:
            if not (overrides["size"].isascii() and overrides["size"].isdigit() and len(overrides["size"]) < 20):
                raise Rejection(RejectionReason.MALFORMED, f"tar entry {_shown(name)} has a pax size that is no number")
            size = int(overrides["size"])
        mtime = _mtime(overrides["mtime"], name) if "mtime" in overrides else Mtime(int(info.mtime))
        return TarEntry(name, kind, size if kind is EntryKind.FILE else 0, target, info.mode & PERMISSIONS, mtime)

    def _pax(self, info: tarfile.TarInfo) -> dict[str, str]:
        """The records of a pax header: "LENGTH KEY=VALUE newline", each length counting itself."""
        data = self._extended(info)
        found: dict[str, str] = {}
        position = 0
        while position < len(data) and data[position] != 0:
            space = data.find(b" ", position, position + 20)
            digits = data[position:space] if space > 0 else b""
            end = position + int(digits) if digits.isdigit() else -1
            key, equals, value = data[space + 1 : end - 1].partition(b"=")
            if not position < space < end <= len(data) or data[end - 1 : end] != b"\n" or not equals:
                raise Rejection(RejectionReason.MALFORMED, f"pax header {_shown(info.name)}: bad record at {position}")
            if len(found) == MAX_PAX_RECORDS:
                raise Rejection(
                    RejectionReason.TOO_MANY, f"pax header {_shown(info.name)} has more than {MAX_PAX_RECORDS} records"
                )
            found[self._decode(key, info.name)] = value.decode("utf-8", "surrogateescape")
            position = end
        return found

    def _extended(self, info: tarfile.TarInfo) -> bytes:
        if info.size > MAX_EXTENDED_HEADER_BYTES:
            raise Rejection(
                RejectionReason.TOO_LARGE,
                f"tar entry {_shown(info.name)} is an extended header of {info.size} bytes, "
                f"at most {MAX_EXTENDED_HEADER_BYTES} are read",
            )
        data = self._read_exactly(info.size, "an extended header")
        self._read_exactly(-info.size % _BLOCK, "an extended header")
        return data

    def _decode(self, raw: bytes, name: str) -> str:
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise Rejection(
                RejectionReason.MALFORMED, f"tar entry {_shown(name)} has an extended header that is not UTF-8"
            ) from None

    def _read_exactly(self, size: int, what: str) -> bytes:
        parts: list[bytes] = []
        missing = size
        while missing:
            data = self._source.read(missing)
            if not data:
                after = f"after entry {_shown(self._current)}" if self._current else "at its beginning"
                raise Rejection(RejectionReason.MALFORMED, f"the tar archive is cut off in {what} {after}")
            parts.append(data)
            missing -= len(data)
        return b"".join(parts)

    def _skip_rest(self) -> None:
        while self.read(_SKIP_BYTES):
            pass
        self._read_exactly(self._padding, "padding")
        self._padding = 0

    def _finish(self) -> None:
        """Read on to the end: tar pads with zeros, and anything else was smuggled in."""
        while data := self._source.read(_SKIP_BYTES):
            if data.count(0) != len(data):
                raise Rejection(RejectionReason.MALFORMED, "the tar archive has bytes behind its end marker")


def _mtime(text: str, name: str) -> Mtime:
    """The time of a pax header: decimal seconds, digits beyond nanoseconds are dropped."""
    found = _DECIMAL.fullmatch(text)
    if found is None:
        raise Rejection(RejectionReason.MALFORMED, f"tar entry {_shown(name)} has a pax mtime that is no time")
    sign, whole, fraction = found.groups(default="")
    total = int(whole) * _NANOSECONDS + int(fraction[:9].ljust(9, "0"))
    seconds, nanoseconds = divmod(-total if sign else total, _NANOSECONDS)
    return Mtime(seconds, nanoseconds or None)


def _kind(info: tarfile.TarInfo, name: str, overrides: dict[str, str]) -> EntryKind:
    if info.type == tarfile.GNUTYPE_SPARSE or any(key.startswith("GNU.sparse") for key in overrides):
        raise Rejection(RejectionReason.UNSUPPORTED, f"tar entry {_shown(name)} is a sparse file")
    if info.type == tarfile.DIRTYPE or (info.type == tarfile.AREGTYPE and name.endswith("/")):
        return EntryKind.DIRECTORY
    if info.type in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE):
        return EntryKind.FILE
    if info.type == tarfile.SYMTYPE:
        return EntryKind.SYMLINK
    kinds = {
        tarfile.LNKTYPE: "is a hard link",
        tarfile.CHRTYPE: "is a character device",
        tarfile.BLKTYPE: "is a block device",
        tarfile.FIFOTYPE: "is a pipe",
    }
    what = kinds.get(info.type, f"is of unknown type {info.type!r}")
    raise Rejection(RejectionReason.UNSUPPORTED, f"tar entry {_shown(name)} {what}")


def _shown(name: str) -> str:
    short = name if len(name) <= MAX_SHOWN_NAME else name[:MAX_SHOWN_NAME] + "..."
    return repr(short)
