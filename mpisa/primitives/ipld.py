"""The IPLD data model and its binary codec DAG-CBOR: strict both ways, so that a value has one encoding.

A value is None, a bool, an integer of -2^64 to 2^64-1, a finite float, text, bytes, a `Link`, a list or a dict with
text keys. DAG-CBOR is CBOR with shortest heads, definite lengths, 64-bit floats, keys sorted by length and then by
bytes, and tag 42 (a CID behind a zero byte) as the only tag. Anything else is refused, as are keys that come twice, and
bytes behind the end. Nothing recurses; depth and number of values are bounded. Why not libipld: docs/adr/0004.
"""

import math
import struct
from dataclasses import dataclass
from typing import Final

from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import Rejection, RejectionReason

MAX_DEPTH: Final = 512
"""Lists and maps within each other."""

MAX_NODES: Final = 1_000_000
"""Values of one block, all levels together."""

MAX_BLOCK_BYTES: Final = 2 * 1024 * 1024
LARGEST_INT: Final = (1 << 64) - 1
SMALLEST_INT: Final = -(1 << 64)

_UINT, _NEGATIVE, _BYTES, _TEXT, _LIST, _MAP, _TAG, _SIMPLE = range(8)
_LINK_TAG: Final = 42
_FALSE, _TRUE, _NULL, _FLOAT64 = 0xF4, 0xF5, 0xF6, 0xFB
_HEAD_SIZES: Final = {24: 1, 25: 2, 26: 4, 27: 8}
_SMALLEST: Final = {24: 24, 25: 1 << 8, 26: 1 << 16, 27: 1 << 32}
_CONSTANTS: Final = {_FALSE: False, _TRUE: True, _NULL: None}


@dataclass(frozen=True, slots=True)
class Link:
    """A link to another block."""

    cid: Cid


Scalar = None | bool | int | float | str | bytes | Link
Value = Scalar | list["Value"] | dict[str, "Value"]


def decode_dag_cbor(block: bytes) -> Value:
    """The value of a block. Raises Rejection that says what is wrong, and at which byte."""
    return _decode(block, [])


def dag_cbor_links(block: bytes) -> list[Cid]:
    """The CIDs of a block, in the order of its bytes. Raises Rejection for whatever `decode_dag_cbor` refuses."""
    links: list[Cid] = []
    _decode(block, links)
    return links


Container = list["Value"] | dict[str, "Value"]


@dataclass(slots=True)
class _Frame:
    """A list or map that is being filled; `left`: values still to come, `key`: what the next one is for."""

    container: Container
    left: int
    key: str = ""
    raw_key: bytes | None = None


def _decode(block: bytes, links: list[Cid]) -> Value:
    """One pass over the block; what is common is done here, what is rare in functions of its own, for speed."""
    if len(block) > MAX_BLOCK_BYTES:
        raise Rejection(RejectionReason.TOO_LARGE, f"a block of {len(block)} bytes, at most {MAX_BLOCK_BYTES}")
    stack: list[_Frame] = []
    frame: _Frame | None = None
    offset = nodes = 0
    while True:
        if frame is not None and type(frame.container) is dict:
            offset = _read_key(block, offset, frame)
        nodes += 1
        if nodes > MAX_NODES:
            raise Rejection(RejectionReason.TOO_LARGE, f"dag-cbor with more than {MAX_NODES} values")
        start = offset
        major, argument, offset = _head(block, start)
        value: Value
        if major in (_TEXT, _BYTES):
            end = _end_of(block, offset, argument, start)
            raw = block[offset:end]
            value, offset = _text(raw, start) if major == _TEXT else raw, end
        elif major == _UINT:
            value = argument
        elif major == _NEGATIVE:
            value = -1 - argument
        elif major == _SIMPLE:
            value, offset = _read_simple(block, start)
        elif major == _TAG:
            value, offset = _read_link(block, offset, argument, start)
            links.append(value.cid)
        else:
            value = [] if major == _LIST else {}
            if len(stack) + (frame is not None) == MAX_DEPTH:
                raise Rejection(RejectionReason.TOO_DEEP, f"dag-cbor with more than {MAX_DEPTH} levels")
            if argument:
                _check_length(block, offset, major, argument, start)
                if frame is not None:
                    stack.append(frame)
                frame = _Frame(value, argument)
                continue
        while frame is not None:
            if type(frame.container) is dict:
                frame.container[frame.key] = value
            else:
                frame.container.append(value)  # type: ignore[union-attr]
            frame.left -= 1
            if frame.left:
                break
            value = frame.container
            frame = stack.pop() if stack else None
        if frame is None:
            if offset < len(block):
                raise _malformed(f"{len(block) - offset} bytes behind the value")
            return value


def _head(block: bytes, start: int) -> tuple[int, int, int]:
    """Major type and argument at `start`, and the offset behind them; of simple values the initial byte's low bits."""
    if start >= len(block):
        raise _malformed("the block is cut off")
    initial = block[start]
    major, short = initial >> 5, initial & 31
    if short < 24 or major == _SIMPLE:
        return major, short, start + 1
    size = _HEAD_SIZES.get(short)
    if size is None:
        raise _malformed(f"an indefinite or reserved length at byte {start}")
    end = _end_of(block, start + 1, size, start)
    argument = int.from_bytes(block[start + 1 : end], "big")
    if argument < _SMALLEST[short]:
        raise Rejection(RejectionReason.NOT_CANONICAL, f"dag-cbor: number at byte {start} is not of shortest form")
    return major, argument, end


def _read_key(block: bytes, start: int, frame: _Frame) -> int:
    """The next key of a map goes into its frame; the offset behind it."""
    major, length, offset = _head(block, start)
    if major != _TEXT:
        raise _malformed(f"a map key at byte {start} that is no text")
    end = _end_of(block, offset, length, start)
    raw = block[offset:end]
    last = frame.raw_key
    if last is not None and (length, raw) <= (len(last), last):
        if raw == last:
            raise Rejection(RejectionReason.DUPLICATE, f"dag-cbor: the map key {raw[:60]!r} is there twice")
        raise Rejection(RejectionReason.NOT_CANONICAL, f"dag-cbor: map key at byte {start} out of order")
    frame.key, frame.raw_key = _text(raw, start), raw
    return end


def _read_simple(block: bytes, start: int) -> tuple[Scalar, int]:
    initial = block[start]
    if initial in _CONSTANTS:
        return _CONSTANTS[initial], start + 1
    if initial != _FLOAT64:
        raise _malformed(f"byte {start} is {initial:#04x}: only false, true, null and 64-bit floats are dag-cbor")
    end = _end_of(block, start + 1, 8, start)
    number: float = struct.unpack(">d", block[start + 1 : end])[0]
    if not math.isfinite(number):
        raise _malformed(f"a float at byte {start} that is no finite number")
    return number, end


def _read_link(block: bytes, offset: int, tag: int, start: int) -> tuple[Link, int]:
    if tag != _LINK_TAG:
        raise _malformed(f"tag {tag} at byte {start}, only {_LINK_TAG} is dag-cbor")
    major, length, offset = _head(block, offset)
    end = _end_of(block, offset, length, start) if major == _BYTES else offset
    if block[offset : offset + 1] != b"\0" or end == offset:
        raise _malformed(f"the link at byte {start} is no CID behind a zero byte")
    try:
        return Link(Cid.from_bytes(block[offset + 1 : end])), end
    except Rejection as error:
        raise _malformed(f"the link at byte {start} has a bad CID: {error.detail}") from None


def _check_length(block: bytes, offset: int, major: int, argument: int, start: int) -> None:
    least = argument if major == _LIST else 2 * argument
    if least > len(block) - offset:
        raise _malformed(f"{argument} entries claimed at byte {start}, the block is shorter")


def _end_of(block: bytes, offset: int, length: int, start: int) -> int:
    end = offset + length
    if end > len(block):
        raise _malformed(f"what begins at byte {start} is cut off")
    return end


def encode_dag_cbor(value: Value) -> bytes:
    """The block of a value. Raises Rejection for what the data model doesn't have: NaN, too large integers, depth."""
    out: list[bytes] = []
    stack: list[tuple[Value | _Raw, int]] = [(value, 0)]
    nodes = 0
    while stack:
        item, depth = stack.pop()
        if isinstance(item, _Raw):
            out.append(item.data)
            continue
        nodes += 1
        if nodes > MAX_NODES:
            raise Rejection(RejectionReason.TOO_LARGE, f"more than {MAX_NODES} values")
        if isinstance(item, list | dict):
            if depth == MAX_DEPTH:
                raise Rejection(RejectionReason.TOO_DEEP, f"more than {MAX_DEPTH} levels")
            out.append(_encode_head(_LIST if isinstance(item, list) else _MAP, len(item)))
            if isinstance(item, list):
                stack += [(child, depth + 1) for child in reversed(item)]
                continue
            keyed = [(encode_text(key), child) for key, child in item.items()]
            for key, child in sorted(keyed, key=lambda pair: (len(pair[0]), pair[0]), reverse=True):
                stack += ((child, depth + 1), (_Raw(_encode_head(_TEXT, len(key)) + key), depth))
        else:
            out.append(_encode_scalar(item))
    return b"".join(out)


@dataclass(frozen=True, slots=True)
class _Raw:
    """Bytes that are encoded already."""

    data: bytes


def _encode_scalar(value: Scalar) -> bytes:
    if value is None:
        return b"\xf6"
    if isinstance(value, bool):
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, int):
        check_int(value)
        return _encode_head(_UINT, value) if value >= 0 else _encode_head(_NEGATIVE, -1 - value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _malformed("a float that is no finite number")
        return b"\xfb" + struct.pack(">d", value)
    if isinstance(value, str):
        raw = encode_text(value)
        return _encode_head(_TEXT, len(raw)) + raw
    if isinstance(value, Link):
        raw = b"\0" + value.cid.to_bytes()
        return b"\xd8\x2a" + _encode_head(_BYTES, len(raw)) + raw
    return _encode_head(_BYTES, len(value)) + value


def _encode_head(major: int, argument: int) -> bytes:
    if argument < 24:
        return bytes(((major << 5) | argument,))
    for short, size in _HEAD_SIZES.items():
        if argument < 1 << (8 * size):
            return bytes(((major << 5) | short,)) + argument.to_bytes(size, "big")
    raise AssertionError(argument)


def check_int(value: int) -> None:
    """Raises Rejection(OUT_OF_RANGE) for an integer beyond 64 bits and a sign."""
    if not SMALLEST_INT <= value <= LARGEST_INT:
        raise Rejection(RejectionReason.OUT_OF_RANGE, "an integer of more than 64 bits and a sign")


def encode_text(text: str) -> bytes:
    """UTF-8. Raises Rejection for half characters, which JSON can spell and UTF-8 can't."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise _malformed(f"text that is not Unicode: {text[:60]!r}") from None


def _text(raw: bytes, start: int) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise _malformed(f"the text at byte {start} is not UTF-8") from None


def _malformed(detail: str) -> Rejection:
    return Rejection(RejectionReason.MALFORMED, f"ipld: {detail}")
