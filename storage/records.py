"""The bytes of a pack: a header, then records one behind another.

    pack    = "MPISAPK1" | number u64 | length of the pack before it u64 | crc32 u32 | 4 zero bytes
              "MPISAGON" instead for a retired pack, of which only this header is left
    record  = "MBLK" | crc32 u32 | data length u32 | CID length u8 | kind u8 | records left in its group u16 | group u64
              | CID | data                                                                (integers big-endian)

A record's crc32 covers its header, its CID, the pack's number and the record's offset: a record can't be mistaken for
one from elsewhere, nor can bytes within a block pass for a record of their own. The data needs no checksum of its own,
for the CID is one, and sha256 is as fast here as reading.

All records written with one fdatasync form a group, counted up within a pack. A group begins only after the one before
it is durable. So a bad record in the last group may be a write that never finished; a bad record before it is damage.

Collection retires a pack once its live blocks lie elsewhere. Its header alone says how much of the pack before it was
acknowledged, should the index be lost: so it stays for as long as that pack does, 32 bytes long.
"""

import struct
import zlib
from dataclasses import dataclass
from enum import Enum

from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import Rejection
from storage.blockstore import MAX_BLOCK_BYTES, MAX_CID_BYTES

PACK_MAGIC = b"MPISAPK1"
RETIRED_MAGIC = b"MPISAGON"
RECORD_MAGIC = b"MBLK"
MAX_GROUP_RECORDS = 65_535

_PACK = struct.Struct(">8sQQI4x")
_RECORD = struct.Struct(">4sIIBBHQ")
_BODY = struct.Struct(">IBBHQ")
_PLACE = struct.Struct(">QQ")

PACK_HEADER_BYTES = _PACK.size
RECORD_HEADER_BYTES = _RECORD.size
MAX_RECORD_HEADER_BYTES = RECORD_HEADER_BYTES + MAX_CID_BYTES


class RecordKind(Enum):
    """What a record holds."""

    BLOCK = 1


@dataclass(frozen=True, slots=True)
class PackHeader:
    """The number of a pack, how many bytes of the pack before it are acknowledged (0 for the first), and whether the
    pack is retired: nothing but this header is left of it.
    """

    number: int
    previous_length: int
    retired: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """A record's place and header; offsets in bytes from the start of the pack."""

    pack: int
    offset: int
    cid: Cid
    cid_length: int
    length: int
    group: int
    remaining: int

    @property
    def data_offset(self) -> int:
        """Where the block's bytes begin."""
        return self.offset + RECORD_HEADER_BYTES + self.cid_length

    @property
    def end(self) -> int:
        """Where the next record begins."""
        return self.data_offset + self.length


def encode_pack_header(header: PackHeader) -> bytes:
    """The first bytes of a pack."""
    magic = RETIRED_MAGIC if header.retired else PACK_MAGIC
    return _PACK.pack(magic, header.number, header.previous_length, _header_checksum(header))


def decode_pack_header(raw: bytes) -> PackHeader | None:
    """The header, or None when it is not whole."""
    if len(raw) < PACK_HEADER_BYTES:
        return None
    magic, number, previous_length, checksum = _PACK.unpack_from(raw)
    header = PackHeader(number, previous_length, magic == RETIRED_MAGIC)
    if magic not in (PACK_MAGIC, RETIRED_MAGIC) or checksum != _header_checksum(header):
        return None
    return header


def _header_checksum(header: PackHeader) -> int:
    """Another start for a retired pack, so that no damage makes one of the other."""
    return zlib.crc32(_PLACE.pack(header.number, header.previous_length), int(header.retired))


def record_size(cid_length: int, data_length: int) -> int:
    """Bytes that a block takes in a pack."""
    return RECORD_HEADER_BYTES + cid_length + data_length


def encode_record_header(pack: int, offset: int, cid: bytes, length: int, group: int, remaining: int) -> bytes:
    """What precedes a block's data at `offset` of a pack."""
    body = _BODY.pack(length, len(cid), RecordKind.BLOCK.value, remaining, group) + cid
    checksum = zlib.crc32(body, zlib.crc32(_PLACE.pack(pack, offset)))
    return RECORD_MAGIC + checksum.to_bytes(4, "big") + body


def decode_record_header(raw: bytes | memoryview, pack: int, offset: int) -> Record | None:
    """The record whose header `raw` begins with, or None when there is none that belongs here."""
    if len(raw) < RECORD_HEADER_BYTES:
        return None
    magic, checksum, length, cid_length, kind, remaining, group = _RECORD.unpack_from(raw)
    end = RECORD_HEADER_BYTES + cid_length
    if magic != RECORD_MAGIC or kind != RecordKind.BLOCK.value or length > MAX_BLOCK_BYTES or len(raw) < end:
        return None
    if checksum != zlib.crc32(raw[8:end], zlib.crc32(_PLACE.pack(pack, offset))):
        return None
    try:
        cid = Cid.from_bytes(bytes(raw[RECORD_HEADER_BYTES:end]))
    except Rejection:
        return None
    return Record(pack, offset, cid, cid_length, length, group, remaining)
