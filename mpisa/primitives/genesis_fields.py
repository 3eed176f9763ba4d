"""Reading a genesis document's JSON field by field: whatever is wrong is named with its place in the document."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.identifiers import Address, parse_address

MAX_HEX_DIGITS: Final = 8_192


def read_object(value: Any, name: str, keys: Sequence[str]) -> Mapping[str, Any]:
    """An object with exactly these keys; raises Rejection(BAD_GENESIS)."""
    if not isinstance(value, Mapping):
        raise bad_genesis(f"{name}: expected an object, got {type(value).__name__}")
    missing = [key for key in keys if key not in value]
    unknown = [str(key)[:40] for key in value if key not in keys]
    if missing or unknown:
        raise bad_genesis(f"{name}: missing {missing}, unknown {unknown[:8]}")
    return value


def read_list(value: Any, name: str, limit: int) -> list[Any]:
    """A list of at most `limit` items; raises Rejection(BAD_GENESIS)."""
    if not isinstance(value, list):
        raise bad_genesis(f"{name}: expected a list, got {type(value).__name__}")
    check_count(len(value), name, 0, limit)
    return value


def read_hex(value: Any, name: str) -> bytes:
    """Bytes from lower-case hex digits; raises Rejection(BAD_GENESIS)."""
    text = check_text(value, name, MAX_HEX_DIGITS, empty=True)
    try:
        data = bytes.fromhex(text)
    except ValueError:
        raise bad_genesis(f"{name}: expected lower-case hex digits, got {text[:40]!r}") from None
    if data.hex() != text:
        raise bad_genesis(f"{name}: expected lower-case hex digits without spaces, got {text[:40]!r}")
    return data


def read_address(value: Any, name: str) -> Address:
    """An address from its text; raises Rejection(BAD_GENESIS)."""
    return parse_address(check_text(value, name, 42))


def check_int(value: Any, name: str, low: int, high: int) -> int:
    """The integer itself, from low to high; raises Rejection(BAD_GENESIS)."""
    if type(value) is not int or not low <= value <= high:
        raise bad_genesis(f"{name}: expected an integer from {low} to {high}, got {value!r:.40}")
    return value


def check_text(value: Any, name: str, limit: int, *, empty: bool = False) -> str:
    """The text itself, of at most `limit` printable characters; raises Rejection(BAD_GENESIS).

    What isn't printable may have no bytes (lone surrogates) or move a terminal's cursor.
    """
    if not isinstance(value, str) or len(value) > limit or not (value or empty) or not value.isprintable():
        raise bad_genesis(f"{name}: expected a text of at most {limit} printable characters, got {value!r:.40}")
    return value


def check_count(count: int, name: str, low: int, high: int) -> None:
    """Nothing, if the count is from low to high; raises Rejection(BAD_GENESIS)."""
    if not low <= count <= high:
        raise bad_genesis(f"{name}: expected {low} to {high} items, got {count}")


def check_ascending(items: Iterable[Any], name: str) -> None:
    """Nothing, if every item is greater than the one before; raises Rejection(BAD_GENESIS)."""
    ordered = list(items)
    if any(left >= right for left, right in pairwise(ordered)):
        raise bad_genesis(f"{name}: expected ascending order, each once")


def check_distinct(items: Sequence[Hashable], name: str) -> None:
    """Nothing, if no item comes twice; raises Rejection(BAD_GENESIS)."""
    if len(set(items)) != len(items):
        raise bad_genesis(f"{name}: expected each once")


def bad_genesis(detail: str) -> Rejection:
    """A rejection of the genesis document."""
    return Rejection(RejectionReason.BAD_GENESIS, f"genesis: {detail}")
