"""The messages of bitswap 1.1 and 1.2, protobuf on the wire, each behind a varint of its length.

    Message  { 1: Wantlist, 3: repeated Block payload, 4: repeated Presence, 5: int32 pendingBytes }
    Wantlist { 1: repeated Entry, 2: bool full }
    Entry    { 1: bytes cid, 2: int32 priority, 3: bool cancel, 4: WantType (0 block, 1 have), 5: bool sendDontHave }
    Block    { 1: bytes prefix, 2: bytes data }
    Presence { 1: bytes cid, 2: type (0 have, 1 don't have) }

A block travels without its hash: the prefix says which CID to make of the data. Unknown fields are passed over, as
protobuf wants it, so that later versions are understood; counts and lengths are bounded. Bitswap 1.0, which sends
blocks in field 2, isn't spoken: nobody kept does so.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from mpisa.primitives.cid import DAG_PB, SHA2_256, Cid, read_varint
from mpisa.primitives.dag_pb import FIXED32, FIXED64, LENGTH_DELIMITED, VARINT, decode_varint, encode_varint
from mpisa.primitives.errors import Rejection, RejectionReason

MAX_MESSAGE_BYTES = 4 << 20
"""What Kubo and Helia take too."""

MAX_ENTRIES = 16_384
MAX_BLOCKS = 4096
MAX_PRESENCES = 16_384

_V0_PREFIX = bytes((0, DAG_PB, SHA2_256, 32))
_INT32_WRAP = 1 << 64
"""A negative int32 is written as the 64-bit two's complement."""


class WantType(IntEnum):
    BLOCK = 0
    HAVE = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a wantlist."""

    cid: Cid
    priority: int = 1
    want: WantType = WantType.BLOCK
    cancel: bool = False
    send_dont_have: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `blocks` are pairs of CID prefix and data, `presences` pairs of CID and whether the sender has it.

    `full` says that the wantlist replaces all that was wanted before.
    """

    entries: tuple[Entry, ...] = ()
    full: bool = False
    blocks: tuple[tuple[bytes, bytes], ...] = ()
    presences: tuple[tuple[Cid, bool], ...] = ()
    pending_bytes: int = 0


def prefix_of(cid: Cid) -> bytes:
    """Version, codec, hash code and hash length. Version 0 is written out as well: Kubo waits for ever otherwise."""
    if cid.version == 0:
        return _V0_PREFIX
    return b"".join(encode_varint(number) for number in (cid.version, cid.codec, cid.digest_code, len(cid.digest)))


def cid_of(prefix: bytes, data: bytes) -> Cid | None:
    """The CID that a block with this prefix has; None for a hash that isn't checked here or a prefix that is none."""
    if prefix in (b"", _V0_PREFIX):
        return Cid.of(data, codec=DAG_PB, version=0)
    try:
        version, offset = read_varint(prefix, 0)
        codec, offset = read_varint(prefix, offset)
        code, offset = read_varint(prefix, offset)
        size, offset = read_varint(prefix, offset)
    except Rejection:
        return None
    if (version, code, size, offset) != (1, SHA2_256, 32, len(prefix)):
        return None
    return Cid.of(data, codec=codec)


def encode_message(message: Message) -> bytes:
    """Without the length in front."""
    wantlist = b"".join(_field(1, _encode_entry(entry)) for entry in message.entries)
    if message.full:
        wantlist += b"\x10\x01"
    parts = [_field(1, wantlist)]
    parts += [_field(3, _field(1, prefix) + _field(2, data)) for prefix, data in message.blocks]
    parts += [_field(4, _field(1, cid.to_bytes()) + (b"" if have else b"\x10\x01")) for cid, have in message.presences]
    if message.pending_bytes:
        parts.append(b"\x28" + encode_varint(message.pending_bytes))
    return b"".join(parts)


def decode_message(raw: bytes) -> Message:
    """Raises Rejection: MALFORMED, TOO_MANY, BAD_CID or NOT_CANONICAL."""
    entries: list[Entry] = []
    blocks: list[tuple[bytes, bytes]] = []
    presences: list[tuple[Cid, bool]] = []
    full, pending = False, 0
    for number, value in _fields(raw):
        if number == 1:
            full = _decode_wantlist(_bytes(value, "wantlist"), entries) or full
        elif number == 3:
            _bounded(len(blocks), MAX_BLOCKS, "blocks")
            parts = dict(_fields(_bytes(value, "block")))
            blocks.append((_bytes(parts.get(1, b""), "prefix"), _bytes(parts.get(2, b""), "data")))
        elif number == 4:
            _bounded(len(presences), MAX_PRESENCES, "presences")
            parts = dict(_fields(_bytes(value, "presence")))
            presences.append((Cid.from_bytes(_bytes(parts.get(1, b""), "CID")), not parts.get(2, 0)))
        elif number == 5 and isinstance(value, int):
            pending = value & 0x7FFF_FFFF
    return Message(tuple(entries), full, tuple(blocks), tuple(presences), pending)


def _encode_entry(entry: Entry) -> bytes:
    out = _field(1, entry.cid.to_bytes()) + b"\x10" + encode_varint(entry.priority % _INT32_WRAP)
    if entry.cancel:
        out += b"\x18\x01"
    if entry.want is WantType.HAVE:
        out += b"\x20\x01"
    if entry.send_dont_have:
        out += b"\x28\x01"
    return out


def _decode_wantlist(raw: bytes, entries: list[Entry]) -> bool:
    """Adds the entries; whether the list is a full one."""
    full = False
    for number, value in _fields(raw):
        if number == 1:
            _bounded(len(entries), MAX_ENTRIES, "wants")
            entries.append(_decode_entry(_bytes(value, "want")))
        elif number == 2:
            full = bool(value)
    return full


def _decode_entry(raw: bytes) -> Entry:
    parts = dict(_fields(raw))
    priority = parts.get(2, 0)
    if not isinstance(priority, int):
        raise Rejection(RejectionReason.MALFORMED, "bitswap priority, expected a number, got bytes")
    if priority >= 1 << 63:
        priority -= _INT32_WRAP
    return Entry(
        Cid.from_bytes(_bytes(parts.get(1, b""), "CID")),
        priority,
        WantType.HAVE if parts.get(4, 0) == 1 else WantType.BLOCK,
        bool(parts.get(3, 0)),
        bool(parts.get(5, 0)),
    )


def _fields(raw: bytes) -> list[tuple[int, int | bytes]]:
    """Field numbers and values, in order; numbers of fixed size are passed over."""
    found: list[tuple[int, int | bytes]] = []
    offset, end = 0, len(raw)
    while offset < end:
        tag, offset = decode_varint(raw, offset)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value, offset = decode_varint(raw, offset)
            found.append((number, value))
        elif kind == LENGTH_DELIMITED:
            length, offset = decode_varint(raw, offset)
            if length > end - offset:
                raise Rejection(RejectionReason.MALFORMED, f"bitswap field {number} is cut off")
            found.append((number, raw[offset : offset + length]))
            offset += length
        elif kind in (FIXED32, FIXED64):
            offset += 4 if kind == FIXED32 else 8
            if offset > end:
                raise Rejection(RejectionReason.MALFORMED, f"bitswap field {number} is cut off")
        else:
            raise Rejection(RejectionReason.MALFORMED, f"bitswap field {number} has wire type {kind}")
    return found


def _field(number: int, value: bytes) -> bytes:
    return encode_varint(number << 3 | LENGTH_DELIMITED) + encode_varint(len(value)) + value


def _bytes(value: int | bytes, what: str) -> bytes:
    if not isinstance(value, bytes):
        raise Rejection(RejectionReason.MALFORMED, f"bitswap {what}, expected bytes, got a number")
    return value


def _bounded(count: int, limit: int, what: str) -> None:
    if count >= limit:
        raise Rejection(RejectionReason.TOO_MANY, f"bitswap {what}, expected at most {limit} in a message")
