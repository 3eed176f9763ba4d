"""The state: every key and value on the disk, the Merkle map over them partly in memory, its recent past provable.

The crown (18 levels) stays in memory; what is below it is read when it is needed, checked against the hash that its
parent names, and kept in a cache bounded in bytes. So a start reads the slots of the crown, at most 262,144 however
large the state is, and no keys; and a value is never handed out that the root doesn't bind.

A chain block is previewed, written and published. The preview computes the root, the undo record and every change for
the database; the caller writes them together with the rest of the block in one batch; `publish` moves on. Until then
readers see the state before: whatever the preview replaced in memory is in its undo record, which is shown first. That
stays so after a write that failed, for a full disk may have kept the batch and show it once it is opened again; the
same block then comes again. One writer thread; readers in any.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mpisa.node.database import prefix_end
from mpisa.node.state_cache import ByteCache
from mpisa.node.state_history import UNDO, History, Undo, undo_key
from mpisa.node.state_reader import LOW_BITS, StateReader
from mpisa.node.state_storage import (
    CROWN_BITS,
    ENTRY,
    KEY,
    SLOT,
    TOP_BITS,
    entries_between,
    map_damage,
    pack_entry,
    pack_node,
    page_key,
    paths_below,
    slot_key,
    unpack_entry,
    unpack_node,
)
from mpisa.primitives import merkle_bucket
from mpisa.primitives.errors import NotFound, StoreDamaged
from mpisa.primitives.merkle import key_path
from mpisa.primitives.merkle_bucket import PAGE_BITS, Below, is_page, leaf_hash, page_slot
from mpisa.primitives.merkle_crown import DIVIDED, EMPTY, Crown, Node, Row, slot_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mpisa.node.database import Change
    from mpisa.node.state_reader import StateChunk
    from mpisa.node.state_storage import StateStorage
    from mpisa.primitives.merkle import MapProof

RECENT_HEIGHTS = 128
"""How far back the state can be read and proved."""
BUCKET_CACHE_BYTES = 64 * 1024 * 1024
VALUE_CACHE_BYTES = 16 * 1024 * 1024
MAX_TRIES = 4


@dataclass(slots=True)
class StateUpdate:
    """A block's changes to the state, computed and not yet written: the state root after them, what the database must
    write, and what `publish` puts into memory.
    """

    height: int
    batch: list[Change]
    values: dict[bytes, bytes | None]
    below: Below
    undo: Undo
    journal: list[Row] = field(default_factory=list, repr=False)
    root: bytes = b""


class StateMap:
    """See the module. `height` is that of the last published block; the state before `base` was never here."""

    def __init__(
        self,
        storage: StateStorage,
        height: int,
        base: int = 0,
        *,
        bucket_bytes: int = BUCKET_CACHE_BYTES,
        value_bytes: int = VALUE_CACHE_BYTES,
    ) -> None:
        self._storage = storage
        self._height = height
        self._base = base
        self._crown = Crown(CROWN_BITS)
        self._buckets: ByteCache[int] = ByteCache(bucket_bytes)
        self._values: ByteCache[bytes] = ByteCache(value_bytes)
        self._lock = threading.Lock()  # of both caches, and of the moment when a block is published
        self._pending: StateUpdate | None = None  # shown to no reader: what it replaced is
        self._is_applied = False  # whether the crown shows the pending update
        self._history = History(storage)
        self._reader = StateReader(storage, self._crown, self._history, lambda: self._history.newest(self._height))

    def load(self) -> bytes:
        """Read the slots of the crown; the state root they lead to."""
        self._crown.fill((int.from_bytes(key[1:], "big"), unpack_node(raw)) for key, raw in self._storage.scan(SLOT))
        return self._crown.root[1]

    @property
    def cached_bytes(self) -> int:
        """What both caches hold."""
        return self._buckets.size + self._values.size

    def get(self, key: bytes) -> bytes | None:
        """The value after the last published block, checked against the map. Raises StoreDamaged."""
        value = self._values.get(key)
        if value is not None:
            return value
        path = key_path(key)
        for again in range(MAX_TRIES):
            height = self._height
            try:
                value = self._read(key, path)
            except StoreDamaged:
                if again == MAX_TRIES - 1:
                    raise
                continue  # a block may have been written in between
            break
        if value is not None:
            with self._lock:
                if self._height == height and (self._pending is None or self._pending.undo.entry(path) is None):
                    self._values.put(key, value)
        return value

    def _read(self, key: bytes, path: bytes) -> bytes | None:
        index, node = self._slot(path)
        while node[0] == DIVIDED:
            page = self._content(index, node)
            slot = slot_of(path, index.bit_length() - 1, PAGE_BITS)
            index, node = index << PAGE_BITS | slot, page_slot(page, slot)
        expected = merkle_bucket.find(self._content(index, node), path) if node[0] != EMPTY else None
        if expected is None:
            return None
        entry = self._storage.get(ENTRY + path)
        pending = self._pending
        old = None if pending is None else pending.undo.entry(path)
        found, value = unpack_entry((entry if old is None else old) or b"")
        if found != key or leaf_hash(path, value) != expected:
            raise map_damage(f"the value under key {key.hex()}")
        return value

    def _slot(self, path: bytes) -> tuple[int, Node]:
        """The heap index and the node of the slot that a path leads to, after the last published block."""
        index = (1 << CROWN_BITS) | slot_of(path, 0, CROWN_BITS)
        node = self._crown.node(index)
        pending = self._pending
        if pending is not None:
            for _, old in pending.undo.nodes(index, 1):
                node = old
        return index, node

    def _content(self, index: int, node: Node) -> bytes:
        """What is below a node, after the last published block. Raises StoreDamaged unless its hash is the node's."""
        content = self._buckets.get(index)
        if content is not None:
            return content
        pending = self._pending
        if pending is not None and index in pending.below.old:
            return pending.below.old[index]
        height = self._height
        if node[0] == EMPTY:
            return b""
        if node[0] == DIVIDED:
            content = self._storage.get(page_key(index)) or b""
        else:
            found = [
                (path, unpack_entry(entry)[1]) for path, entry in entries_between(self._storage, *paths_below(index))
            ]
            content = b"".join([path + leaf_hash(path, value) for path, value in found])
        if merkle_bucket.content_node(content, index.bit_length() - 1) != node:
            raise map_damage(f"what is below node {index:#x}")
        with self._lock:
            if self._height == height and (self._pending is None or index not in self._pending.below.new):
                self._buckets.put(index, content)
        return content

    def preview(self, changes: Iterable[tuple[bytes, bytes | None]]) -> StateUpdate:
        """The state after these changes, (key, None) to remove; the last one for a key wins. Only the writer calls it.

        The update that it gave before, if it wasn't published, is void.
        """
        self._withdraw()
        wanted = dict(changes)
        ordered = sorted([(key_path(key), key, value) for key, value in wanted.items()])
        below = Below()
        slots = self._apply(ordered, below)
        entries, keys = self._old_entries(ordered)
        pages = {index: old for index in sorted(below.pages) if is_page(old := below.old.get(index, b""))}
        undo = Undo.make(entries, self._old_nodes(slots), pages)
        height = self._height + 1
        batch: list[Change] = [
            (ENTRY + path, None if value is None else pack_entry(key, value)) for path, key, value in ordered
        ]
        batch += keys
        batch += [(slot_key(slot), pack_node(node) if node[0] else None) for slot, node in slots]
        batch += _page_changes(below)
        batch.append((undo_key(height), undo.stored()))
        if height >= RECENT_HEIGHTS:
            batch.append((undo_key(height - RECENT_HEIGHTS), None))
        update = StateUpdate(height, batch, wanted, below, undo)
        self._history.keep(height, undo)
        self._pending = update  # from here on readers look at the undo record first
        self._is_applied = True
        update.journal += self._crown.replace(slots)
        update.root = self._crown.root[1]
        return update

    def _withdraw(self) -> None:
        """Undo in memory what was previewed and not published. Its record stays: the disk may have the batch."""
        if self._pending is not None and self._is_applied:
            self._crown.restore(self._pending.journal)
            self._is_applied = False

    def publish(self, update: StateUpdate) -> None:
        """Make an update, whose batch is written now, what readers see."""
        assert update is self._pending, "a later preview made this one void"
        with self._lock:
            for index, content in update.below.new.items():
                if content is None:
                    self._buckets.drop(index)
                else:
                    self._buckets.put(index, content)
            for key, value in update.values.items():
                if value is None:
                    self._values.drop(key)
                else:
                    self._values.put(key, value)
            self._height = update.height
            self._pending, self._is_applied = None, False
        self._history.forget(update.height - RECENT_HEIGHTS)

    def value_at(self, key: bytes, height: int) -> bytes | None:
        """A value after a recent height. Raises NotFound, StoreDamaged."""
        self.require_recent(height)
        value, path = self.get(key), key_path(key)
        for later in range(self._history.newest(self._height), height, -1):
            old = self._history.undo(later).entry(path)
            if old is not None:
                value = unpack_entry(old)[1] if old else None
        return value

    def prove(self, key: bytes, height: int, root: bytes) -> MapProof:
        """What the map of a recent height, which has this root, holds under the key. Raises NotFound, StoreDamaged."""
        self.require_recent(height)
        return self._reader.prove(key_path(key), height, root)

    def chunk(self, height: int, root: bytes, first: bytes, max_bytes: int) -> StateChunk:
        """As StateReader.chunk, of a recent height."""
        self.require_recent(height)
        return self._reader.chunk(height, root, first, max_bytes)

    def top_row(self, height: int) -> list[Node]:
        """The upper row of the crown after a recent height."""
        return self._reader.row_at(height, 1 << TOP_BITS, 1 << TOP_BITS)

    def height_in(self, storage: StateStorage) -> int:
        """The height that a snapshot of the database shows."""
        found = storage.range(UNDO, prefix_end(UNDO), limit=1, reverse=True)
        return max(self._base, int.from_bytes(found[0][0][len(UNDO) :], "big")) if found else self._base

    def scan(self, prefix: bytes, after: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        """Entries whose key has the prefix, in key order, behind the key `after`."""
        start = KEY + (prefix if after is None else after + b"\0")
        found = []
        for stored, _ in self._storage.range(start, prefix_end(KEY + prefix), limit=limit):
            value = self.get(stored[1:])
            if value is not None:  # else removed meanwhile
                found.append((stored[1:], value))
        return found

    def require_recent(self, height: int) -> None:
        """Raises NotFound for a height whose state isn't kept."""
        oldest, newest = self.kept_heights
        if not oldest <= height <= newest:
            raise NotFound(
                f"the state at height {height} isn't kept, only from {oldest} to {newest}",
                hint=f"ask for a height from {oldest} to {newest}",
            )

    @property
    def kept_heights(self) -> tuple[int, int]:
        """The oldest and the newest height whose state can be read and proved."""
        return max(self._base, self._height - RECENT_HEIGHTS), self._height

    def _apply(self, ordered: Sequence[tuple[bytes, bytes, bytes | None]], below: Below) -> list[tuple[int, Node]]:
        """The new nodes of the slots that changed, ascending."""
        by_slot: dict[int, list[tuple[bytes, bytes | None]]] = {}
        for path, _, value in ordered:
            change = (path, None if value is None else leaf_hash(path, value))
            index = 1 << CROWN_BITS | int.from_bytes(path[:4], "big") >> (32 - CROWN_BITS)
            if index in by_slot:
                by_slot[index].append(change)
            else:
                by_slot[index] = [change]
        load, old = self._content, self._crown.nodes(list(by_slot))
        return [
            (index ^ 1 << CROWN_BITS, merkle_bucket.apply(index, node, by_slot[index], load, below))
            for index, node in old
        ]

    def _old_entries(
        self, ordered: Sequence[tuple[bytes, bytes, bytes | None]]
    ) -> tuple[list[tuple[bytes, bytes]], list[Change]]:
        """The old entry of every changed path, and the changes of the index by key."""
        entries: list[tuple[bytes, bytes]] = []
        keys: list[Change] = []
        for path, key, value in ordered:
            old = self.get(key)
            entries.append((path, b"" if old is None else pack_entry(key, old)))
            if old is None and value is not None:
                keys.append((KEY + key, b""))
            elif old is not None and value is None:
                keys.append((KEY + key, None))
        return entries, keys

    def _old_nodes(self, slots: Sequence[tuple[int, Node]]) -> list[tuple[int, Node]]:
        """The nodes that a change of these slots replaces, of the two rows of the crown that are remembered."""
        tops = dict.fromkeys([slot >> LOW_BITS | 1 << TOP_BITS for slot, _ in slots])
        return self._crown.nodes([*tops, *[slot | 1 << CROWN_BITS for slot, _ in slots]])


def _page_changes(below: Below) -> list[Change]:
    changes: list[Change] = []
    for index in sorted(below.pages):
        content = below.new.get(index)
        changes.append((page_key(index), content if content is not None and is_page(content) else None))
    return changes
