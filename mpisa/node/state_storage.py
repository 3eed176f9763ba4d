"""What the state map asks of a database, and where it keeps what.

    s path -> entry             every key and value, in the order of their paths
    k key                       every key, in the order of keys, for listings by prefix
    n slot -> kind, hash        the slots of the crown that aren't empty
    p heap index -> page        the divided part below a slot
    u height -> undo            what this chain block replaced (state_history)

An entry is the key's length (u16), the key, the value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from mpisa.primitives.errors import StoreDamaged
from mpisa.primitives.merkle import MAX_DEPTH

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mpisa.primitives.merkle_crown import Node

CROWN_BITS: Final = 18
"""Levels of the map that stay in memory, at most 46 MB; a million entries leave four to a slot."""
TOP_BITS: Final = 9
"""The crown's upper half: one row is remembered for each height, so that old proofs need two small crowns only."""

ENTRY, KEY, SLOT, PAGE = b"s", b"k", b"n", b"p"
FIRST_PATH: Final = bytes(32)
LAST_PATH: Final = b"\xff" * 32


class StateStorage(Protocol):
    """Reads of one ordered database, or of a snapshot of it. Raise StoreDamaged."""

    def get(self, key: bytes) -> bytes | None:
        """The value, or None."""
        ...

    def range(
        self,
        start: bytes,
        stop: bytes,
        *,
        limit: int = ...,
        max_bytes: int | None = None,
        reverse: bool = False,
    ) -> list[tuple[bytes, bytes]]:
        """Pairs with start <= key < stop."""
        ...

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All pairs under a prefix, in order."""
        ...


def pack_entry(key: bytes, value: bytes) -> bytes:
    """The stored form of one entry."""
    return len(key).to_bytes(2, "big") + key + value


def unpack_entry(entry: bytes) -> tuple[bytes, bytes]:
    """Key and value."""
    end = 2 + int.from_bytes(entry[:2], "big")
    return entry[2:end], entry[end:]


def slot_key(slot: int) -> bytes:
    """Where a slot's node is stored."""
    return SLOT + slot.to_bytes(4, "big")


def page_key(index: int) -> bytes:
    """Where the page of a heap index is stored."""
    return PAGE + index.to_bytes(33, "big")


def pack_node(node: Node) -> bytes:
    """The stored form of a slot."""
    return bytes((node[0],)) + node[1]


def unpack_node(raw: bytes) -> Node:
    """Kind and hash."""
    return raw[0], raw[1:]


def paths_below(index: int) -> tuple[bytes, bytes]:
    """The first and the last path below the node of a heap index."""
    depth = index.bit_length() - 1
    first = (index - (1 << depth)) << (MAX_DEPTH - depth)
    return first.to_bytes(32, "big"), (first + (1 << (MAX_DEPTH - depth)) - 1).to_bytes(32, "big")


def entries_between(
    storage: StateStorage, first: bytes, last: bytes, max_bytes: int | None = None
) -> list[tuple[bytes, bytes]]:
    """Path and stored entry with first <= path <= last, all of them or about `max_bytes`."""
    found: list[tuple[bytes, bytes]] = []
    start, stop = ENTRY + first, ENTRY + last + b"\0"
    while True:
        page = storage.range(start, stop, limit=_PAGE_ENTRIES, max_bytes=max_bytes)
        found += [(key[1:], entry) for key, entry in page]
        if len(page) < _PAGE_ENTRIES:
            return found
        if max_bytes is not None:
            max_bytes -= sum([len(entry) for _, entry in page])
            if max_bytes <= 0:
                return found
        start = page[-1][0] + b"\0"


_PAGE_ENTRIES: Final = 1_000


def map_damage(what: str) -> StoreDamaged:
    """The error for stored bytes that don't have the hash their parent names."""
    return StoreDamaged(f"the state map is damaged: {what}", hint="run `mpisa node repair`")
