"""Vertices and the last proposal of one node in each epoch, durable before they are sent.

Key: v epoch u64 round u64 author u32 id -> raw vertex | p epoch u64 -> last proposal (round u64, raw vertex) | e sha256
-> evidence that waits to be ordered | w epoch u64 -> why its vertices are withheld. Peers that miss ancestors or whole
ranges are answered from here, within bounds. An epoch whose vertices were found damaged after it was over is withheld:
its vertices are given to nobody and stay on the disk until the store is repaired. Reading what an engine starts with
(`all_from`, `proposal`) knows no such mercy. Non-goals: judging vertices; whoever writes has verified them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpisa.node.database import Database, prefix_end
from mpisa.primitives.digest import sha256
from mpisa.primitives.errors import NotFound, StoreDamaged

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from mpisa.node.database import Change

_VERTEX, _PROPOSAL, _EVIDENCE, _WITHHELD = b"v", b"p", b"e", b"w"
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
        kept = self._db.range(_WITHHELD, prefix_end(_WITHHELD))
        self._withheld = {int.from_bytes(key[1:], "big"): why.decode(errors="replace") for key, why in kept}

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

    def withhold(self, epoch: int, why: str) -> None:
        """From now on, after a restart too, the epoch's vertices are given to nobody. Raises DiskFull."""
        self._db.write([(_WITHHELD + _number(epoch), why.encode())], sync=True)
        self._withheld[epoch] = why

    @property
    def withheld(self) -> dict[int, str]:
        """The epochs that are withheld, ascending, and why."""
        return dict(sorted(self._withheld.items()))

    def vertex(self, epoch: int, round_number: int, author: int, vertex_id: bytes) -> bytes | None:
        """A raw vertex, or None; None where its epoch is withheld."""
        if epoch in self._withheld:
            return None
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
        """Raw vertices of rounds first..stop-1 in ascending order; whole vertices, about max_bytes of them at most.

        Raises NotFound where the epoch is withheld: "none" would mean that there are none, and whoever lost what it
        signed believes it.
        """
        if epoch in self._withheld:
            raise NotFound(f"the vertices of epoch {epoch} are damaged here", hint="ask another peer")
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
        be more. Not synced. What is withheld stays, and so does what lies right beside damage: it can't be listed.
        """
        try:
            keys = self._old_keys(epoch, _rounds_key(epoch, max(0, through) + 1), limit)
        except StoreDamaged:
            if not self._withheld:
                raise
            return False
        self._db.write([(key, None) for key in keys], sync=False)
        return bool(keys)

    def _old_keys(self, epoch: int, stop: bytes, limit: int) -> list[bytes]:
        start = _VERTEX
        for withheld in [item for item in self.withheld if item <= epoch]:
            keys = self._keys(start, _rounds_key(withheld, 0), limit)
            if keys:
                return keys
            start = _rounds_key(withheld + 1, 0)
        return self._keys(start, stop, limit)

    def _keys(self, start: bytes, stop: bytes, limit: int) -> list[bytes]:
        if start >= stop:
            return []
        return [key for key, _ in self._db.range(start, stop, limit=limit, max_bytes=PRUNED_BYTES)]

    def close(self) -> None:
        """Harmless when closed already."""
        self._db.close()
