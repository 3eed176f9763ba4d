"""The state map as it was after a recent height: values, proofs and ranges, from today's bytes and the undo records.

A proof needs the siblings on one way down: the upper and the lower half of the crown as they were (two rows of 512
nodes, joined again), at most a page or two, and one bucket. Whatever is read is checked against the hash that its
parent names, and the whole against the root of the header. A reader runs beside the writer without a lock: it may catch
a torn moment, which those same checks find, and then it looks again.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from mpisa.node.state_storage import (
    CROWN_BITS,
    LAST_PATH,
    TOP_BITS,
    entries_between,
    map_damage,
    page_key,
    paths_below,
    unpack_entry,
)
from mpisa.primitives.errors import Rejection, StoreDamaged
from mpisa.primitives.merkle import EMPTY_ROOT, MapProof, proof_root
from mpisa.primitives.merkle_bucket import (
    PAGE_BITS,
    bucket_node,
    descend_bucket,
    descend_page,
    leaf_hash,
    page_node,
)
from mpisa.primitives.merkle_crown import BRANCH, DIVIDED, EMPTY, LEAF, Crown, Node, crown_of, slot_of
from mpisa.primitives.merkle_range import RangeProof, range_proof, verify_range

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mpisa.node.state_history import History
    from mpisa.node.state_storage import StateStorage

MAX_SMALL_CROWNS = 64
"""Halves of the crown at old heights that are kept, about 60 kB each."""
TRIES = 4
LOW_BITS = CROWN_BITS - TOP_BITS


@dataclass(frozen=True, slots=True)
class StateChunk:
    """All that a map holds from the path asked for to `last`, (key, value) in the order of paths, and its proof."""

    entries: tuple[tuple[bytes, bytes], ...]
    last: bytes
    proof: RangeProof

    @property
    def next_path(self) -> bytes | None:
        """Where the next chunk begins; None behind the last one."""
        return None if self.last == LAST_PATH else (int.from_bytes(self.last, "big") + 1).to_bytes(32, "big")


class Rows(Protocol):
    """Where today's crown comes from: memory, or a snapshot of the database."""

    def row(self, first: int, count: int) -> list[Node]:
        """`count` neighbouring nodes by heap index, of one of the two rows that are remembered."""
        ...


class StateReader:
    """See the module. `newest` is the height of today's bytes, or one more while a block is being written."""

    def __init__(self, storage: StateStorage, rows: Rows, history: History, newest: Callable[[], int]) -> None:
        self._storage = storage
        self._rows = rows
        self._history = history
        self._newest = newest
        self._crowns: dict[tuple[int, int], Crown] = {}

    def entry_at(self, path: bytes, height: int) -> bytes | None:
        """The stored entry of a path after a height, or None. Raises NotFound when its records are gone."""
        entry = self._storage.get(b"s" + path)
        for later in self._heights_above(height):
            old = self._history.undo(later).entry(path)
            if old is not None:
                entry = old
        return entry or None

    def prove(self, path: bytes, height: int, root: bytes) -> MapProof:
        """What the map of this height, which has this root, holds on a path. Raises NotFound, StoreDamaged."""
        for again in range(TRIES):
            try:
                proof = self._prove(path, height)
                if proof_root(path, proof) == root or (root == EMPTY_ROOT and not proof.siblings and not proof.leaf):
                    return proof
            except StoreDamaged:
                if again == TRIES - 1:
                    raise
            self._crowns = {}
        raise map_damage(f"a proof at height {height} doesn't lead to its header's state root")

    def chunk(self, height: int, root: bytes, first: bytes, max_bytes: int) -> StateChunk:
        """About `max_bytes` of entries from path `first` on. Raises NotFound, StoreDamaged."""
        for _ in range(TRIES):
            chunk = self._chunk(height, root, first, max_bytes)
            try:
                verify_range(root, first, chunk.last, chunk.entries, chunk.proof)
            except Rejection:
                continue
            return chunk
        raise map_damage(f"a range from path {first.hex()} at height {height} isn't what its root names")

    def _chunk(self, height: int, root: bytes, first: bytes, max_bytes: int) -> StateChunk:
        found, last = self._entries_at(height, first, LAST_PATH, max_bytes)
        size = 0
        for number, (path, entry) in enumerate(found):
            size += len(entry)
            if size >= max_bytes:
                found, last = found[: number + 1], path
                break
        proof = range_proof(self.prove(first, height, root), self.prove(last, height, root), first, last)
        return StateChunk(tuple([unpack_entry(entry) for _, entry in found]), last, proof)

    def _heights_above(self, height: int) -> range:
        """Heights whose records turn today's bytes into those of `height`, newest first."""
        return range(self._newest(), height, -1)

    def _entries_at(
        self, height: int, first: bytes, last: bytes, max_bytes: int | None = None
    ) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """Path and entry of all in an interval after a height, and how far of it was read."""
        now = entries_between(self._storage, first, last, max_bytes)
        if max_bytes is not None and sum([len(entry) for _, entry in now]) >= max_bytes:
            last = now[-1][0]
        entries = dict(now)
        for later in self._heights_above(height):
            entries.update(self._history.undo(later).entries(first, last))
        return sorted([item for item in entries.items() if item[1]]), last

    def _crown(self, height: int, bits: int, index: int) -> Crown:
        """Half of the crown after a height: the nodes below a heap index."""
        found = self._crowns.get((height, index))
        if found is None:
            row = self.row_at(height, index << bits, 1 << bits)
            found = crown_of(bits, [(slot, node) for slot, node in enumerate(row) if node[0]])
            if len(self._crowns) >= MAX_SMALL_CROWNS:
                self._crowns.pop(next(iter(self._crowns)), None)
            self._crowns[height, index] = found
        return found

    def row_at(self, height: int, first: int, count: int) -> list[Node]:
        """Neighbouring nodes of one of the remembered rows after a height."""
        row = self._rows.row(first, count)
        for later in self._heights_above(height):
            for at, node in self._history.undo(later).nodes(first, count):
                row[at - first] = node
        return row

    def _prove(self, path: bytes, height: int) -> MapProof:
        top = self._crown(height, TOP_BITS, 1).descend(slot_of(path, 0, TOP_BITS))
        siblings, node, index = list(top.siblings), top.node, (1 << TOP_BITS) | top.slot
        if node[0] != EMPTY:
            low_crown = self._crown(height, LOW_BITS, index)
            slot = slot_of(path, TOP_BITS, LOW_BITS)
            low = low_crown.descend(slot)
            if low_crown.root[1] != node[1]:
                raise map_damage(f"a row of nodes below {index}")
            siblings += low.siblings
            node, index = low.node, index << LOW_BITS | low.slot
        while node[0] == DIVIDED:
            page = self._page_at(index, height, node)
            more, node, slot = descend_page(page, path, index.bit_length() - 1)
            siblings += more
            index = index << PAGE_BITS | slot
        leaf = None
        if node[0] in (LEAF, BRANCH):
            leaf = self._descend_bucket(path, height, node, index, siblings)
        return _proof(siblings, leaf)

    def _descend_bucket(
        self, path: bytes, height: int, node: Node, index: int, siblings: list[bytes]
    ) -> tuple[bytes, bytes] | None:
        entries = dict(self._entries_at(height, *paths_below(index))[0])
        values = {own: unpack_entry(entry)[1] for own, entry in entries.items()}
        bucket = b"".join([own + leaf_hash(own, value) for own, value in values.items()])
        depth = index.bit_length() - 1
        if bucket_node(bucket, depth) != node:
            raise map_damage(f"the entries below node {index:#x} at height {height}")
        if node[0] == LEAF:  # it stands higher than its slot, where the way down ended
            found: bytes | None = bucket[:32]
        else:
            more, found = descend_bucket(bucket, path, depth)
            siblings += more
        return None if found is None else (found, sha256(values[found]).digest())

    def _page_at(self, index: int, height: int, node: Node) -> bytes:
        page = self._storage.get(page_key(index))
        for later in self._heights_above(height):
            old = self._history.undo(later).page(index)
            if old is not None:
                page = old
        if page is None or page_node(page) != node:
            raise map_damage(f"the page of node {index:#x} at height {height}")
        return page


def _proof(siblings: Sequence[bytes], leaf: tuple[bytes, bytes] | None) -> MapProof:
    present = [(level, sibling) for level, sibling in enumerate(siblings) if sibling != EMPTY_ROOT]
    bitmap = sum([1 << level for level, _ in present])
    return MapProof(len(siblings), bitmap, tuple([sibling for _, sibling in present]), leaf)
