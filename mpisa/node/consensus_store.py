"""Vertices and the last proposal of one node in each epoch, durable before they are sent.

Key: v epoch u64 round u64 author u32 id -> raw vertex | p epoch u64 -> last proposal (round u64, raw vertex) | e sha256
-> evidence that waits to be ordered. Peers that miss ancestors or whole ranges are answered from here, within bounds.
Non-goals: judging vertices; whoever writes has verified them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpisa.node.database import Database, prefix_end
from mpisa.primitives.digest import sha256

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from mpisa.node.database import Change

_VERTEX, _PROPOSAL, _EVIDENCE = b"v", b"p", b"e"
PAGE_BYTES = 4 << 20
PRUNED_BYTES = 16 << 20
"""Of vertices that are read in order to forget them."""


def _number(value: int) -> bytes:
    return value.to_bytes(8, "big")


def vertex_key(epoch: int, round_number: int, author: int, vertex_id: bytes) -> bytes:
    """Where a vertex is kept: ascending by epoch, round, author, id."""
    return _rounds_key(epoch, round_number) + author.to_bytes(4, "big") + vertex_id


def _rounds_key(epoch: int, round_number: int) -> bytes:
    return _VERTEX + _number(epoch) + _number(round_number)


class ConsensusStore:
    """See the module. Thread-safe."""

    def __init__(self, path: Path) -> None:
        """Raises StoreDamaged with a hint, or StoreBusy."""
        self._db = Database(path, "vertex store")

    def write(self, changes: Iterable[Change], *, sync: bool) -> None:
        """One batch, all or nothing. Raises DiskFull."""
        self._db.write(changes, sync=sync)

    @staticmethod
    def vertex_change(epoch: int, round_number: int, author: int, vertex_id: bytes, raw: bytes) -> Change:
        """What `write` takes to keep a vertex."""
        return vertex_key(epoch, round_number, author, vertex_id), raw

    @staticmethod
    def proposal_change(epoch: int, round_number: int, raw: bytes) -> Change:
        """What `write` takes to remember that we proposed in a round."""
        return _PROPOSAL + _number(epoch), _number(round_number) + raw

    @staticmethod
    def evidence_change(raw: bytes, *, keep: bool = True) -> Change:
        """What `write` takes to keep a piece of evidence, or to forget it."""
        return _EVIDENCE + sha256(raw), raw if keep else None

    def evidence(self, limit: int) -> list[bytes]:
        """The evidence that is kept, in no particular order."""
        return [raw for _, raw in self._db.range(_EVIDENCE, prefix_end(_EVIDENCE), limit=limit)]

    def vertex(self, epoch: int, round_number: int, author: int, vertex_id: bytes) -> bytes | None:
        """A raw vertex, or None."""
        return self._db.get(vertex_key(epoch, round_number, author, vertex_id))

    def proposal(self, epoch: int) -> tuple[int, bytes] | None:
        """(round, raw vertex) of our last proposal in an epoch; empty raw when only the round is known."""
        raw = self._db.get(_PROPOSAL + _number(epoch))
        return None if raw is None else (int.from_bytes(raw[:8], "big"), raw[8:])

    def highest_epoch(self) -> int:
        """The latest epoch of any vertex kept; 0 when there is none."""
        found = self._db.range(_VERTEX, prefix_end(_VERTEX), limit=1, reverse=True)
        return int.from_bytes(found[0][0][1:9], "big") if found else 0

    def highest_round(self, epoch: int) -> int:
        """The highest round of any vertex kept of an epoch; 0 when there is none."""
        prefix = _VERTEX + _number(epoch)
        found = self._db.range(prefix, prefix_end(prefix), limit=1, reverse=True)
        return int.from_bytes(found[0][0][9:17], "big") if found else 0

    def rounds(self, epoch: int, first: int, stop: int, *, max_bytes: int, limit: int) -> list[bytes]:
        """Raw vertices of rounds first..stop-1 in ascending order; whole vertices, about max_bytes of them at most."""
        low, high = _rounds_key(epoch, first), _rounds_key(epoch, stop)
        return [raw for _, raw in self._db.range(low, high, limit=limit, max_bytes=max_bytes)]

    def all_from(self, epoch: int, first: int) -> Iterator[bytes]:
        """Every raw vertex of an epoch's rounds >= first in ascending order, a page in memory at a time."""
        start, end = _rounds_key(epoch, first), prefix_end(_VERTEX + _number(epoch))
        while page := self._db.range(start, end, max_bytes=PAGE_BYTES):
            for _, raw in page:
                yield raw
            start = page[-1][0] + b"\0"

    def prune(self, epoch: int, through: int, limit: int) -> bool:
        """Forgets vertices of earlier epochs, and of this one up to a round, at most `limit` of them; whether there may
        be more. Not synced.
        """
        stop = _rounds_key(epoch, max(0, through) + 1)
        keys = [key for key, _ in self._db.range(_VERTEX, stop, limit=limit, max_bytes=PRUNED_BYTES)]
        self._db.write([(key, None) for key in keys], sync=False)
        return bool(keys)

    def close(self) -> None:
        """Harmless when closed already."""
        self._db.close()
