"""Files, directories and streams into a block store, or only to their CID.

Symlinks are stored as symlinks and never followed, not even the path that was given. Sockets, devices and pipes are
refused. A file that changes while it is read is refused, for its CID would name bytes that never were a file.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import Denied, IntegrityError, MpisaError, NotFound, UsageError
from mpisa.primitives.profiles import DEFAULT_PROFILE, Profile
from mpisa.primitives.unixfs import Mtime
from mpisa.primitives.unixfs_directory import build_directory
from mpisa.primitives.unixfs_layout import NO_METADATA, Metadata, Node
from storage.blockstore import BlockStore, Progress
from storage.session import ImportResult, ImportSession, Reader
from storage.tar_import import import_tar

__all__ = ["ImportResult", "Reader", "cid_of_path", "import_path", "import_stream", "import_tar"]

MAX_IMPORT_DEPTH = 256
MAX_DIRECTORY_ENTRIES = 1_000_000


def import_path(
    store: BlockStore, path: Path, profile: Profile = DEFAULT_PROFILE, progress: Progress | None = None
) -> ImportResult:
    """Import a file, directory or symlink; durable on return. `progress` gets the bytes of content read so far.

    Raises NotFound, Denied, UsageError, IntegrityError (changed while read) and what the store raises.
    """
    with ImportSession(store, profile, progress) as session:
        root = _import_tree(session, path)
    return session.result(root)


def import_stream(
    store: BlockStore, reader: Reader, profile: Profile = DEFAULT_PROFILE, progress: Progress | None = None
) -> ImportResult:
    """Import one file's bytes from a reader; durable on return."""
    with ImportSession(store, profile, progress) as session:
        root = session.add_file(reader)
    return session.result(root)


def cid_of_path(path: Path, profile: Profile = DEFAULT_PROFILE, progress: Progress | None = None) -> Cid:
    """The CID that `import_path` would give; nothing is stored."""
    with ImportSession(None, profile, progress) as session:
        root = _import_tree(session, path)
    return session.result(root).cid


@dataclass(slots=True)
class _Directory:
    """A directory under way: names still to come, entries that are done."""

    path: Path
    name: str
    names: Iterator[str]
    metadata: Metadata = NO_METADATA
    entries: dict[str, Node] = field(default_factory=dict)


def _import_tree(session: ImportSession, top: Path) -> Node:
    with _named_errors(top):
        status = top.lstat()
        if not stat.S_ISDIR(status.st_mode):
            return _import_single(session, top)
    stack = [_enter(top, "", _metadata(status, session.profile))]
    while True:
        directory = stack[-1]
        name = next(directory.names, None)
        if name is not None:
            path = directory.path / name
            with _named_errors(path):
                status = path.lstat()
                is_directory = stat.S_ISDIR(status.st_mode)
                if not is_directory:
                    directory.entries[name] = _import_single(session, path)
            if is_directory:
                if len(stack) == MAX_IMPORT_DEPTH:
                    raise UsageError(f"{path} lies more than {MAX_IMPORT_DEPTH} directories deep")
                stack.append(_enter(path, name, _metadata(status, session.profile)))
            continue
        node = build_directory(directory.entries, session.profile, session.sink, directory.metadata)
        stack.pop()
        if not stack:
            return node
        stack[-1].entries[directory.name] = node


def _metadata(status: os.stat_result, profile: Profile) -> Metadata:
    """What the profile keeps of mode and modification time."""
    seconds, nanoseconds = divmod(status.st_mtime_ns, 1_000_000_000)
    return Metadata(
        stat.S_IMODE(status.st_mode) if profile.preserve_mode else None,
        Mtime(seconds, nanoseconds or None) if profile.preserve_mtime else None,
    )


def _enter(path: Path, name: str, metadata: Metadata) -> _Directory:
    names: list[str] = []
    with _named_errors(path), os.scandir(path) as entries:
        for entry in entries:
            if len(names) == MAX_DIRECTORY_ENTRIES:
                raise UsageError(f"{path} has more than {MAX_DIRECTORY_ENTRIES} entries")
            try:
                entry.name.encode()
            except UnicodeEncodeError:
                raise UsageError(f"{path} has an entry {os.fsencode(entry.name)!r} whose name is not UTF-8") from None
            names.append(entry.name)
    return _Directory(path, name, iter(sorted(names)), metadata)


def _import_single(session: ImportSession, path: Path) -> Node:
    status = path.lstat()
    mode = status.st_mode
    if stat.S_ISLNK(mode):
        # A Path would drop "./" and the last "/" of the target.
        target = os.readlink(os.fsencode(path))  # noqa: PTH115
        try:
            return session.add_symlink(target.decode(), _metadata(status, session.profile).mtime)
        except UnicodeDecodeError:
            raise UsageError(f"{path} is a symlink whose target is not UTF-8") from None
    if not stat.S_ISREG(mode):
        raise UsageError(f"{path} is {_kind(mode)}; only files, directories and symlinks can be stored")
    return _import_file(session, path)


def _import_file(session: ImportSession, path: Path) -> Node:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise IntegrityError(f"{path} changed while it was read; nothing was imported")
        node = session.add_file(_FileReader(file.fileno()), _metadata(before, session.profile))
        after = os.fstat(descriptor)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or node.filesize != after.st_size:
        raise IntegrityError(f"{path} changed while it was read", hint="import it again when nothing writes to it")
    return node


class _FileReader:
    """Plain reads of a descriptor."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, size: int, /) -> bytes:
        return os.read(self._descriptor, size)


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Turn the system's errors into ours, naming the path."""
    try:
        yield
    except MpisaError:
        raise
    except FileNotFoundError:
        raise NotFound(f"{path} does not exist") from None
    except PermissionError:
        raise Denied(f"{path} can't be read: permission denied") from None
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror or error}") from error


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFBLK: "a block device",
        stat.S_IFCHR: "a character device",
    }
    return kinds.get(stat.S_IFMT(mode), "a special file")
