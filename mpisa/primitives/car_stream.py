"""Checking a CARv1 stream as it arrives: every block hashed, and each exactly the one that must come next.

`CarFrames` cuts a stream into its header and hashed blocks. `CarStreamVerifier` follows a UnixFS tree from a root that
the caller trusts: the stream holds the blocks of the tree depth first, each as often as it is linked, so a reader needs
to keep only one block and the links still to come. Whatever it gives out is proven; a stream that ends early, holds
another block, or goes on behind the end raises IntegrityError. Blocks under identity CIDs are within the CID; in the
stream they are passed over.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import libipld

from mpisa.primitives.cid import IDENTITY, MAX_CID_BYTES, Cid, read_varint
from mpisa.primitives.dag_pb import encode_varint
from mpisa.primitives.errors import IntegrityError, Rejection
from mpisa.primitives.unixfs import Mtime
from mpisa.primitives.unixfs_tree import (
    DirectoryContent,
    Entry,
    FileContent,
    ShardContent,
    SymlinkContent,
    read_block,
)

MAX_CAR_HEADER_BYTES = 64 * 1024
MAX_CAR_SECTION_BYTES = 2 * 1024 * 1024 + 256
MAX_CAR_ROOTS = 1000
MAX_TREE_DEPTH = 256
"""Directories within directories."""

MAX_FILE_DEPTH = 64
MAX_SHARD_DEPTH = 8
MAX_PENDING_LINKS = 1 << 20
_MAX_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class DirectoryEntered:
    """A directory; its path is relative to the root, which is the empty path.

    Of this and the others, `mode` and `mtime` are None where the tree doesn't say them.
    """

    path: tuple[str, ...]
    mode: int | None = None
    mtime: Mtime | None = None


@dataclass(frozen=True, slots=True)
class FileStarted:
    """A file of `size` bytes begins."""

    path: tuple[str, ...]
    size: int
    mode: int | None = None
    mtime: Mtime | None = None


@dataclass(frozen=True, slots=True)
class FileBytes:
    """The next bytes of the file that began last."""

    data: bytes


@dataclass(frozen=True, slots=True)
class FileEnded:
    """The file is complete."""

    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SymlinkFound:
    """A symlink; the target may say anything."""

    path: tuple[str, ...]
    target: str
    mtime: Mtime | None = None


@dataclass(frozen=True, slots=True)
class TreeEnded:
    """Everything below the root has been seen: the only proof of success."""

    blocks: int
    size: int


@dataclass(frozen=True, slots=True)
class Upcoming:
    """A block that has to come: of what it is a part, and its bytes of content where it is a part of a file."""

    cid: Cid
    path: tuple[str, ...]
    size: int | None


Event = DirectoryEntered | FileStarted | FileBytes | FileEnded | SymlinkFound | TreeEnded


def encode_car_header(roots: tuple[Cid, ...]) -> bytes:
    """The first section of a CARv1."""
    body: bytes = libipld.encode_dag_cbor({"roots": [root.to_bytes() for root in roots], "version": 1})
    return encode_varint(len(body)) + body


def encode_car_section(cid: Cid, length: int) -> bytes:
    """What precedes a block of `length` bytes in a CARv1."""
    raw = cid.to_bytes()
    return encode_varint(len(raw) + length) + raw


class CarFrames:
    """Cuts a CARv1 into hashed blocks, holding at most one section. Feed it bytes as they come."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._position = 0
        self.roots: tuple[Cid, ...] | None = None
        """The roots, once the header was read."""

    def feed(self, data: bytes) -> list[tuple[Cid, bytes]]:
        """Take bytes, give back the blocks that are complete now. Raises IntegrityError."""
        blocks = []
        self._buffer += data
        while (section := self._next_section()) is not None:
            start, end = section
            if self.roots is None:
                self.roots = _decode_header(bytes(self._buffer[start:end]))
                continue
            cid, length = _decode_cid(bytes(self._buffer[start : min(end, start + MAX_CID_BYTES)]))
            with memoryview(self._buffer) as view:
                block = bytes(view[start + length : end])
            _check_block(cid, block)
            blocks.append((cid, block))
        del self._buffer[: self._position]
        self._position = 0
        return blocks

    def finish(self) -> None:
        """Declare the end of the stream. Raises IntegrityError when it ends within a section."""
        if self.roots is None:
            raise IntegrityError("the CAR stream ends before its header is complete")
        if len(self._buffer) > self._position:
            raise IntegrityError(f"the CAR stream ends within a block, {len(self._buffer)} bytes into it")

    def _next_section(self) -> tuple[int, int] | None:
        """Where the next section lies in the buffer, None while it is not complete."""
        length = 0
        for index in range(_MAX_LENGTH_BYTES):
            position = self._position + index
            if position >= len(self._buffer):
                return None
            byte = self._buffer[position]
            length |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                break
        else:
            raise IntegrityError("a CAR section has a length of more than 28 bits")
        limit = MAX_CAR_HEADER_BYTES if self.roots is None else MAX_CAR_SECTION_BYTES
        if length > limit or length == 0:
            what = "header" if self.roots is None else "section"
            raise IntegrityError(f"a CAR {what} of {length} bytes, expected 1 to {limit}")
        start = position + 1
        if len(self._buffer) - start < length:
            return None
        self._position = start + length
        return start, self._position


def _decode_header(section: bytes) -> tuple[Cid, ...]:
    try:
        header = libipld.decode_dag_cbor(section)
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"the CAR header is not dag-cbor: {error}") from None
    if not isinstance(header, dict) or set(header) != {"roots", "version"} or header["version"] != 1:
        raise IntegrityError("the CAR header is not that of version 1: roots and version")
    roots = header["roots"]
    if not isinstance(roots, list) or len(roots) > MAX_CAR_ROOTS or not all(isinstance(root, bytes) for root in roots):
        raise IntegrityError(f"the roots of the CAR header are not a list of at most {MAX_CAR_ROOTS} CIDs")
    try:
        return tuple(Cid.from_bytes(root) for root in roots)
    except Rejection as error:
        raise IntegrityError(f"the CAR header has a bad root: {error.detail}") from None


def _decode_cid(section: bytes) -> tuple[Cid, int]:
    """The CID that a section begins with, and its length."""
    try:
        length = _cid_length(section)
        return Cid.from_bytes(section[:length]), length
    except Rejection as error:
        raise IntegrityError(f"a CAR section has a bad CID: {error.detail}") from None


def _check_block(cid: Cid, block: bytes) -> None:
    try:
        matches = cid.matches(block)
    except Rejection as error:
        raise IntegrityError(f"a CAR section has a bad CID: {error.detail}") from None
    if not matches:
        raise IntegrityError(f"block {cid} does not match its CID")


def _cid_length(section: bytes) -> int:
    """Where the CID at the start of a section ends. Raises Rejection."""
    if section[:2] == b"\x12\x20":
        return 34
    offset = 0
    for _ in range(3):
        _, offset = read_varint(section, offset)
    size, offset = read_varint(section, offset)
    return offset + size


@dataclass(frozen=True, slots=True)
class _Expected:
    """A block that must come: what it is for, how deep it lies, the size its parent claims (None: not known)."""

    cid: Cid
    path: tuple[str, ...]
    depth: int = 0
    size: int | None = None
    names: set[str] | None = None


class CarStreamVerifier:
    """Proves a UnixFS tree from a CAR stream: `feed` until TreeEnded, then `finish`.

    Blocks may as well come one by one from anywhere: `upcoming` names them, `take` hashes the next one.
    """

    def __init__(self, root: Cid) -> None:
        self._root = root
        self._frames = CarFrames()
        self._stack: list[_Expected | FileEnded] = [_Expected(root, ())]
        self._blocks = 0
        self._size = 0
        self._ended = False
        self._is_stream = True

    @property
    def complete(self) -> bool:
        """Whether every block of the tree has come."""
        return self._ended

    def feed(self, data: bytes) -> list[Event]:
        """Take bytes, give back what they prove. Raises IntegrityError, and then proves nothing more."""
        events: list[Event] = []
        for cid, block in self._frames.feed(data):
            self._check_roots()
            if cid.digest_code == IDENTITY:
                continue
            if self._ended:
                raise IntegrityError(f"the CAR stream goes on behind the end with block {cid}")
            events += self._inline_blocks()
            if self._ended:
                raise IntegrityError(f"the CAR stream goes on behind the end with block {cid}")
            expected = self._pop()
            if (cid.codec, cid.multihash) != (expected.cid.codec, expected.cid.multihash):
                raise IntegrityError(f"the CAR stream has block {cid} where {expected.cid} must come")
            events += self._take(expected, block)
            events += self._inline_blocks()
        return events

    def upcoming(self, limit: int) -> list[Upcoming]:
        """The blocks that come next, at most `limit` and as far as they are known; none once the tree has ended."""
        found: list[Upcoming] = []
        for item in reversed(self._stack):
            if len(found) == limit:
                break
            if isinstance(item, _Expected):
                found.append(Upcoming(item.cid, item.path, item.size))
        return found

    def take(self, block: bytes) -> list[Event]:
        """The next block, not from a stream; what it proves. Raises IntegrityError when it is another one."""
        self._is_stream = False
        expected = self._pop()
        if not expected.cid.matches(block):
            raise IntegrityError(f"block {expected.cid} does not match its CID")
        return [*self._take(expected, block), *self._inline_blocks()]

    def finish(self) -> list[Event]:
        """Declare the end of the stream. Raises IntegrityError unless the whole tree was proven."""
        if self._is_stream:
            self._frames.finish()
            self._check_roots()
        events = list(self._inline_blocks())
        if not self._ended:
            raise IntegrityError(
                f"the CAR stream of {self._root} ends after {self._blocks} blocks, {self._pop().cid} is missing"
            )
        return events

    def _check_roots(self) -> None:
        if self._frames.roots is not None and self._frames.roots[:1] != (self._root,):
            named = ", ".join(str(root) for root in self._frames.roots[:3]) or "no root"
            raise IntegrityError(f"the CAR stream names {named}, expected {self._root}")

    def _pop(self) -> _Expected:
        expected = self._stack.pop()
        assert isinstance(expected, _Expected)
        return expected

    def _inline_blocks(self) -> Iterator[Event]:
        """Take what needs no block of the stream: ends of files, blocks within CIDs, the end of the tree."""
        while self._stack:
            top = self._stack[-1]
            if isinstance(top, FileEnded):
                self._stack.pop()
                yield top
            elif top.cid.digest_code == IDENTITY:
                self._stack.pop()
                yield from self._take(top, top.cid.digest)
            else:
                return
        if not self._ended:
            self._ended = True
            yield TreeEnded(self._blocks, self._size)

    def _take(self, expected: _Expected, block: bytes) -> Iterator[Event]:
        self._blocks += 1
        try:
            content = read_block(expected.cid, block)
        except Rejection as error:
            raise IntegrityError(f"block {expected.cid}: {error.detail}") from None
        if isinstance(content, FileContent):
            yield from self._take_file(expected, content)
            return
        if expected.size is not None:
            raise IntegrityError(f"block {expected.cid} is part of a file, but holds no file")
        if expected.names is not None and not isinstance(content, ShardContent):
            raise IntegrityError(f"block {expected.cid} is part of a sharded directory, but holds no shard")
        if isinstance(content, SymlinkContent):
            yield SymlinkFound(expected.path, content.target, content.mtime)
        elif isinstance(content, DirectoryContent):
            yield DirectoryEntered(expected.path, content.mode, content.mtime)
            self._push([self._entry(expected, entry) for entry in content.entries])
        else:
            if expected.names is None:
                yield DirectoryEntered(expected.path, content.mode, content.mtime)
            self._push(self._shard(expected, content))

    def _take_file(self, expected: _Expected, content: FileContent) -> Iterator[Event]:
        if expected.names is not None:
            raise IntegrityError(f"block {expected.cid} is part of a sharded directory, but holds a file")
        if expected.size is None:
            yield FileStarted(expected.path, content.size, content.mode, content.mtime)
            self._stack.append(FileEnded(expected.path))
            depth = 0
        else:
            depth = expected.depth
            if expected.size != content.size:
                raise IntegrityError(
                    f"block {expected.cid} holds {content.size} bytes of a file, its parent claims {expected.size}"
                )
        if depth == MAX_FILE_DEPTH:
            raise IntegrityError(f"block {expected.cid} lies more than {MAX_FILE_DEPTH} levels deep in a file")
        if content.data:
            self._size += len(content.data)
            yield FileBytes(content.data)
        self._push([_Expected(part.cid, expected.path, depth + 1, part.size) for part in content.parts])

    def _entry(self, parent: _Expected, entry: Entry) -> _Expected:
        if len(parent.path) == MAX_TREE_DEPTH:
            raise IntegrityError(f"block {parent.cid} lies more than {MAX_TREE_DEPTH} directories deep")
        return _Expected(entry.cid, (*parent.path, entry.name))

    def _shard(self, expected: _Expected, content: ShardContent) -> list[_Expected]:
        names = set() if expected.names is None else expected.names
        following = []
        for item in content.items:
            if isinstance(item, Entry):
                if item.name in names:
                    raise IntegrityError(f"block {expected.cid}: directory with the name {item.name!r} twice")
                if len(names) == MAX_PENDING_LINKS:
                    raise IntegrityError(f"a directory has more than {MAX_PENDING_LINKS} entries")
                names.add(item.name)
                following.append(self._entry(expected, item))
            else:
                if expected.depth + 1 == MAX_SHARD_DEPTH:
                    raise IntegrityError(
                        f"block {item.cid} lies more than {MAX_SHARD_DEPTH} levels deep in a directory"
                    )
                following.append(_Expected(item.cid, expected.path, expected.depth + 1, None, names))
        return following

    def _push(self, following: list[_Expected]) -> None:
        if len(self._stack) + len(following) > MAX_PENDING_LINKS:
            raise IntegrityError(f"more than {MAX_PENDING_LINKS} blocks are linked and still to come")
        self._stack += reversed(following)
