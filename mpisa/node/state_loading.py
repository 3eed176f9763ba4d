"""A state from chunks that peers sent: each verified against a trusted root before a byte of it is kept, resumable.

The chunks fill a database of its own, in the order of paths; where the next one begins is written with each. When the
last is there the map is built from the entries, its root is compared, and one synced batch makes the database a whole
store; before that nothing takes it for one. Any crash leaves a prefix of verified entries, and loading goes on from
there. A lying provider's chunk raises Rejection and leaves no trace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpisa.node.database import Database
from mpisa.node.state_storage import (
    CROWN_BITS,
    ENTRY,
    FIRST_PATH,
    KEY,
    map_damage,
    pack_entry,
    pack_node,
    page_key,
    slot_key,
    unpack_entry,
)
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.merkle import key_path
from mpisa.primitives.merkle_bucket import leaf_hash
from mpisa.primitives.merkle_builder import slots_of
from mpisa.primitives.merkle_crown import Crown
from mpisa.primitives.merkle_range import verify_range
from storage.leveldb import remove_database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from mpisa.node.database import Change
    from mpisa.node.state_reader import StateChunk
    from mpisa.primitives.merkle_crown import Node

MAX_CHUNK_ENTRIES = 100_000
BATCH_CHANGES = 10_000

_ROOT, _NEXT = b"xroot", b"xnext"
_DONE = b"\xff" * 33


class StateLoading:
    """The state of one root on its way into a directory. Raises StoreDamaged, StoreBusy, DiskFull."""

    def __init__(
        self, path: Path, root: bytes, index: Callable[[bytes, bytes], Iterable[Change]] = lambda _key, _value: ()
    ) -> None:
        """Goes on with what the directory holds of this very root; anything else in it is thrown away. `index` gives
        what the store keeps beside each key and value.
        """
        self._root = root
        self._index = index
        self._database = Database(path, "state to load")
        if self._database.get(_ROOT) != root:
            self._database.close()
            remove_database(path)
            self._database = Database(path, "state to load")
            self._database.write([(_ROOT, root), (_NEXT, FIRST_PATH)], sync=True)
        self._next = self._database.get(_NEXT) or FIRST_PATH

    @staticmethod
    def root_at(path: Path) -> bytes | None:
        """The root of the state that a directory holds a part of; None for none."""
        if not path.exists():
            return None
        database = Database(path, "state to load")
        try:
            return database.get(_ROOT)
        finally:
            database.close()

    @property
    def next_path(self) -> bytes | None:
        """Where the next chunk must begin; None when all are there."""
        return None if self._next == _DONE else self._next

    def add(self, chunk: StateChunk) -> None:
        """Keep a chunk that begins at `next_path`. Raises Rejection for one that the root doesn't bind."""
        if self._next == _DONE:
            raise Rejection(RejectionReason.BAD_PROOF, "the state is here already")
        if len(chunk.entries) > MAX_CHUNK_ENTRIES:
            raise Rejection(RejectionReason.TOO_LARGE, f"a chunk has at most {MAX_CHUNK_ENTRIES} entries")
        verify_range(self._root, self._next, chunk.last, chunk.entries, chunk.proof)
        following = chunk.next_path or _DONE
        batch: list[Change] = [(ENTRY + key_path(key), pack_entry(key, value)) for key, value in chunk.entries]
        batch += [(KEY + key, b"") for key, _ in chunk.entries]
        batch += [change for key, value in chunk.entries for change in self._index(key, value)]
        batch.append((_NEXT, following))
        self._database.write(batch, sync=False)
        self._next = following

    def finish(self, changes: Iterable[Change]) -> None:
        """Build the map, compare its root, and write the rest of the store in one synced batch; then close.

        Raises StoreDamaged when the entries, each verified when it came, don't lead to the root any more.
        """
        assert self._next == _DONE, "not every chunk is here"
        crown = Crown(CROWN_BITS)
        crown.fill(self._write_map())
        if crown.root[1] != self._root:
            raise map_damage("the state that was loaded doesn't lead to its root")
        self._database.write([(_ROOT, None), (_NEXT, None), *changes], sync=True)
        self._database.close()

    def _write_map(self) -> Iterator[tuple[int, Node]]:
        """Slots and pages, a batch at a time, while their nodes go up to the crown."""
        leaves = ((key[1:], leaf_hash(key[1:], unpack_entry(raw)[1])) for key, raw in self._database.scan(ENTRY))
        batch: list[Change] = []
        for slot, node, pages in slots_of(leaves, CROWN_BITS):
            batch.append((slot_key(slot), pack_node(node)))
            batch += [(page_key(index), page) for index, page in pages.items()]
            if len(batch) >= BATCH_CHANGES:
                self._database.write(batch, sync=False)
                batch = []
            yield slot, node
        self._database.write(batch, sync=False)

    def close(self) -> None:
        """Leave it as it is; a later StateLoading goes on. Harmless when closed already."""
        self._database.close()
