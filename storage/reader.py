"""Reading trees of blocks: what a CID is, what a directory holds, ranges of files, the walk that a CAR stream follows.

`DagReader` works over any `get(cid) -> block` whose bytes match the CID: a block store, or one that fetches. Nothing
here recurses; depth and breadth are bounded. Sizes that nodes claim are checked against what lies below.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from mpisa.primitives.ahead import AHEAD, Ahead
from mpisa.primitives.car_stream import MAX_FILE_DEPTH, MAX_PENDING_LINKS, MAX_SHARD_DEPTH, MAX_TREE_DEPTH
from mpisa.primitives.cid import DAG_PB, IDENTITY, RAW, Cid
from mpisa.primitives.dag_pb import decode_node
from mpisa.primitives.errors import NotFound, Rejection, RejectionReason, UsageError
from mpisa.primitives.file_range import FileRange
from mpisa.primitives.links import links_of
from mpisa.primitives.path_walk import Target, walk_path
from mpisa.primitives.unixfs import Mtime
from mpisa.primitives.unixfs_tree import (
    Content,
    DirectoryContent,
    Entry,
    FileContent,
    ShardContent,
    SymlinkContent,
    read_block,
)

Get = Callable[[Cid], bytes]
Expect = Callable[[Sequence[Cid]], None]
"""Told of blocks that will be asked for soon, the next one first, at most 64 ahead."""


class Kind(StrEnum):
    """What a CID can be; the words that the API and the command line use."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    BLOCK = "block"
    """Something else than files: a block of another codec, such as a document in DAG-CBOR."""


@dataclass(frozen=True, slots=True)
class Stat:
    """A file, directory or symlink. `size`: bytes of content (0 for directories, the target's for symlinks).

    `dag_size`: bytes of all blocks as the root claims it; `links`: links of the root block; `target`: of a symlink;
    `mode` (permission bits) and `mtime` where the node says them.
    """

    cid: Cid
    kind: Kind
    size: int
    dag_size: int
    links: int
    sharded: bool = False
    target: str | None = None
    mode: int | None = None
    mtime: Mtime | None = None


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """A name in a directory, what it is, its bytes (files: content; directories: all blocks) and its CID."""

    name: str
    cid: Cid
    kind: Kind
    size: int
    dag_size: int


class DagReader:
    """Reads UnixFS trees. Raises what `get` raises, and Rejection or IntegrityError for blocks that make no sense."""

    def __init__(self, get: Get, expect: Expect | None = None) -> None:
        self._get = get
        self._expect = expect

    def content(self, cid: Cid, *, check_names: bool = True) -> Content:
        """What a block says. Raises Rejection that names the block."""
        return _content(cid, self.block(cid), check_names)

    def stat(self, cid: Cid) -> Stat:
        """What the CID is; reads its root block only."""
        block = self.block(cid)
        content = _content(cid, block)
        links = decode_node(block).links if cid.codec == DAG_PB else ()
        dag_size = len(block) + sum(link.tsize for link in links)
        base = Stat(cid, Kind.DIRECTORY, 0, dag_size, len(links), mode=content.mode, mtime=content.mtime)
        if isinstance(content, FileContent):
            return replace(base, kind=Kind.FILE, size=content.size)
        if isinstance(content, SymlinkContent):
            size = len(content.target.encode())
            return replace(base, kind=Kind.SYMLINK, size=size, target=content.target)
        return replace(base, sharded=isinstance(content, ShardContent))

    def entries(self, cid: Cid, *, check_names: bool = True) -> Iterator[Entry]:
        """The names of a directory, in the order of its blocks. Raises UsageError when it is none.

        Without `check_names` they may say anything: for a caller who judges them itself.
        """
        stack: list[tuple[Cid, int]] = [(cid, 0)]
        names: set[str] = set()
        while stack:
            current, depth = stack.pop()
            content = self.content(current, check_names=check_names)
            if isinstance(content, DirectoryContent) and depth == 0:
                yield from content.entries
                return
            if not isinstance(content, ShardContent):
                if depth == 0:
                    raise UsageError(f"{cid} is not a directory")
                raise Rejection(RejectionReason.MALFORMED, f"block {current}: expected a directory shard")
            if depth == MAX_SHARD_DEPTH:
                raise Rejection(RejectionReason.TOO_DEEP, f"block {current}: directory with more than {depth} levels")
            stack += [(item.cid, depth + 1) for item in reversed(content.items) if not isinstance(item, Entry)]
            for item in content.items:
                if isinstance(item, Entry):
                    _remember(names, item.name, current)
                    yield item

    def ls(self, cid: Cid) -> Iterator[DirectoryEntry]:
        """The entries of a directory with kind and size; reads the root block of each entry that is not raw."""
        for entry in self.entries(cid):
            if entry.cid.codec not in (RAW, DAG_PB):
                yield DirectoryEntry(entry.name, entry.cid, Kind.BLOCK, entry.dag_size, entry.dag_size)
                continue
            if entry.cid.codec == RAW:
                size = len(entry.cid.digest) if entry.cid.digest_code == IDENTITY else entry.dag_size
                yield DirectoryEntry(entry.name, entry.cid, Kind.FILE, size, entry.dag_size)
                continue
            found = self.stat(entry.cid)
            size = found.dag_size if found.kind == Kind.DIRECTORY else found.size
            yield DirectoryEntry(entry.name, entry.cid, found.kind, size, found.dag_size)

    def resolve(self, cid: Cid, path: str) -> Cid:
        """The CID at a path below a directory; no symlink is followed. Raises NotFound that names the part.

        See `storage.paths` for documents, symlinks and the blocks that prove the way.
        """
        walk = walk_path(cid, [part for part in path.split("/") if part], follow_symlinks=False)
        try:
            wanted = next(walk)
            while True:
                wanted = walk.send(self._get(wanted))
        except StopIteration as end:
            target: Target = end.value
        if target.remainder:
            raise NotFound(f"{path!r} lies within the document {target.cid}")
        return target.cid

    def read_file(self, cid: Cid, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """A file's bytes from `offset`, `length` of them or to the end; reads no block outside the range.

        Raises UsageError when the CID is no file or the range lies outside of it.
        """
        content = self.content(cid)
        if not isinstance(content, FileContent):
            raise UsageError(f"{cid} is not a file")
        end = content.size if length is None else offset + length
        if not 0 <= offset <= end <= content.size:
            raise UsageError(f"bytes {offset} to {end} lie outside of {cid}, which has {content.size}")
        return self._range(content, offset, end)

    def walk(self, cid: Cid, *, duplicates: bool = True) -> Iterator[tuple[Cid, bytes]]:
        """All blocks below a CID, each before those it links to, in the order of the links: that of a CAR stream.

        With `duplicates` a block comes as often as it is linked, so that a receiver needs to remember none; without,
        once. Identity CIDs are left out. Links of dag-pb, dag-cbor and dag-json blocks are followed, files or not.
        """
        stack: list[tuple[Cid, int]] = [(cid, 0)]
        ahead = Ahead()
        seen: set[bytes] = set()
        while stack:
            if self._expect is not None and ahead.due:
                self.tell(ahead.names([above for above, _ in reversed(stack[-AHEAD:])]))
            current, depth = stack.pop()
            ahead.moved(current)
            if not duplicates:
                if current.to_bytes() in seen:
                    continue
                _remember_block(seen, current)
            block = self.block(current)
            if current.digest_code != IDENTITY:
                yield current, block
            links = links_of(current, block)
            if not links:
                continue
            if depth == MAX_TREE_DEPTH + MAX_FILE_DEPTH:
                raise Rejection(RejectionReason.TOO_DEEP, f"block {current} lies more than {depth} levels deep")
            if len(stack) + len(links) > MAX_PENDING_LINKS:
                raise Rejection(
                    RejectionReason.TOO_LARGE, f"{cid} links to more than {MAX_PENDING_LINKS} blocks at once"
                )
            stack += [(link.require_supported(), depth + 1) for link in reversed(links)]
            ahead.grew()

    def block(self, cid: Cid) -> bytes:
        """A block, from wherever blocks come; that of an identity CID is within it."""
        return cid.digest if cid.digest_code == IDENTITY else self._get(cid)

    def _range(self, content: FileContent, start: int, end: int) -> Iterator[bytes]:
        blocks = FileRange(content, start, end)
        if blocks.first:
            yield blocks.first
        while (cid := blocks.wanted) is not None:
            self.tell(blocks.ahead())
            if data := blocks.take(self.block(cid)):
                yield data

    def tell(self, cids: Sequence[Cid]) -> None:
        """Say that these blocks will be read soon."""
        elsewhere = [cid for cid in cids if cid.digest_code != IDENTITY]
        if self._expect is not None and elsewhere:
            self._expect(elsewhere)


def _content(cid: Cid, block: bytes, check_names: bool = True) -> Content:
    try:
        return read_block(cid, block, check_names=check_names)
    except Rejection as error:
        raise Rejection(error.reason, f"block {cid}: {error.detail}") from None


def _remember(names: set[str], name: str, shard: Cid) -> None:
    if name in names:
        raise Rejection(RejectionReason.DUPLICATE, f"block {shard}: directory with the name {name!r} twice")
    if len(names) == MAX_PENDING_LINKS:
        raise Rejection(RejectionReason.TOO_LARGE, f"block {shard}: directory of more than {MAX_PENDING_LINKS} entries")
    names.add(name)


def _remember_block(seen: set[bytes], cid: Cid) -> None:
    if len(seen) == MAX_PENDING_LINKS:
        raise Rejection(RejectionReason.TOO_LARGE, f"more than {MAX_PENDING_LINKS} different blocks in one tree")
    seen.add(cid.to_bytes())
