"""Canonical MessagePack: one encoding a value, and bytes that don't re-encode identically are refused.

Values are None, booleans, integers of 64 bits, strings, bytes, tuples, and maps whose keys are strings in the order of
their UTF-8 bytes; every length and integer takes its shortest form. No floats, no extension types: nodes must agree.

Decoding is cheap for hostile input: all but small bytes are walked once without building anything, so that a length
nobody backs with bytes allocates nothing; then built, checked level by level (never by recursion) and re-encoded.
"""

from collections.abc import Collection, Iterable
from typing import Final, TypeAlias, Union, cast

import msgpack  # type: ignore[import-untyped]
from msgpack import _cmsgpack  # not its pure Python twin, which gives other reasons: receipts carry them

from mpisa.primitives.errors import Rejection, RejectionReason

Value: TypeAlias = Union[bool, int, str, bytes, tuple["Value", ...], dict[str, "Value"], None]  # noqa: UP007

DEFAULT_MAX_DEPTH: Final = 16
SMALL_BYTES: Final = 1 << 10
"""Up to here bytes are built without being walked first."""
MIN_INT: Final = -(1 << 63)
MAX_INT: Final = (1 << 64) - 1

_SCALARS: Final = frozenset((type(None), bool, int, str, bytes))
_PACKER_BUFFER: Final = 1 << 10
_DECODE_ERRORS: Final = (ValueError, TypeError, OverflowError, msgpack.UnpackException)


class _Malformed(Exception):
    """A value that has no canonical encoding; carries the reason to the boundary that reports it."""

    def __init__(self, reason: RejectionReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def encode(value: Value, *, max_depth: int = DEFAULT_MAX_DEPTH) -> bytes:
    """The one encoding of the value. Raises ValueError for what has none: that is our own bug, not a peer's."""
    try:
        in_order = _validate(value, max_depth)
    except _Malformed as malformed:
        raise ValueError(f"no canonical encoding: {malformed}") from None
    try:
        return _pack(value if in_order else _sorted(value))
    except (OverflowError, UnicodeEncodeError) as error:
        raise ValueError(f"no canonical encoding: {error}") from None


def decode(data: bytes, *, max_bytes: int, max_depth: int = DEFAULT_MAX_DEPTH) -> Value:
    """The value of these bytes; a scalar has depth 0.

    Raises Rejection: TOO_LARGE, MALFORMED, TOO_DEEP, NOT_CANONICAL.
    """
    if len(data) > max_bytes:
        raise Rejection(RejectionReason.TOO_LARGE, f"expected at most {max_bytes} bytes, got {len(data)}")
    value = _unpack(data)
    try:
        in_order = _validate(value, max_depth)
    except _Malformed as malformed:
        raise Rejection(malformed.reason, str(malformed)) from None
    if not in_order or _pack(value) != data:
        raise Rejection(
            RejectionReason.NOT_CANONICAL, "the bytes aren't the shortest encoding with sorted, distinct map keys"
        )
    return value


_packers: Final[list[_cmsgpack.Packer]] = []
"""Packers that nobody uses now: making one costs more than packing most values. A list, since any thread may pack."""


def _pack(value: Value) -> bytes:
    try:
        packer = _packers.pop()
    except IndexError:
        packer = _cmsgpack.Packer(use_bin_type=True, buf_size=_PACKER_BUFFER)
    packed = cast(bytes, packer.pack(value))
    _packers.append(packer)
    return packed


def _unpack(data: bytes) -> Value:
    """Small bytes first without the walk: what a length without bytes behind it claims is bounded by their size."""
    if len(data) > SMALL_BYTES:
        return _unpack_walked(data)
    try:
        return _build(data)
    except _DECODE_ERRORS:
        return _unpack_walked(data)  # for its reason


def _build(data: bytes) -> Value:
    return cast(
        Value,
        _cmsgpack.unpackb(data, use_list=False, raw=False, strict_map_key=True, max_ext_len=0, ext_hook=_no_extension),
    )


def _unpack_walked(data: bytes) -> Value:
    try:
        # Unbacked lengths fail here, before `unpackb` would allocate room for what they claim.
        walker = _cmsgpack.Unpacker(max_buffer_size=len(data) + 1, read_size=1, strict_map_key=True)
        walker.feed(data)
        walker.skip()
        return _build(data)
    except msgpack.OutOfData:
        raise Rejection(RejectionReason.MALFORMED, f"truncated: {len(data)} bytes are no whole value") from None
    except msgpack.StackError:
        raise Rejection(RejectionReason.TOO_DEEP, "nested deeper than any message") from None
    except _DECODE_ERRORS as error:
        detail = str(error) or type(error).__name__
        raise Rejection(RejectionReason.MALFORMED, f"not MessagePack of this kind: {detail[:120]}") from None


def _no_extension(code: int, _data: bytes) -> Value:
    raise ValueError(f"extension type {code} isn't allowed")


def _validate(value: Value, max_depth: int) -> bool:
    """Whether every map is in key order; raises _Malformed for foreign types, keys that aren't strings, and depth."""
    if type(value) in _SCALARS:
        return True
    in_order = True
    level: Iterable[Value] = (value,)
    for _ in range(max_depth):
        below: list[Value] = []
        for item in level:
            if type(item) is tuple:
                below.extend(item)
            elif type(item) is dict:
                in_order &= _is_ordered(item)
                below.extend(item.values())
            elif type(item) not in _SCALARS:
                raise _Malformed(RejectionReason.MALFORMED, f"a {type(item).__name__} is no value of this codec")
        if _SCALARS.issuperset(map(type, below)):
            return in_order
        level = below
    raise _Malformed(RejectionReason.TOO_DEEP, f"nested deeper than {max_depth}")


def _is_ordered(mapping: dict[str, Value]) -> bool:
    keys = list(mapping)
    for key in keys:
        if type(key) is not str:
            raise _Malformed(RejectionReason.MALFORMED, f"a map key must be a string, got {type(key).__name__}")
    return len(keys) < 2 or keys == sorted(keys)  # code points sort like their UTF-8 bytes


def _sorted(value: Value) -> Value:
    """The value with every map in key order; the depth was bounded before."""
    if type(value) is tuple:
        return tuple([_sorted(item) for item in value])
    if type(value) is dict:
        return {key: _sorted(value[key]) for key in sorted(value)}
    return value


def expect_bytes(value: Value, name: str, *, length: int | None = None, max_length: int | None = None) -> bytes:
    """The value as bytes of that length. Raises Rejection(MALFORMED or TOO_LARGE) naming the field."""
    if type(value) is not bytes:
        raise _unexpected(name, "bytes", value)
    if length is not None and len(value) != length:
        raise Rejection(RejectionReason.MALFORMED, f"{name}: expected {length} bytes, got {len(value)}")
    _check_size(name, len(value), max_length, "bytes")
    return value


def expect_int(value: Value, name: str, lo: int = 0, hi: int = MAX_INT) -> int:
    """The value as an integer within lo..hi inclusive. Raises Rejection(MALFORMED or OUT_OF_RANGE) naming the field."""
    if type(value) is not int:
        raise _unexpected(name, "an integer", value)
    if not lo <= value <= hi:
        raise Rejection(RejectionReason.OUT_OF_RANGE, f"{name}: expected {lo}..{hi}, got {value}")
    return value


def expect_bool(value: Value, name: str) -> bool:
    """The value as a boolean. Raises Rejection(MALFORMED) naming the field."""
    if type(value) is not bool:
        raise _unexpected(name, "a boolean", value)
    return value


def expect_str(value: Value, name: str, max_length: int | None = None) -> str:
    """The value as a string of at most max_length characters. Raises Rejection(MALFORMED or TOO_LARGE)."""
    if type(value) is not str:
        raise _unexpected(name, "a string", value)
    _check_size(name, len(value), max_length, "characters")
    return value


def expect_tuple(
    value: Value, name: str, max_items: int | None = None, *, length: int | None = None
) -> tuple[Value, ...]:
    """The value as a tuple of at most max_items (or exactly length) items. Raises Rejection(MALFORMED or TOO_LARGE)."""
    if type(value) is not tuple:
        raise _unexpected(name, "a list", value)
    if length is not None and len(value) != length:
        raise Rejection(RejectionReason.MALFORMED, f"{name}: expected {length} items, got {len(value)}")
    _check_size(name, len(value), max_items, "items")
    return value


def expect_map(
    value: Value, name: str, keys: Collection[str] | None = None, *, optional: Collection[str] = ()
) -> dict[str, Value]:
    """The value as a map that has all of `keys` and nothing else but `optional` ones. Raises Rejection(MALFORMED)."""
    if type(value) is not dict:
        raise _unexpected(name, "a map", value)
    if keys is not None:
        missing = [key for key in keys if key not in value]
        unknown = [key for key in value if key not in keys and key not in optional]
        if missing or unknown:
            raise Rejection(
                RejectionReason.MALFORMED,
                f"{name}: missing {missing[:8]}, unknown {[key[:40] for key in unknown[:8]]}",
            )
    return value


def _check_size(name: str, size: int, limit: int | None, unit: str) -> None:
    if limit is not None and size > limit:
        raise Rejection(RejectionReason.TOO_LARGE, f"{name}: expected at most {limit} {unit}, got {size}")


def _unexpected(name: str, expected: str, value: Value) -> Rejection:
    return Rejection(RejectionReason.MALFORMED, f"{name}: expected {expected}, got {type(value).__name__}")
