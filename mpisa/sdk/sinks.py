"""Where a download goes: a stream, or a path that appears whole or not at all.

A path is written beside its destination under a temporary name that holds the CID, and renamed at the end. What a
broken or killed download left there is not trusted but hashed: the next download of the same CID to the same path
keeps what is right (`PathSink.kept`). One download at a time writes there (a lock, which ends with its process).
Nothing is ever written outside: names are single path segments, files are opened without following links, and a symlink
that leads outside is refused.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

from mpisa.primitives.car_stream import DirectoryEntered, Event, FileBytes, FileEnded, FileStarted, SymlinkFound
from mpisa.primitives.errors import IntegrityError, StoreBusy, UsageError
from mpisa.primitives.unixfs_tree import symlink_escapes

if TYPE_CHECKING:
    from mpisa.primitives.cid import Cid
    from mpisa.primitives.unixfs import Mtime

PART: Final = ".mpisa-part-"
LOCK: Final = ".lock"


class Sink(Protocol):
    """Where proven events go."""

    files: int

    @property
    def path(self) -> Path | None: ...
    def take(self, event: Event) -> None: ...
    def finish(self) -> None: ...
    def discard(self) -> None: ...


class StreamSink:
    """A single file, written as it is proven; what was written before an error can't be taken back."""

    def __init__(self, output: BinaryIO) -> None:
        self._output = output
        self.path: Path | None = None
        self.files = 0

    def take(self, event: Event) -> None:
        if isinstance(event, FileBytes):
            self._output.write(event.data)
        elif isinstance(event, FileStarted):
            self.files += 1
        elif isinstance(event, (DirectoryEntered, SymlinkFound)):
            what = "a directory" if isinstance(event, DirectoryEntered) else "a symlink"
            raise UsageError(f"{what} can't be written to a stream", hint="give a path, or --tar for an archive")

    def finish(self) -> None:
        self._output.flush()

    def discard(self) -> None:
        """Nothing to take back."""


class PathSink:
    """A file or directory that appears at `path` when all of it is there. `label`: what else than `root` it depends on.

    Raises UsageError for a place that can't be, StoreBusy while another download writes there.
    """

    def __init__(self, output: str | Path, root: Cid, *, overwrite: bool = False, label: str = "") -> None:
        path = Path(output).expanduser()
        self.path: Path = path
        self.files = 0
        self.is_kept = False
        """Whether the bytes that come next were found here: they are passed over instead of written."""
        self._overwrite = overwrite
        self._file: BinaryIO | None = None
        if not path.name or path.name == "..":
            raise UsageError(f"{path}: expected the name of a file or directory to make")
        if not path.parent.is_dir():
            raise UsageError(f"{path.parent}: no such directory", hint=f"mkdir -p {path.parent}")
        self._refuse_existing()
        self._part = path.with_name(f".{path.name[:100]}{PART}{str(root)[-12:]}{label}")
        self._lock = _Lock(self._part.with_name(self._part.name + LOCK), path)
        _remove_others(path, self._part)
        self.resumes = os.path.lexists(self._part)
        """Whether something of an earlier download is here."""
        self._placed: set[tuple[str, ...]] = set()
        self._dated: list[DirectoryEntered] = []
        self._started = FileStarted((), 0)

    def take(self, event: Event) -> None:
        if isinstance(event, FileBytes):
            assert self._file is not None
            if self.is_kept:
                self._file.seek(len(event.data), os.SEEK_CUR)
            else:
                self._file.write(event.data)
        elif isinstance(event, FileStarted):
            self._file = self._open(self._place(event.path))
            self._started = event
            self.files += 1
        elif isinstance(event, FileEnded):
            self._end_file()
        elif isinstance(event, DirectoryEntered):
            self._enter(self._place(event.path))
            if event.mode is not None or event.mtime is not None:
                self._dated.append(event)
        elif isinstance(event, SymlinkFound):
            if not event.path or symlink_escapes(event.path, event.target):
                raise IntegrityError(
                    f"{'/'.join(event.path) or 'the root'} is a symlink that leads outside, to {event.target[:200]!r}",
                    hint="refused: whoever published this may mean harm",
                )
            place = self._place(event.path)
            if self.resumes:
                _remove(place)
            place.symlink_to(event.target)
            _set_time(place, event.mtime)

    def kept_size(self, path: tuple[str, ...]) -> int:
        """Bytes that an earlier download left of a file; 0 for none."""
        try:
            status = self._part.joinpath(*path).lstat()
        except (OSError, ValueError):
            return 0
        return status.st_size if stat.S_ISREG(status.st_mode) else 0

    def kept(self, path: tuple[str, ...], offset: int, size: int) -> bytes:
        """What an earlier download left there, `size` bytes or fewer. Nobody vouches for it."""
        try:
            descriptor = os.open(self._part.joinpath(*path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (OSError, ValueError):
            return b""
        try:
            return os.pread(descriptor, size, offset) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
        finally:
            os.close(descriptor)

    @property
    def position(self) -> int:
        """How many bytes of the current file have come; 0 between files."""
        return 0 if self._file is None else self._file.tell()

    def finish(self) -> None:
        """Put it in place. Raises UsageError when something came there in the meantime."""
        if self.resumes:
            self._remove_strangers()
        for event in reversed(self._dated):  # a directory's time changes with each entry, and it may lose its bits
            place = self._part.joinpath(*event.path)
            _set_time(place, event.mtime)
            if event.mode is not None:
                place.chmod(event.mode & 0o777 | 0o700)
        if os.path.lexists(self.path):
            self._refuse_existing()
            self._replace()
        else:
            self._appear()
        self._lock.release()

    def keep(self) -> bool:
        """Leave what was written for the next download; whether there is any."""
        with contextlib.suppress(OSError):
            self._close()
        self._lock.release()
        return os.path.lexists(self._part)

    def discard(self) -> None:
        """Remove what was written."""
        with contextlib.suppress(OSError):
            self._close()
        _remove(self._part)
        self._lock.release()

    def forget(self) -> None:
        """Remove what an earlier download left, and begin anew."""
        _remove(self._part)
        self.resumes = False

    def _appear(self) -> None:
        if self._part.is_dir():
            self._part.rename(self.path)
            return
        try:
            os.link(self._part, self.path)
        except FileExistsError:
            self._refuse_existing()
            raise
        except OSError:
            self._part.rename(self.path)
            return
        self._part.unlink()

    def _replace(self) -> None:
        if (self.path.is_dir() and not self.path.is_symlink()) or self._part.is_dir():
            old = self._part.with_name(self._part.name + "-old")
            _remove(old)
            self.path.rename(old)
            self._part.rename(self.path)
            _remove(old)
        else:
            self._part.replace(self.path)

    def _refuse_existing(self) -> None:
        if not self._overwrite and os.path.lexists(self.path):
            raise UsageError(f"{self.path} exists already", hint="choose another path, or give --overwrite")

    def _place(self, path: tuple[str, ...]) -> Path:
        for name in path:
            if name in ("", ".", "..") or "/" in name or "\0" in name:
                raise IntegrityError(f"a directory holds the name {name[:100]!r}", hint="refused: it leads outside")
        if self.resumes:
            self._placed.add(path)
        return self._part.joinpath(*path)

    def _enter(self, place: Path) -> None:
        if self.resumes and os.path.lexists(place):
            if stat.S_ISDIR(place.lstat().st_mode):
                return
            _remove(place)
        place.mkdir(mode=0o755)

    def _open(self, place: Path) -> BinaryIO:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        if self.resumes and os.path.lexists(place):
            status = place.lstat()
            if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
                return os.fdopen(os.open(place, flags, 0o644), "r+b")
            _remove(place)
        return os.fdopen(os.open(place, flags | os.O_EXCL, 0o644), "w+b")

    def _end_file(self) -> None:
        assert self._file is not None
        if self.resumes:
            self._file.truncate(self._file.tell())
        if self._started.mode is not None:
            os.fchmod(self._file.fileno(), self._started.mode & 0o777 | 0o600)
        self._close()
        _set_time(self._part.joinpath(*self._started.path), self._started.mtime)

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _remove_strangers(self) -> None:
        """An earlier part may hold names that the tree hasn't: whoever put them there, they don't belong to it."""
        pending: list[tuple[str, ...]] = [()] if self._part.is_dir() and not self._part.is_symlink() else []
        while pending:
            above = pending.pop()
            with os.scandir(self._part.joinpath(*above)) as entries:
                for entry in list(entries):
                    path = (*above, entry.name)
                    if path not in self._placed:
                        _remove(Path(entry.path))
                    elif entry.is_dir(follow_symlinks=False):
                        pending.append(path)


class _Lock:
    """Held by one process at a time; its file is gone when nobody holds it, unless that process was killed."""

    def __init__(self, file: Path, wanted: Path) -> None:
        self._file = file
        while True:
            self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(self._descriptor)
                raise StoreBusy(
                    f"another download of the same content to {wanted} is running", hint="wait for it, or choose a path"
                ) from None
            if _is_same(file, self._descriptor):
                return
            os.close(self._descriptor)  # whoever held it removed the file meanwhile

    def release(self) -> None:
        """Let go; twice is harmless."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            self._file.unlink(missing_ok=True)
            os.close(descriptor)


def _is_same(file: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(file.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _set_time(place: Path, mtime: Mtime | None) -> None:
    """The time of the last change as the tree says it, unless no file system can hold it."""
    if mtime is None:
        return
    time = mtime.seconds * 1_000_000_000 + (mtime.nanoseconds or 0)
    with contextlib.suppress(OverflowError, OSError):
        os.utime(place, ns=(time, time), follow_symlinks=False)


def _remove_others(path: Path, part: Path) -> None:
    """Remove what downloads of other content to this path left, unless they still run."""
    prefix = f".{path.name[:100]}{PART}"
    for left in path.parent.glob(f".*{PART}*"):
        name = left.name.removesuffix(LOCK)
        if not left.name.startswith(prefix) or name == part.name or name.endswith("-old"):
            continue
        try:
            lock = _Lock(left.with_name(name + LOCK), path)
        except (StoreBusy, OSError):
            continue
        _remove(left.with_name(name))
        lock.release()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
