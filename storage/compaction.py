"""Retiring a pack beside reads and writes: what is kept is written again, the rest is forgotten, the file removed.

The work goes in slices. What a slice keeps is read and hashed without any lock. Then, under the commit lock and in one
durable change of the index, the copies take the place of the originals and dead blocks are forgotten: never before the
copies are durable, and only those that no lease protects. A crash leaves a block at one of its places, or a dead block
in the index for a later collection. The pack itself goes last, when the index points nowhere into it.

Slices are small, so that a put waits for one sync or two. Readers are never held up: one that looked a block up before
it moved finds the pack shortened, and looks it up again.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import StoreDamaged
from storage.collectable import PackInfo, Retired
from storage.files import PackFiles, disk_error, write_fully
from storage.index import BlockIndex
from storage.leases import Leases
from storage.leveldb import REPAIR_HINT
from storage.records import PACK_HEADER_BYTES, PackHeader, Record, decode_pack_header, encode_pack_header
from storage.scan import BadRange, walk

SLICE_BYTES = 4 * 1024 * 1024
SLICE_BLOCKS = 128
"""Reads wait for Python's own lock while a slice is put together: small slices keep that below a millisecond."""

MAX_STOPS = 100
"""A slice is tried so often while `stop` says that what to keep has to be asked anew."""


class Hands(Protocol):
    """What the store does for a compaction; all of it is called under the commit lock."""

    def seal(self, pack: int) -> int:
        """Finish the pack if it is the one that is written to; its length. Raises NotFound for no such pack."""
        ...

    def move(self, blocks: Sequence[tuple[Cid, bytes]], forgotten: Sequence[Cid], pack: int) -> int:
        """Write blocks of a pack again and forget others, durably; bytes written. Raises DiskFull."""
        ...

    def forget_pack(self, pack: int) -> None:
        """Forget a pack that the index points at no more, durably. Raises DiskFull."""
        ...

    def freed(self, size: int) -> None:
        """That many bytes have been removed."""
        ...


@dataclass(slots=True)
class _Slice:
    """Records of one pack that wait for their turn: to be kept, and dead as far as the pins say."""

    kept: deque[Record] = field(default_factory=deque)
    dead: list[Record] = field(default_factory=list)
    size: int = 0

    @property
    def full(self) -> bool:
        """Whether it is as large as a slice may be."""
        return self.size >= SLICE_BYTES or len(self.kept) + len(self.dead) >= SLICE_BLOCKS

    def keep(self, record: Record) -> None:
        """Take a block that stays."""
        self.kept.append(record)
        self.size += record.length

    def take(self) -> list[Record]:
        """The blocks to keep now; a slice of what was dead before may hold more."""
        taken: list[Record] = []
        size = 0
        while self.kept and size < SLICE_BYTES:
            taken.append(self.kept.popleft())
            size += taken[-1].length
        self.size -= size
        return taken


class Compaction:
    """Retires the packs of one store, one at a time."""

    def __init__(self, packs: PackFiles, index: BlockIndex, leases: Leases, lock: threading.Lock, hands: Hands) -> None:
        self._packs = packs
        self._index = index
        self._leases = leases
        self._lock = lock
        self._hands = hands

    def generations(self, limits: dict[int, int]) -> list[PackInfo]:
        """The packs that hold records, in the order in which they were written."""
        return [
            PackInfo(pack, length, None, self._packs.path(pack).stat().st_mtime)
            for pack, length in sorted(limits.items())
            if length > PACK_HEADER_BYTES and self._packs.path(pack).exists()
        ]

    def records_of(self, pack: int, length: int) -> Iterator[Record]:
        """The records of a pack that the index points at. Raises StoreDamaged."""
        try:
            for item in walk(self._packs, pack, PACK_HEADER_BYTES, length, hashed=False):
                if isinstance(item, BadRange):
                    raise self._damaged(item)
                entry = self._index.lookup(item.cid.multihash)
                if entry is not None and (entry.pack, entry.offset) == (pack, item.offset):
                    yield item
        except OSError as error:
            path = self._packs.path(pack)
            raise StoreDamaged(f"{path} can't be read: {error.strerror}", hint=REPAIR_HINT) from error

    def retire(self, pack: int, keep: Callable[[Cid], bool], stop: Callable[[], bool]) -> Retired:
        """See Collectable.retire."""
        done = Retired()
        with self._held(done):
            length = self._hands.seal(pack)
        waiting = _Slice()
        for record in self.records_of(pack, length):
            if keep(record.cid):
                waiting.keep(record)
            else:
                waiting.dead.append(record)
            if waiting.full and not self._settle(pack, waiting, keep, stop, done):
                return done
        while waiting.kept or waiting.dead:
            if not self._settle(pack, waiting, keep, stop, done):
                return done
        with self._held(done):
            self._hands.forget_pack(pack)
        done.bytes_freed = remove_retired(self._packs, pack)
        with self._held(done):
            self._hands.freed(done.bytes_freed)
        done.complete = True
        return done

    def _settle(
        self, pack: int, waiting: _Slice, keep: Callable[[Cid], bool], stop: Callable[[], bool], done: Retired
    ) -> bool:
        """Carry out a slice; what turned out to be protected waits to be kept. False when there was no end of stops."""
        for _ in range(MAX_STOPS):
            kept = waiting.take()
            blocks = [(record.cid, self._read(record)) for record in kept]
            with self._held(done):
                try:
                    doomed = self._leases.doom((item.cid.multihash, (pack, item.offset)) for item in waiting.dead)
                    stopped = bool(doomed) and stop()
                    gone = [] if stopped else [item.cid for item in waiting.dead if item.cid.multihash in doomed]
                    done.bytes_rewritten += self._hands.move(blocks, gone, pack)
                finally:
                    self._leases.spare()
            done.blocks_kept += len(kept)
            done.blocks_forgotten += len(gone)
            dead, waiting.dead = waiting.dead, []
            for record in dead:
                if record.cid.multihash not in doomed or (stopped and keep(record.cid)):
                    waiting.keep(record)
                elif stopped:
                    waiting.dead.append(record)
            if not stopped:
                return True
        return False

    def _held(self, done: Retired) -> "_Hold":
        return _Hold(self._lock, done)

    def _read(self, record: Record) -> bytes:
        data = self._packs.read(record.pack, record.length, record.data_offset)
        if not record.cid.matches(data):
            reason = "the bytes do not match the CID"
            raise self._damaged(BadRange(record.pack, record.offset, record.end, reason, record))
        return data

    def _damaged(self, bad: BadRange) -> StoreDamaged:
        damage = bad.damage(self._packs)
        whose = f" (block {damage.cid})" if damage.cid is not None else ""
        return StoreDamaged(
            f"{damage.file} is damaged at byte {damage.offset}{whose}: {damage.reason}", hint=REPAIR_HINT
        )


class _Hold:
    """The commit lock, and the longest time that it was held."""

    def __init__(self, lock: threading.Lock, done: Retired) -> None:
        self._lock = lock
        self._done = done
        self._since = 0.0

    def __enter__(self) -> None:
        self._lock.acquire()
        self._since = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        held = time.perf_counter() - self._since
        self._lock.release()
        self._done.longest_hold_ms = max(self._done.longest_hold_ms, held * 1000)


def needs_header(packs: PackFiles, pack: int) -> bool:
    """Whether a retired pack's header has to stay, for the pack before it holds records still."""
    return _holds_records(packs, pack - 1) and _header(packs, pack) is not None


def unneeded_headers(packs: PackFiles, pack: int) -> list[int]:
    """The retired pack whose header is of no use once `pack` is retired too."""
    following = pack + 1
    return [following] if packs.path(following).exists() and is_retired(packs, following) else []


def remove_retired(packs: PackFiles, pack: int) -> int:
    """The files of a pack that the index has forgotten, and of the header behind it that it needed; bytes freed."""
    behind = unneeded_headers(packs, pack)
    return retire_file(packs, pack) + sum(retire_file(packs, number) for number in behind)


def retire_file(packs: PackFiles, pack: int, previous_length: int | None = None) -> int:
    """Remove a pack, or cut it to its header where that is needed; bytes freed. Harmless when done already.

    The header is written over in place: cutting a file needs no space, so it also works on a disk that is full. Where
    a crash has torn it, `previous_length` makes it again.
    """
    path = packs.path(pack)
    try:
        size = packs.size(pack) if path.exists() else 0
        header = _header(packs, pack) if size else None
        if header is None and size and previous_length is not None:
            header = PackHeader(pack, previous_length)
        if header is None or not _holds_records(packs, pack - 1):
            packs.forget(pack)
            path.unlink(missing_ok=True)
            packs.layer.sync_directory(path.parent)
            return size
        with packs.lease(pack) as descriptor:
            raw = encode_pack_header(PackHeader(pack, header.previous_length, retired=True))
            write_fully(packs.layer, descriptor, [raw], 0)
            packs.layer.sync(descriptor)  # whoever finds the pack cut finds out why, even without an index
            packs.layer.truncate(descriptor, PACK_HEADER_BYTES)
            packs.layer.sync(descriptor)
    except OSError as error:
        raise disk_error(error, path) from error
    return size - PACK_HEADER_BYTES


def is_retired(packs: PackFiles, pack: int) -> bool:
    """Whether nothing, or nothing but the header, is left of a pack. Raises OSError."""
    return not _holds_records(packs, pack)


def _holds_records(packs: PackFiles, pack: int) -> bool:
    if pack < 1 or not packs.path(pack).exists():
        return False
    header = _header(packs, pack)
    return header is None or not header.retired


def _header(packs: PackFiles, pack: int) -> PackHeader | None:
    header = decode_pack_header(packs.read(pack, PACK_HEADER_BYTES, 0))
    return header if header is not None and header.number == pack else None
