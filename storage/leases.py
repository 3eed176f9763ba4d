"""Leases: what protects blocks that nothing pins yet (an import under way, a retrieval, a file being read).

Rules. While a lease is open, collection removes no block that was put, found present, read or kept since it was opened.
A block that was written since then lies behind the place where the packs ended at that time: one comparison, whatever
the number of blocks. Blocks that were here before are remembered in filters of a fixed size, which never forget one of
theirs and now and then name a block too many: that block merely stays until a later collection.

Collection decides and forgets in two steps. `doom` names, atomically against every touch, what may go; from then until
`spare` a reader under a lease is told that these blocks are not here. Non-goals: leases do not outlive the process.
"""

import struct
import threading
from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import Protocol, Self

from mpisa.primitives.cid import IDENTITY, Cid
from mpisa.primitives.errors import NotReady

MAX_LEASES = 1024
MAX_LEASE_NAME = 200
FILTER_BITS = 1 << 21
FILTER_BLOCKS = 1 << 17
"""A filter is full then: it names 1 of 400 strangers."""

MAX_FILTERS = 32
"""Beyond, the two oldest become one: memory is bounded, only more strangers are named."""

Place = tuple[int, int]
"""A pack and an offset in it; later blocks have larger places."""

_POSITIONS = struct.Struct(">IIII")


class Lease(Protocol):
    """Protects blocks until it is released; a thread-safe context manager."""

    def keep(self, cids: Iterable[Cid]) -> None:
        """Also protect these, present or not."""
        ...

    def release(self) -> None:
        """Protect nothing any more; releasing twice is harmless."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class _Filter:
    """Multihashes, with false hits but no misses. Their digests are random already: no further hashing."""

    __slots__ = ("added", "bits")

    def __init__(self) -> None:
        self.bits = bytearray(FILTER_BITS // 8)
        self.added = 0

    def add(self, multihash: bytes) -> None:
        for position in _POSITIONS.unpack_from(multihash, len(multihash) - _POSITIONS.size):
            self.bits[position % FILTER_BITS >> 3] |= 1 << (position & 7)
        self.added += 1

    def holds(self, multihash: bytes) -> bool:
        bits = self.bits
        for position in _POSITIONS.unpack_from(multihash, len(multihash) - _POSITIONS.size):
            if not bits[position % FILTER_BITS >> 3] & 1 << (position & 7):
                return False
        return True

    def absorb(self, other: "_Filter") -> None:
        """Hold what the other one holds too."""
        both = int.from_bytes(self.bits, "big") | int.from_bytes(other.bits, "big")
        self.bits[:] = both.to_bytes(len(self.bits), "big")
        self.added += other.added


class StoreLease:
    """See Lease; made by Leases.open."""

    def __init__(self, leases: "Leases", number: int, what: str) -> None:
        self.what = what
        self._leases = leases
        self._number = number

    def keep(self, cids: Iterable[Cid]) -> None:
        """See Lease.keep."""
        for cid in cids:
            if cid.digest_code != IDENTITY:
                self._leases.touch(cid.require_supported().multihash)

    def release(self) -> None:
        """See Lease.release."""
        self._leases.close(self._number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Leases:
    """All leases of one store; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[int, tuple[Place, int]] = {}
        self._opened = 0
        self._filters: deque[_Filter] = deque()
        self._first = 0
        self._doomed: frozenset[bytes] = frozenset()

    def __len__(self) -> int:
        return len(self._open)

    def open(self, what: str, place: Place) -> StoreLease:
        """A lease that protects what is put behind `place`. Raises NotReady when MAX_LEASES are open."""
        with self._lock:
            if len(self._open) >= MAX_LEASES:
                raise NotReady(
                    f"{what[:MAX_LEASE_NAME]}: {MAX_LEASES} pieces of work hold blocks already",
                    hint="try again in a moment",
                )
            self._opened += 1
            newest = max(self._first + len(self._filters) - 1, self._first)
            self._open[self._opened] = (place, newest)
            return StoreLease(self, self._opened, what[:MAX_LEASE_NAME])

    def close(self, number: int) -> None:
        """End a lease, and forget what only it protected."""
        with self._lock:
            self._open.pop(number, None)
            needed = min((newest for _, newest in self._open.values()), default=None)
            while self._filters and (needed is None or self._first < needed):
                self._filters.popleft()
                self._first += 1

    def touch(self, multihash: bytes) -> bool:
        """Protect a block under the leases that are open now. False for one that is being removed this moment."""
        if not self._open:
            return True
        with self._lock:
            if multihash in self._doomed:
                return False
            if self._open:
                self._newest().add(multihash)
        return True

    def doom(self, blocks: Iterable[tuple[bytes, Place]]) -> frozenset[bytes]:
        """Those of the blocks (multihash and place) that no lease protects: absent, for readers, until `spare`."""
        with self._lock:
            start = self.start()
            self._doomed = frozenset(
                multihash for multihash, place in blocks if not self._protects(multihash, place, start)
            )
            return self._doomed

    def spare(self) -> None:
        """End what `doom` began: the blocks are gone from the index, or stay after all."""
        with self._lock:
            self._doomed = frozenset()

    def protects(self, multihash: bytes, place: Place) -> bool:
        """Whether a lease protects the block now."""
        with self._lock:
            return self._protects(multihash, place, self.start())

    def start(self) -> Place | None:
        """Where the packs ended when the oldest open lease began; None when none is open. Also without the lock."""
        return min((place for place, _ in tuple(self._open.values())), default=None)

    def _protects(self, multihash: bytes, place: Place, start: Place | None) -> bool:
        return (start is not None and place >= start) or any(known.holds(multihash) for known in self._filters)

    def _newest(self) -> _Filter:
        if not self._filters or self._filters[-1].added >= FILTER_BLOCKS:
            self._filters.append(_Filter())
        if len(self._filters) > MAX_FILTERS:
            oldest = self._filters.popleft()
            self._filters[0].absorb(oldest)
            self._first += 1
        return self._filters[-1]
