"""States held still for those who copy them: a pinned height is read from a snapshot of the database.

Blocks go on being committed; LevelDB keeps what the snapshot shows until it is closed, so a pin costs disk space and no
copy. Pins are few and don't live for ever: the oldest gives way to a new one, each ends MAX_PINNED_HEIGHTS later, and
all end when the database has to be opened again. Whoever copies then asks for another height.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from mpisa.node.state_history import History
from mpisa.node.state_reader import StateReader
from mpisa.node.state_storage import CROWN_BITS, SLOT, TOP_BITS, slot_key, unpack_node
from mpisa.primitives.merkle_crown import EMPTY_NODE

if TYPE_CHECKING:
    from mpisa.node.database import Database, DatabaseSnapshot
    from mpisa.node.state_map import StateMap
    from mpisa.node.state_reader import StateChunk
    from mpisa.primitives.merkle_crown import Node

MAX_PINS = 2
MAX_PINNED_HEIGHTS = 20_000
"""Ten minutes of a chain at full speed."""


class PinnedRows:
    """Rows of the crown in a snapshot; the upper one, which isn't stored, was copied when the pin was set."""

    def __init__(self, snapshot: DatabaseSnapshot, top: list[Node]) -> None:
        self._snapshot = snapshot
        self._top = top

    def row(self, first: int, count: int) -> list[Node]:
        """See state_reader.Rows."""
        if first == 1 << TOP_BITS:
            return list(self._top)
        first -= 1 << CROWN_BITS
        row = [EMPTY_NODE] * count
        for key, raw in self._snapshot.range(slot_key(first), slot_key(first + count)):
            row[int.from_bytes(key[len(SLOT) :], "big") - first] = unpack_node(raw)
        return row


class Pin:
    """One height held still. `newest` is the height that the snapshot was taken at."""

    def __init__(self, snapshot: DatabaseSnapshot, state: StateMap, newest: int) -> None:
        self._snapshot = snapshot
        rows = PinnedRows(snapshot, state.top_row(newest))
        self._reader = StateReader(snapshot, rows, History(snapshot), lambda: newest)

    def chunk(self, height: int, root: bytes, first: bytes, max_bytes: int) -> StateChunk:
        """As StateReader.chunk. Raises NotFound once the database was opened again."""
        return self._reader.chunk(height, root, first, max_bytes)

    def close(self) -> None:
        """Let the database forget what only this pin shows."""
        self._snapshot.close()


class Pins:
    """The pinned heights of one store; any thread may use them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._pins: dict[int, Pin] = {}

    @property
    def heights(self) -> tuple[int, ...]:
        """What is pinned, the oldest pin first."""
        with self._lock:
            return tuple(self._pins)

    def add(self, height: int, state: StateMap) -> None:
        """Hold a recent height still; harmless when it is already."""
        if height in self._pins:
            return
        snapshot = self._database.snapshot()
        try:
            state.require_recent(height)
            pin = Pin(snapshot, state, state.height_in(snapshot))
        except BaseException:
            snapshot.close()
            raise
        with self._lock:
            self._pins[height] = pin
            gone = [self._pins.pop(pinned) for pinned in list(self._pins)[:-MAX_PINS]]
        for pin in gone:
            pin.close()

    def get(self, height: int) -> Pin | None:
        """The pin of a height."""
        return self._pins.get(height)

    def remove(self, height: int) -> None:
        """Let a height go; harmless when it isn't pinned."""
        with self._lock:
            pin = self._pins.pop(height, None)
        if pin is not None:
            pin.close()

    def expire(self, height: int) -> None:
        """End what is too old once this height is reached."""
        for pinned in self.heights:
            if pinned + MAX_PINNED_HEIGHTS < height:
                self.remove(pinned)

    def close(self) -> None:
        """End all pins."""
        for height in self.heights:
            self.remove(height)
