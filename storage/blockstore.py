"""What every block store promises, and the store that lives in memory.

A block is immutable bytes under one CID. `put` returns once its blocks are durable; `get` returns bytes that match the
CID or raises, never anything else. A store finds a block by multihash, so the CIDv0 and CIDv1 forms of a CID name the
same block. All methods may be called from any thread.

Callers of `put` have hashed the bytes (`Cid.of` or `Cid.matches`): the store does not hash twice on the way in, only on
the way out.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from mpisa.primitives.cid import IDENTITY, Cid
from mpisa.primitives.errors import DiskFull, IntegrityError, NotFound, UsageError
from storage.leases import Lease, Leases

MAX_BLOCK_BYTES = 2 * 1024 * 1024
"""The largest block: what IPFS peers exchange at most."""

MAX_CID_BYTES = 64
"""The longest CID that is stored, in binary."""

MAX_REPORTED_DAMAGES = 1000
"""A report counts every damage but describes no more than this many."""

Progress = Callable[[int], None]
"""Called with the number of bytes done so far."""


class QuotaExceeded(DiskFull):
    """The store would grow beyond the size it was given."""

    code: ClassVar[str] = "quota-exceeded"


@dataclass(frozen=True, slots=True)
class StoreStats:
    """Sizes of a store: number of blocks, bytes on disk (records with headers) and the limit, if there is one; how many
    leases are open.
    """

    blocks: int
    bytes_used: int
    max_bytes: int | None
    packs: int
    leases: int = 0


@dataclass(frozen=True, slots=True)
class Damage:
    """One damaged place: the file, the byte offset in it, whose block it was (None when unknown), what is wrong."""

    file: str
    offset: int
    cid: Cid | None
    reason: str


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """Outcome of hashing everything again. `damaged` counts all damage, `damages` describes the first of it."""

    blocks: int
    bytes_hashed: int
    damaged: int
    damages: tuple[Damage, ...]

    @property
    def intact(self) -> bool:
        """True when nothing is damaged."""
        return self.damaged == 0


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What a repair did: blocks kept, CIDs that are lost (fetch them again), places set aside in the quarantine."""

    kept: int
    lost: tuple[Cid, ...]
    quarantined: tuple[Damage, ...]


class BlockStore(Protocol):
    """Blocks by CID; thread-safe."""

    def get(self, cid: Cid) -> bytes:
        """The block's bytes, hashed again. Raises NotFound, or StoreDamaged when they no longer match."""
        ...

    def has(self, cid: Cid) -> bool:
        """Whether the block is here (its bytes are not looked at)."""
        ...

    def size_of(self, cid: Cid) -> int:
        """Length of the block in bytes. Raises NotFound."""
        ...

    def lengths(self, cids: Sequence[Cid]) -> list[int | None]:
        """The length of each block in bytes, None for one that is not here: one call for many."""
        ...

    def lease(self, what: str) -> Lease:
        """Blocks that are put, found present or read while it is open aren't collected until it is released.

        `what` says what for. Raises NotReady when MAX_LEASES are open.
        """
        ...

    def put(self, blocks: Sequence[tuple[Cid, bytes]]) -> None:
        """Store blocks; durable on return. Raises DiskFull, QuotaExceeded or IntegrityError: then none is promised."""
        ...

    def cids(self) -> Iterator[Cid]:
        """Every CID, ordered by multihash."""
        ...

    def stats(self) -> StoreStats:
        """Current sizes."""
        ...

    def verify(self, progress: Progress | None = None) -> VerifyReport:
        """Hash every block again; changes nothing."""
        ...

    def repair(self) -> RepairReport:
        """Set damaged blocks aside and forget them, so that the rest can be served."""
        ...

    def close(self) -> None:
        """Release everything; the store must not be used any more. Closing twice is harmless."""
        ...


def check_block(cid: Cid, data: bytes) -> None:
    """Refuse a block that no store takes: too large, under a hash that can't be checked. Does not hash."""
    cid.require_supported()
    if len(data) > MAX_BLOCK_BYTES:
        raise UsageError(f"block {cid} has {len(data)} bytes; at most {MAX_BLOCK_BYTES} are stored")
    if len(cid.to_bytes()) > MAX_CID_BYTES:
        raise UsageError(f"CID {cid} is longer than {MAX_CID_BYTES} bytes")


def is_inline(cid: Cid) -> bool:
    """Whether the CID holds its block itself (identity hash): such a block is never stored and always there."""
    return cid.digest_code == IDENTITY


class MemoryBlockStore:
    """A store in memory, for tests and for work that needs no disk."""

    def __init__(self, *, max_bytes: int | None = None) -> None:
        self._blocks: dict[bytes, tuple[Cid, bytes]] = {}
        self._bytes = 0
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._leases = Leases()

    def get(self, cid: Cid) -> bytes:
        """See BlockStore.get."""
        if is_inline(cid):
            return cid.digest
        found = self._blocks.get(cid.multihash)
        if found is None:
            raise not_found(cid)
        if not cid.matches(found[1]):
            raise IntegrityError(f"block {cid} does not match its CID")
        return found[1]

    def has(self, cid: Cid) -> bool:
        """See BlockStore.has."""
        return is_inline(cid) or cid.multihash in self._blocks

    def size_of(self, cid: Cid) -> int:
        """See BlockStore.size_of."""
        if is_inline(cid):
            return len(cid.digest)
        found = self._blocks.get(cid.multihash)
        if found is None:
            raise not_found(cid)
        return len(found[1])

    def lengths(self, cids: Sequence[Cid]) -> list[int | None]:
        """See BlockStore.lengths."""
        return [self.size_of(cid) if self.has(cid) else None for cid in cids]

    def lease(self, what: str) -> Lease:
        """See BlockStore.lease. Nothing is collected from memory, so it protects what is safe anyway."""
        return self._leases.open(what, (0, 0))

    def put(self, blocks: Sequence[tuple[Cid, bytes]]) -> None:
        """See BlockStore.put."""
        for cid, data in blocks:
            check_block(cid, data)
        with self._lock:
            fresh = {c.multihash: (c, d) for c, d in blocks if not is_inline(c) and c.multihash not in self._blocks}
            added = sum(len(data) for _, data in fresh.values())
            if self._max_bytes is not None and self._bytes + added > self._max_bytes:
                raise quota_exceeded(self._max_bytes, self._bytes, added)
            self._blocks.update(fresh)
            self._bytes += added

    def cids(self) -> Iterator[Cid]:
        """See BlockStore.cids."""
        with self._lock:
            found = sorted(self._blocks.items())
        return iter([cid for _, (cid, _) in found])

    def stats(self) -> StoreStats:
        """See BlockStore.stats."""
        return StoreStats(blocks=len(self._blocks), bytes_used=self._bytes, max_bytes=self._max_bytes, packs=0)

    def verify(self, progress: Progress | None = None) -> VerifyReport:
        """See BlockStore.verify."""
        done = 0
        damages = []
        for cid, data in list(self._blocks.values()):
            if not cid.matches(data):
                damages.append(Damage("memory", 0, cid, "the bytes do not match the CID"))
            done += len(data)
            if progress is not None:
                progress(done)
        return VerifyReport(len(self._blocks), done, len(damages), tuple(damages[:MAX_REPORTED_DAMAGES]))

    def repair(self) -> RepairReport:
        """See BlockStore.repair."""
        with self._lock:
            bad = [(cid, data) for cid, data in self._blocks.values() if not cid.matches(data)]
            for cid, data in bad:
                del self._blocks[cid.multihash]
                self._bytes -= len(data)
        damages = tuple(Damage("memory", 0, cid, "the bytes do not match the CID") for cid, _ in bad)
        return RepairReport(len(self._blocks), tuple(cid for cid, _ in bad), damages)

    def close(self) -> None:
        """See BlockStore.close."""


def not_found(cid: Cid) -> NotFound:
    """The error for a block that is not in the store."""
    return NotFound(f"block {cid} is not in this store")


def quota_exceeded(max_bytes: int, used: int, wanted: int) -> QuotaExceeded:
    """The error for a write beyond the store's size limit."""
    return QuotaExceeded(
        f"the store may hold {max_bytes} bytes, {used} are used and {wanted} more do not fit",
        hint="raise the limit in config.toml (storage.max_bytes), or give the node a larger home",
    )
