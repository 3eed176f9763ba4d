"""Proving a path and a range of a file from a CAR stream: the client's side of a partial DAG.

The stream is that of `dag-scope=entity` with `entity-bytes`, depth first, duplicates sent: the blocks of the path, then
those of the file that hold the range. Every block is hashed and must be exactly the one that comes next, so whatever is
given out is proven, that a name is not there included. Ends, paths and symlinks follow `path_walk`.
"""

from collections.abc import Generator
from dataclasses import dataclass

from mpisa.primitives.car_stream import (
    MAX_SHARD_DEPTH,
    CarFrames,
    DirectoryEntered,
    Event,
    FileBytes,
    FileEnded,
    FileStarted,
    SymlinkFound,
    TreeEnded,
)
from mpisa.primitives.cid import IDENTITY, Cid
from mpisa.primitives.errors import IntegrityError, Rejection
from mpisa.primitives.file_range import FileRange
from mpisa.primitives.path_walk import walk_path
from mpisa.primitives.selection import WHOLE, ByteRange
from mpisa.primitives.unixfs_tree import Entry, FileContent, ShardContent, SymlinkContent, read_block


@dataclass(frozen=True, slots=True)
class FileSkipped:
    """Bytes of the file that lie outside of the range, before or behind it."""

    count: int


RangeEvent = Event | FileSkipped
_Needs = Generator[Cid, bytes, None]


class RangeVerifier:
    """Proves what lies at a path: a range of a file, a directory's own blocks, a symlink. `feed`, then `finish`.

    Paths in events are empty: there is one entity. Raises NotFound when the stream proves that the path is not there,
    IntegrityError for anything that it doesn't prove.
    """

    def __init__(self, root: Cid, parts: tuple[str, ...], entity_bytes: ByteRange | None) -> None:
        self._root = root
        self._frames = CarFrames()
        self._events: list[RangeEvent] = []
        self._blocks = 0
        self._machine = self._prove(root, parts, entity_bytes or WHOLE)
        self._wanted: Cid | None = None
        self._advance(None)

    @property
    def complete(self) -> bool:
        """Whether every block has come."""
        return self._wanted is None

    def feed(self, data: bytes) -> list[RangeEvent]:
        """Take bytes, give back what they prove. Raises NotFound or IntegrityError, and then proves nothing more."""
        for cid, block in self._frames.feed(data):
            self._check_roots()
            if cid.digest_code == IDENTITY:
                continue
            if self._wanted is None:
                raise IntegrityError(f"the CAR stream goes on behind the end with block {cid}")
            if (cid.codec, cid.multihash) != (self._wanted.codec, self._wanted.multihash):
                raise IntegrityError(f"the CAR stream has block {cid} where {self._wanted} must come")
            self._blocks += 1
            self._advance(block)
        return self._taken()

    def finish(self) -> list[RangeEvent]:
        """Declare the end of the stream. Raises IntegrityError unless everything was proven."""
        self._frames.finish()
        self._check_roots()
        if self._wanted is not None:
            raise IntegrityError(
                f"the CAR stream of {self._root} ends after {self._blocks} blocks, {self._wanted} is missing"
            )
        return self._taken()

    def _taken(self) -> list[RangeEvent]:
        events, self._events = self._events, []
        return events

    def _check_roots(self) -> None:
        if self._frames.roots is not None and self._frames.roots[:1] != (self._root,):
            named = ", ".join(str(root) for root in self._frames.roots[:3]) or "no root"
            raise IntegrityError(f"the CAR stream names {named}, expected {self._root}")

    def _advance(self, block: bytes | None) -> None:
        try:
            self._wanted = next(self._machine) if block is None else self._machine.send(block)
        except StopIteration:
            self._wanted = None
        except Rejection as error:
            raise IntegrityError(f"the CAR stream of {self._root}: {error.detail}") from None

    def _prove(self, root: Cid, parts: tuple[str, ...], asked: ByteRange) -> _Needs:
        target = yield from walk_path(root, parts)
        if target.remainder:
            raise IntegrityError(f"{'/'.join(parts)!r} lies within the document {target.cid}, it is no file")
        block = target.cid.digest if target.cid.digest_code == IDENTITY else (yield target.cid)
        content = read_block(target.cid, block)
        size = 0
        if isinstance(content, FileContent):
            start, end = asked.clamp(content.size)
            size = end - start
            yield from self._file(content, start, end)
        elif isinstance(content, SymlinkContent):
            self._events.append(SymlinkFound((), content.target, content.mtime))
        else:
            self._events.append(DirectoryEntered((), content.mode, content.mtime))
            if isinstance(content, ShardContent):
                yield from _shards(content)
        self._events.append(TreeEnded(self._blocks, size))

    def _file(self, content: FileContent, start: int, end: int) -> _Needs:
        self._events.append(FileStarted((), content.size, content.mode, content.mtime))
        self._skip(start)
        blocks = FileRange(content, start, end, every_part=(start, end) == (0, content.size))
        self._give(blocks.first)
        while (cid := blocks.wanted) is not None:
            self._give(blocks.take(cid.digest if cid.digest_code == IDENTITY else (yield cid)))
        self._skip(content.size - end)
        self._events.append(FileEnded(()))

    def _give(self, data: bytes) -> None:
        if data:
            self._events.append(FileBytes(data))

    def _skip(self, count: int) -> None:
        if count:
            self._events.append(FileSkipped(count))


def _shards(root: ShardContent) -> _Needs:
    """The further shards of a directory, depth first."""
    stack = [(item.cid, 1) for item in reversed(root.items) if not isinstance(item, Entry)]
    while stack:
        cid, depth = stack.pop()
        block = cid.digest if cid.digest_code == IDENTITY else (yield cid)
        content = read_block(cid, block)
        if not isinstance(content, ShardContent):
            raise IntegrityError(f"block {cid} is part of a sharded directory, but holds no shard")
        if depth == MAX_SHARD_DEPTH:
            raise IntegrityError(f"block {cid} lies more than {MAX_SHARD_DEPTH} levels deep in a directory")
        stack += [(item.cid, depth + 1) for item in reversed(content.items) if not isinstance(item, Entry)]
