"""Vertices and the last proposal of one node, durable before they are sent.

Key: v round u64 author u32 id -> raw vertex | p -> last proposal (round u64, raw vertex). Peers that miss ancestors
or whole ranges are answered from here, within bounds. Non-goals: judging vertices; whoever writes has verified them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpisa.node.database import Database, prefix_end

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from mpisa.node.database import Change

_VERTEX, _PROPOSAL = b"v", b"p"
PAGE_BYTES = 4 << 20


def vertex_key(round_number: int, author: int, vertex_id: bytes) -> bytes:
    """Where a vertex is kept: ascending by round, author, id."""
    return _VERTEX + round_number.to_bytes(8, "big") + author.to_bytes(4, "big") + vertex_id


class ConsensusStore:
    """See the module. Thread-safe."""

    def __init__(self, path: Path) -> None:
        """Raises StoreDamaged with a hint, or StoreBusy."""
        self._db = Database(path, "vertex store")

    def write(self, changes: Iterable[Change], *, sync: bool) -> None:
        """One batch, all or nothing. Raises DiskFull."""
        self._db.write(changes, sync=sync)

    @staticmethod
    def vertex_change(round_number: int, author: int, vertex_id: bytes, raw: bytes) -> Change:
        """What `write` takes to keep a vertex."""
        return vertex_key(round_number, author, vertex_id), raw

    @staticmethod
    def proposal_change(round_number: int, raw: bytes) -> Change:
        """What `write` takes to remember that we proposed in a round."""
        return _PROPOSAL, round_number.to_bytes(8, "big") + raw

    def vertex(self, round_number: int, author: int, vertex_id: bytes) -> bytes | None:
        """A raw vertex, or None."""
        return self._db.get(vertex_key(round_number, author, vertex_id))

    def proposal(self) -> tuple[int, bytes] | None:
        """(round, raw vertex) of our last proposal; empty raw when only the round is known."""
        raw = self._db.get(_PROPOSAL)
        return None if raw is None else (int.from_bytes(raw[:8], "big"), raw[8:])

    def highest_round(self) -> int:
        """The highest round of any vertex kept; 0 when there is none."""
        found = self._db.range(_VERTEX, prefix_end(_VERTEX), limit=1, reverse=True)
        return int.from_bytes(found[0][0][1:9], "big") if found else 0

    def rounds(self, first: int, stop: int, *, max_bytes: int, limit: int) -> list[bytes]:
        """Raw vertices of rounds first..stop-1 in ascending order; whole vertices, about max_bytes of them at most."""
        low, high = _VERTEX + first.to_bytes(8, "big"), _VERTEX + stop.to_bytes(8, "big")
        return [raw for _, raw in self._db.range(low, high, limit=limit, max_bytes=max_bytes)]

    def all_from(self, first: int) -> Iterator[bytes]:
        """Every raw vertex of rounds >= first in ascending order, a page in memory at a time."""
        start = _VERTEX + first.to_bytes(8, "big")
        while page := self._db.range(start, prefix_end(_VERTEX), max_bytes=PAGE_BYTES):
            for _, raw in page:
                yield raw
            start = page[-1][0] + b"\0"

    def close(self) -> None:
        """Harmless when closed already."""
        self._db.close()
