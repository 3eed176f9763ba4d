"""UnixFS: what the data of a DAG-PB node says about a file, a directory, a symlink or a shard of a large directory.

    Data { 1: type, 2: bytes data, 3: uint64 filesize, 4: repeated uint64 blocksizes,
           5: uint64 hashType, 6: uint64 fanout, 7: uint32 mode,
           8: UnixTime { 1: int64 seconds, 2: fixed32 nanoseconds } }

Only the node's own format; trees are built in `storage` and checked in `car_stream`. Fields are read in any order, each
once (block sizes also packed), with shortest varints; unknown fields are refused.
"""

from dataclasses import dataclass
from enum import Enum

from mpisa.primitives.dag_pb import FIXED32, LENGTH_DELIMITED, VARINT, decode_varint, encode_varint, read_bytes
from mpisa.primitives.errors import Rejection, RejectionReason

MAX_BLOCK_SIZES = 65_536
MAX_FANOUT = 1024
MURMUR3_X64_64 = 0x22
"""The hash function of sharded directories."""

_NANOSECONDS = 1_000_000_000


class FileType(Enum):
    """The kinds of node, by their number on the wire."""

    RAW = 0
    DIRECTORY = 1
    FILE = 2
    METADATA = 3
    SYMLINK = 4
    HAMT_SHARD = 5


@dataclass(frozen=True, slots=True)
class Mtime:
    """Modification time: seconds since 1970 (may be negative) and nanoseconds, None when absent."""

    seconds: int
    nanoseconds: int | None = None


@dataclass(frozen=True, slots=True)
class UnixFsNode:
    """One UnixFS message; sizes in bytes, None where the field is absent."""

    type: FileType
    data: bytes | None = None
    filesize: int | None = None
    blocksizes: tuple[int, ...] = ()
    hash_type: int | None = None
    fanout: int | None = None
    mode: int | None = None
    mtime: Mtime | None = None


def encode_unixfs(node: UnixFsNode) -> bytes:
    """The message, fields in ascending order, block sizes unpacked: as go-unixfs and js-unixfs write it."""
    parts = [b"\x08", encode_varint(node.type.value)]
    if node.data is not None:
        parts += (b"\x12", encode_varint(len(node.data)), node.data)
    if node.filesize is not None:
        parts += (b"\x18", encode_varint(node.filesize))
    for size in node.blocksizes:
        parts += (b"\x20", encode_varint(size))
    for tag, value in ((b"\x28", node.hash_type), (b"\x30", node.fanout), (b"\x38", node.mode)):
        if value is not None:
            parts += (tag, encode_varint(value))
    if node.mtime is not None:
        body = b"\x08" + encode_varint(node.mtime.seconds % (1 << 64))
        if node.mtime.nanoseconds is not None:
            body += b"\x15" + node.mtime.nanoseconds.to_bytes(4, "little")
        parts += (b"\x42", encode_varint(len(body)), body)
    return b"".join(parts)


def decode_unixfs(data: bytes) -> UnixFsNode:
    """The message in a node's data. Raises Rejection that says what is wrong, and where."""
    numbers: dict[int, int] = {}
    blobs: dict[int, bytes] = {}
    sizes: list[int] = []
    offset = 0
    while offset < len(data):
        field, wire = data[offset] >> 3, data[offset] & 7
        start, offset = offset, offset + 1
        if field == 4 and wire in (VARINT, LENGTH_DELIMITED):
            offset = _read_block_sizes(data, offset, wire, sizes)
        elif field in (2, 8) and wire == LENGTH_DELIMITED and field not in blobs:
            blobs[field], offset = read_bytes(data, offset, "UnixFS data" if field == 2 else "UnixFS mtime")
        elif field in (1, 3, 5, 6, 7) and wire == VARINT and field not in numbers:
            numbers[field], offset = decode_varint(data, offset)
        else:
            raise Rejection(
                RejectionReason.MALFORMED, f"unexpected UnixFS field {field} (wire type {wire}) at byte {start}"
            )
    return UnixFsNode(
        type=_file_type(numbers.get(1)),
        data=blobs.get(2),
        filesize=numbers.get(3),
        blocksizes=tuple(sizes),
        hash_type=numbers.get(5),
        fanout=_checked("fanout", numbers.get(6), MAX_FANOUT),
        mode=_checked("mode", numbers.get(7), 0xFFFFFFFF),
        mtime=_decode_mtime(blobs[8]) if 8 in blobs else None,
    )


def _read_block_sizes(data: bytes, offset: int, wire: int, sizes: list[int]) -> int:
    if wire == VARINT:
        size, offset = decode_varint(data, offset)
        sizes.append(size)
    else:
        packed, offset = read_bytes(data, offset, "UnixFS block sizes")
        position = 0
        while position < len(packed) and len(sizes) <= MAX_BLOCK_SIZES:
            size, position = decode_varint(packed, position)
            sizes.append(size)
    if len(sizes) > MAX_BLOCK_SIZES:
        raise Rejection(RejectionReason.TOO_LARGE, f"UnixFS node with more than {MAX_BLOCK_SIZES} block sizes")
    return offset


def _file_type(number: int | None) -> FileType:
    if number is None:
        raise Rejection(RejectionReason.MALFORMED, "UnixFS node has no type")
    try:
        return FileType(number)
    except ValueError:
        raise Rejection(RejectionReason.MALFORMED, f"unknown UnixFS type {number}") from None


def _checked(what: str, value: int | None, limit: int) -> int | None:
    if value is not None and value > limit:
        raise Rejection(RejectionReason.TOO_LARGE, f"UnixFS {what} {value}, at most {limit}")
    return value


def _decode_mtime(body: bytes) -> Mtime:
    seconds: int | None = None
    nanoseconds: int | None = None
    offset = 0
    while offset < len(body):
        tag = body[offset]
        if tag == 1 << 3 | VARINT and seconds is None:
            seconds, offset = decode_varint(body, offset + 1)
        elif tag == 2 << 3 | FIXED32 and nanoseconds is None and offset + 5 <= len(body):
            nanoseconds = int.from_bytes(body[offset + 1 : offset + 5], "little")
            offset += 5
        else:
            raise Rejection(RejectionReason.MALFORMED, f"unexpected UnixFS mtime tag {tag:#04x} at byte {offset}")
    if seconds is None:
        raise Rejection(RejectionReason.MALFORMED, "UnixFS mtime has no seconds")
    if nanoseconds is not None and nanoseconds >= _NANOSECONDS:
        raise Rejection(RejectionReason.MALFORMED, f"UnixFS mtime with {nanoseconds} nanoseconds")
    return Mtime(seconds - (1 << 64) if seconds >> 63 else seconds, nanoseconds)
