"""Files, directories and streams as DAGs, built and hashed on this machine.

`build` gives what the node's own importer gives for the same bytes and profile, so a client knows the root before any
node has said it. Memory: one chunk, the nodes of open levels, and a name and a CID for each entry. What could not be
fetched again as it was (a link that leads outside, a device) is refused.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from mpisa.primitives.errors import IntegrityError, NotFound, UsageError
from mpisa.primitives.unixfs import Mtime
from mpisa.primitives.unixfs_directory import build_directory
from mpisa.primitives.unixfs_layout import (
    NO_METADATA,
    BalancedBuilder,
    Metadata,
    Node,
    make_leaf,
    make_single,
    make_symlink,
)
from mpisa.primitives.unixfs_tree import symlink_escapes
from mpisa.sdk.ignore import Ignore

if TYPE_CHECKING:
    from mpisa.primitives.cid import Cid
    from mpisa.primitives.profiles import Profile

MAX_FILES: Final = 1_000_000
MAX_DEPTH: Final = 256
MAX_COUNTED_BLOCKS: Final = 1 << 20
"""Up to here a block that repeats is given out once; beyond, again."""

Emit = Callable[["Cid", "bytes | None", int], None]
"""Takes a finished block (None when it was given out before) and the bytes of content in it."""


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a directory: its path below the root with `/`, where it lies, and what it is."""

    name: str
    path: str
    status: os.stat_result
    target: str = ""

    @property
    def mode(self) -> int:
        """Kind and permission bits."""
        return self.status.st_mode

    @property
    def size(self) -> int:
        """Bytes of content: those of a file."""
        return self.status.st_size if stat.S_ISREG(self.status.st_mode) else 0


@dataclass(frozen=True, slots=True)
class Source:
    """What is to be sent: a path with a directory's items (None for a file) or a stream; bytes of content if known."""

    path: Path | None
    items: list[Item] | None
    total: int | None
    stream: BinaryIO | None = None


@dataclass(frozen=True, slots=True)
class Built:
    """The root, bytes of file content, distinct blocks."""

    cid: Cid
    size: int
    blocks: int


def open_source(path: Path, rules: Ignore | None = None) -> Source:
    """Look at a path. Raises NotFound or UsageError for what can't be sent."""
    if not path.exists():
        raise NotFound(f"no such file or directory: {path}", hint="check the path")
    if path.is_dir():
        items = list_directory(path, rules)
        return Source(path, items, sum(item.size for item in items))
    if not path.is_file():
        raise UsageError(f"{path}: expected a file or a directory", hint="write its content to a file first")
    return Source(path, None, path.stat().st_size)


def list_directory(root: Path, rules: Ignore | None = None) -> list[Item]:
    """What is below a directory, in byte order of the paths. Raises UsageError for what can't be stored."""
    found: list[Item] = []
    pending = [("", str(root))]
    while pending:
        prefix, place = pending.pop()
        with os.scandir(place) as entries:
            for entry in entries:
                name = prefix + entry.name
                if rules is not None and rules.hides(name, entry.is_dir(follow_symlinks=False)):
                    continue
                item = _describe(name, entry)
                found.append(item)
                if len(found) > MAX_FILES:
                    raise UsageError(f"{root}: more than {MAX_FILES} files", hint="publish it in parts")
                if stat.S_ISDIR(item.mode):
                    if name.count("/") + 1 == MAX_DEPTH:
                        raise UsageError(f"{entry.path} lies more than {MAX_DEPTH} directories deep")
                    pending.append((name + "/", item.path))
    return sorted(found, key=lambda item: os.fsencode(item.name))


def _describe(name: str, entry: os.DirEntry[str]) -> Item:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{entry.path!r}: the name isn't UTF-8", hint="rename it") from None
    status = entry.stat(follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        target = os.readlink(entry.path)  # noqa: PTH115 - a Path would drop "./" and the last "/"
        if not target or symlink_escapes(tuple(name.split("/")), target):
            raise UsageError(
                f"{entry.path}: the symlink leads outside, to {target}",
                hint="copy what it points to: `cp -rL FROM TO`, then publish the copy",
            )
        return Item(name, entry.path, status, target)
    if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
        return Item(name, entry.path, status)
    raise UsageError(
        f"{entry.path}: neither file, directory nor symlink", hint="remove it, or publish a copy without it"
    )


def build(source: Source, profile: Profile, emit: Emit) -> Built:
    """Build the DAG, handing out each block once. Blocking. Raises IntegrityError for a file that changes meanwhile."""
    work = _Work(profile, emit)
    if source.stream is not None:
        root = work.add_file(_chunks(source.stream, profile.chunk_size))
    elif source.items is None:
        assert source.path is not None
        root = work.add_path(str(source.path), follow=True)
    else:
        assert source.path is not None
        root = _build_directories(work, source.items, describe(source.path.stat(), profile))
    return Built(root.cid, work.size, work.blocks)


def _build_directories(work: _Work, items: list[Item], said: Metadata) -> Node:
    entries: dict[str, dict[str, Node]] = {"": {}}
    for item in items:
        above, _, name = item.name.rpartition("/")
        if stat.S_ISDIR(item.mode):
            entries[item.name] = {}
        elif stat.S_ISLNK(item.mode):
            leaf = make_symlink(item.target, work.profile, describe(item.status, work.profile).mtime)
            work.emit(leaf.node.cid, leaf.block)
            entries[above][name] = leaf.node
        else:
            entries[above][name] = work.add_path(item.path, follow=False)
    directories = [item for item in items if stat.S_ISDIR(item.mode)]
    for item in sorted(directories, key=lambda item: item.name.count("/"), reverse=True):
        above, _, name = item.name.rpartition("/")
        metadata = describe(item.status, work.profile)
        entries[above][name] = build_directory(entries.pop(item.name), work.profile, work.emit, metadata)
    return build_directory(entries[""], work.profile, work.emit, said)


def describe(status: os.stat_result, profile: Profile) -> Metadata:
    """What the profile keeps of mode and modification time."""
    seconds, nanoseconds = divmod(status.st_mtime_ns, 1_000_000_000)
    return Metadata(
        stat.S_IMODE(status.st_mode) if profile.preserve_mode else None,
        Mtime(seconds, nanoseconds or None) if profile.preserve_mtime else None,
    )


@dataclass(slots=True)
class _Work:
    """One build: what was handed out, and how much."""

    profile: Profile
    _emit: Emit
    size: int = 0
    blocks: int = 0
    _seen: set[bytes] = field(default_factory=set)

    def emit(self, cid: Cid, block: bytes, content: int = 0) -> None:
        """Hand out a block, unless it was before."""
        if cid.digest in self._seen:
            self._emit(cid, None, content)
            return
        if len(self._seen) < MAX_COUNTED_BLOCKS:
            self._seen.add(cid.digest)
        self.blocks += 1
        self._emit(cid, block, content)

    def add_file(self, chunks: Iterator[bytes], said: Metadata = NO_METADATA) -> Node:
        builder = BalancedBuilder(self.profile, self.emit, said)
        leaves = (make_leaf(chunk, self.profile) for chunk in chunks)
        first = next(leaves)
        second = next(leaves, None)
        if second is None and said != NO_METADATA:
            first = make_single(first, self.profile, said)
        for leaf in chain((first,) if second is None else (first, second), leaves):
            self.emit(leaf.node.cid, leaf.block, leaf.node.filesize)
            builder.add(leaf.node)
            self.size += leaf.node.filesize
        return builder.finish()

    def add_path(self, path: str, *, follow: bool) -> Node:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
        descriptor = os.open(path, flags)
        with os.fdopen(descriptor, "rb", buffering=0) as stream:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                raise IntegrityError(f"{path} is no file any more", hint="try again when nobody changes it")
            size = min(self.profile.chunk_size, before.st_size + 1)
            node = self.add_file(_chunks(stream, self.profile.chunk_size, first=size), describe(before, self.profile))
            after = os.fstat(descriptor)
        same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
        if not same or node.filesize != after.st_size:
            raise IntegrityError(f"{path} changed while it was read", hint="try again when nobody writes to it")
        return node


def _chunks(stream: BinaryIO, size: int, *, first: int | None = None) -> Iterator[bytes]:
    """Slices of exactly `size` bytes, the last one shorter; one empty slice for an empty input.

    `first`: how much the first read asks for, so that small files don't take buffers of `size` bytes.
    """
    is_first = True
    while True:
        chunk = stream.read(first if first is not None and is_first else size) or b""
        while 0 < len(chunk) < size and (more := stream.read(size - len(chunk))):
            chunk += more
        if not chunk and not is_first:
            return
        yield chunk
        is_first = False
        if len(chunk) < size:
            return
