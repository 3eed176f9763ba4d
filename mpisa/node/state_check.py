"""The whole state map looked through, entry by entry: what a start leaves for later, checked on demand.

Every entry must lie on its key's path, every slot and page must have the hash that its entries lead to, no page may be
left over, the index by key must name the same keys, and the undo records must lead from the root of each kept height to
the one before. A slot's worth of entries is in memory at a time.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from mpisa.node.state_history import undo_key
from mpisa.node.state_storage import (
    CROWN_BITS,
    ENTRY,
    KEY,
    PAGE,
    SLOT,
    TOP_BITS,
    map_damage,
    page_key,
    unpack_entry,
    unpack_node,
)
from mpisa.primitives.merkle_bucket import (
    PAGE_BITS,
    bucket_node,
    bucket_of,
    leaf_hash,
    page_node,
    page_slots,
    subtree_hash,
)
from mpisa.primitives.merkle_crown import DIVIDED, EMPTY_NODE, Crown, Node, crown_of, slot_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mpisa.node.state_map import StateMap
    from mpisa.node.state_storage import StateStorage

Leaves = list[tuple[bytes, bytes]]


def check_state(storage: StateStorage, root: bytes) -> None:
    """Raises StoreDamaged unless entries, slots, pages and the index by key fit each other and this root."""
    crown = Crown(CROWN_BITS)
    crown.fill((int.from_bytes(key[len(SLOT) :], "big"), unpack_node(raw)) for key, raw in storage.scan(SLOT))
    if crown.root[1] != root:
        raise map_damage("its slots don't lead to the header's state root")
    tally, pages = _Tally(), 0
    seen = 0
    for slot, leaves in _by_slot(storage, tally):
        node = crown.slot(slot)
        seen += 1
        pages += _check_node(storage, 1 << CROWN_BITS | slot, node, leaves)
    if seen != sum(1 for kind, _ in crown.row(1 << CROWN_BITS, 1 << CROWN_BITS) if kind):
        raise map_damage("a slot has no entries")
    if pages != sum(1 for _ in storage.scan(PAGE)):
        raise map_damage("a page is left over")
    index = _Tally()
    for stored, _ in storage.scan(KEY):
        index.add(sha256(stored[len(KEY) :]).digest())
    if index != tally:
        raise map_damage("the index by key doesn't name the keys of the entries")


def check_history(state: StateMap, storage: StateStorage, root_at: Callable[[int], bytes]) -> None:
    """Raises StoreDamaged unless the undo records lead to the root of every kept height."""
    oldest, newest = state.kept_heights
    for height in range(oldest + 1, newest + 1):
        if storage.get(undo_key(height)) is None:
            raise map_damage(f"the undo record of height {height} is missing")
    for height in range(oldest, newest + 1):
        row = state.top_row(height)
        if crown_of(TOP_BITS, [(slot, node) for slot, node in enumerate(row) if node[0]]).root[1] != root_at(height):
            raise map_damage(f"the undo records don't lead to the state root of height {height}")


class _Tally:
    """How many paths, and their sum bit by bit: equal for equal sets, whatever the order."""

    def __init__(self) -> None:
        self.count = 0
        self.sum = 0

    def add(self, path: bytes) -> None:
        self.count += 1
        self.sum ^= int.from_bytes(path, "big")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Tally) and (self.count, self.sum) == (other.count, other.sum)

    def __hash__(self) -> int:
        return hash((self.count, self.sum))


def _by_slot(storage: StateStorage, tally: _Tally) -> Iterator[tuple[int, Leaves]]:
    slot, waiting = -1, list[tuple[bytes, bytes]]()
    for stored, entry in storage.scan(ENTRY):
        path = stored[len(ENTRY) :]
        key, value = unpack_entry(entry)
        if sha256(key).digest() != path:
            raise map_damage(f"the entry at path {path.hex()} is not on its key's path")
        tally.add(path)
        here = slot_of(path, 0, CROWN_BITS)
        if here != slot and waiting:
            yield slot, waiting
            waiting = []
        slot = here
        waiting.append((path, leaf_hash(path, value)))
    if waiting:
        yield slot, waiting


def _check_node(storage: StateStorage, index: int, node: Node, leaves: Sequence[tuple[bytes, bytes]]) -> int:
    """Pages below a node whose hash its entries must have. Each step is four levels deeper, and entries part."""
    depth = index.bit_length() - 1
    if node[0] != DIVIDED:
        if bucket_node(bucket_of(leaves), depth) != node:
            raise map_damage(f"the entries below node {index:#x}")
        return 0
    page = storage.get(page_key(index))
    paths, hashes = [path for path, _ in leaves], [digest for _, digest in leaves]
    if page is None or page_node(page) != node or subtree_hash(paths, hashes, depth) != node[1]:
        raise map_damage(f"the page of node {index:#x}")
    parts: dict[int, Leaves] = {}
    for leaf in leaves:
        parts.setdefault(slot_of(leaf[0], depth, PAGE_BITS), []).append(leaf)
    pages = 1
    for slot, child in enumerate(page_slots(page)):
        if slot in parts:
            pages += _check_node(storage, index << PAGE_BITS | slot, child, parts[slot])
        elif child != EMPTY_NODE:
            raise map_damage(f"slot {slot} of the page of node {index:#x} has no entries")
    return pages
