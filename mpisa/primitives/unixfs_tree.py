"""What one block of a UnixFS tree says: a file's bytes and parts, a directory's entries, a shard's, a symlink's target.

Everything that reads trees (the node's reader, the client's verifier) reads blocks through here, so that all agree on
what is refused: sizes that don't add up, names that could leave a directory, names that are there twice in a block.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from mpisa.primitives.cid import DAG_PB, RAW, Cid
from mpisa.primitives.dag_pb import PBNode, decode_node
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.unixfs import MURMUR3_X64_64, FileType, Mtime, UnixFsNode, decode_unixfs

HAMT_FANOUT: Final = 256
MAX_NAME_BYTES: Final = 255
MAX_TARGET_BYTES: Final = 4096
PERMISSIONS: Final = 0o7777
_SLOT_DIGITS: Final = 2
_HEX: Final = frozenset("0123456789ABCDEF")


@dataclass(frozen=True, slots=True)
class FilePart:
    """A subtree of a file and the bytes of content that its parent says it has."""

    cid: Cid
    size: int


@dataclass(frozen=True, slots=True)
class FileContent:
    """A file or a part of one: `size` bytes in all, first `data`, then the parts.

    Of this and the others, `mode`: permission bits as in POSIX, `mtime`: when it was changed; None where unsaid.
    """

    size: int
    data: bytes
    parts: tuple[FilePart, ...]
    mode: int | None = None
    mtime: Mtime | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in a directory; `dag_size` is what the directory claims of the bytes below."""

    name: str
    cid: Cid
    dag_size: int


@dataclass(frozen=True, slots=True)
class SubShard:
    """A further shard of the same directory, for the names whose hash has this slot."""

    slot: int
    cid: Cid
    dag_size: int


@dataclass(frozen=True, slots=True)
class DirectoryContent:
    """A directory of one block, entries in the order of the block."""

    entries: tuple[Entry, ...]
    mode: int | None = None
    mtime: Mtime | None = None


@dataclass(frozen=True, slots=True)
class ShardContent:
    """A shard of a large directory: entries and further shards in the order of the block, with their slots."""

    items: tuple[Entry | SubShard, ...]
    slots: tuple[int, ...]
    mode: int | None = None
    mtime: Mtime | None = None


@dataclass(frozen=True, slots=True)
class SymlinkContent:
    """A symlink's target: text that nothing follows here."""

    target: str
    mode: int | None = None
    mtime: Mtime | None = None


Content = FileContent | DirectoryContent | ShardContent | SymlinkContent


def read_block(cid: Cid, block: bytes, *, check_names: bool = True) -> Content:
    """The content of a block whose hash was checked. Raises Rejection that says what is wrong.

    `check_names=False` leaves it to the caller to judge the names of directories, which then may say anything.
    """
    if cid.codec == RAW:
        return FileContent(len(block), block, ())
    if cid.codec != DAG_PB:
        raise Rejection(
            RejectionReason.UNSUPPORTED, f"codec {cid.codec:#x} is neither a file nor a directory (raw or dag-pb)"
        )
    node = decode_node(block)
    if node.data is None:
        raise Rejection(RejectionReason.UNSUPPORTED, "a dag-pb node without UnixFS data is no file and no directory")
    content = decode_unixfs(node.data)
    if content.type in (FileType.FILE, FileType.RAW):
        return _file(node, content)
    if content.type is FileType.DIRECTORY:
        return _directory(node, content, check_names)
    if content.type is FileType.HAMT_SHARD:
        return _shard(node, content, check_names)
    if content.type is FileType.SYMLINK:
        return _symlink(content)
    raise Rejection(RejectionReason.UNSUPPORTED, "a UnixFS metadata node is no file and no directory")


def _file(node: PBNode, content: UnixFsNode) -> FileContent:
    data = content.data or b""
    if len(content.blocksizes) != len(node.links):
        raise Rejection(
            RejectionReason.MALFORMED, f"file node with {len(node.links)} links and {len(content.blocksizes)} sizes"
        )
    size = len(data) + sum(content.blocksizes)
    if content.filesize is not None and content.filesize != size:
        raise Rejection(RejectionReason.MALFORMED, f"file node claims {content.filesize} bytes, its parts have {size}")
    parts = tuple(FilePart(_target(link.hash), part) for link, part in zip(node.links, content.blocksizes, strict=True))
    return FileContent(size, data, parts, _mode(content), content.mtime)


def _directory(node: PBNode, content: UnixFsNode, check_names: bool) -> DirectoryContent:
    if check_names:
        for link in node.links:
            check_name(link.name)
    entries = tuple(Entry(link.name, _target(link.hash), link.tsize) for link in node.links)
    if len({entry.name for entry in entries}) != len(entries):
        names = sorted(entry.name for entry in entries)
        twice = next(name for name, following in pairwise(names) if name == following)
        raise Rejection(RejectionReason.DUPLICATE, f"directory with the name {twice!r} twice")
    return DirectoryContent(entries, _mode(content), content.mtime)


def _shard(node: PBNode, content: UnixFsNode, check_names: bool) -> ShardContent:
    if content.hash_type != MURMUR3_X64_64 or content.fanout != HAMT_FANOUT:
        raise Rejection(
            RejectionReason.UNSUPPORTED,
            f"directory shard with hash {content.hash_type} and fanout {content.fanout}, "
            f"expected {MURMUR3_X64_64} and {HAMT_FANOUT}",
        )
    items: list[Entry | SubShard] = []
    slots: list[int] = []
    for link in node.links:
        digits, name = link.name[:_SLOT_DIGITS], link.name[_SLOT_DIGITS:]
        if len(digits) != _SLOT_DIGITS or not _HEX.issuperset(digits):
            raise Rejection(RejectionReason.MALFORMED, f"directory shard with a link named {link.name!r}")
        slot = int(digits, 16)
        if slots and slot <= slots[-1]:
            raise Rejection(RejectionReason.NOT_CANONICAL, f"directory shard with slot {digits} out of order")
        slots.append(slot)
        if name:
            items.append(Entry(check_name(name) if check_names else name, _target(link.hash), link.tsize))
        else:
            items.append(SubShard(slot, _target(link.hash), link.tsize))
    if _bits(slots) != int.from_bytes(content.data or b"", "big"):
        raise Rejection(RejectionReason.MALFORMED, "directory shard whose bit field does not match its links")
    return ShardContent(tuple(items), tuple(slots), _mode(content), content.mtime)


def _symlink(content: UnixFsNode) -> SymlinkContent:
    raw = content.data or b""
    if not 0 < len(raw) <= MAX_TARGET_BYTES or b"\0" in raw:
        raise Rejection(
            RejectionReason.MALFORMED,
            f"symlink target of {len(raw)} bytes, expected 1 to {MAX_TARGET_BYTES} and none of them zero",
        )
    try:
        return SymlinkContent(raw.decode(), _mode(content), content.mtime)
    except UnicodeDecodeError:
        raise Rejection(RejectionReason.MALFORMED, "symlink target that is not UTF-8") from None


def _mode(content: UnixFsNode) -> int | None:
    """The twelve permission bits; what kind of file it is says the node's type alone."""
    return None if content.mode is None else content.mode & PERMISSIONS


def check_name(name: str) -> str:
    """A name that stays in its directory on any file system of ours."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise Rejection(RejectionReason.BAD_NAME, f"directory entry named {name!r}")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise Rejection(
            RejectionReason.BAD_NAME, f"directory entry with a name of more than {MAX_NAME_BYTES} bytes: {name[:60]!r}"
        )
    return name


def symlink_escapes(path: tuple[str, ...], target: str) -> bool:
    """Whether a symlink at `path`, names from the root of a tree, could lead out of the tree.

    ".." is allowed at the beginning of a target only, where it climbs real directories. Further on it might climb from
    wherever another symlink leads, so that links that each stay inside would together lead out.
    """
    parts = [part for part in target.split("/") if part not in ("", ".")]
    climbs = next((index for index, part in enumerate(parts) if part != ".."), len(parts))
    return target.startswith("/") or climbs > max(len(path) - 1, 0) or ".." in parts[climbs:]


def _target(raw: bytes) -> Cid:
    return Cid.from_bytes(raw).require_supported()


def _bits(slots: list[int]) -> int:
    bits = 0
    for slot in slots:
        bits |= 1 << slot
    return bits
