"""The block store on disk: packs and an index in one directory.

    LOCK  index/ (LevelDB)  packs/00000001.pack ...  quarantine/ (what repairs set aside)

Concurrent puts share one fdatasync: whoever finds no commit under way commits for all that wait. Reads use pread and an
index lookup, beside any write. Every read is hashed. See recovery.py for what opening does, pack_writer.py for what is
synced, check.py for verify and repair, compaction.py for how space comes back.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import StoreDamaged
from storage.appending import Appender, pack_bytes_for
from storage.blockstore import (
    Damage,
    Progress,
    QuotaExceeded,
    RepairReport,
    StoreStats,
    VerifyReport,
    check_block,
    is_inline,
    not_found,
)
from storage.check import quarantine_damage, verify_packs
from storage.collectable import PackInfo, Retired
from storage.commit_queue import CommitQueue, Request
from storage.compaction import Compaction
from storage.files import DirectoryLock, FileLayer, OsFiles, PackFiles, disk_error, make_directory
from storage.index import BlockIndex, Entry
from storage.leases import Lease, Leases
from storage.leveldb import REPAIR_HINT
from storage.opening import drop_unreadable_index, open_index
from storage.records import PACK_HEADER_BYTES, RECORD_HEADER_BYTES, decode_record_header, record_size
from storage.recovery import OnDamage, refuse

ROOM_SECONDS = 30.0
"""A put that exceeds the limit waits so long for collection to make room."""


class DiskBlockStore:
    """Blocks in packs; thread-safe, one process at a time."""

    def __init__(
        self,
        path: Path,
        packs: PackFiles,
        index: BlockIndex,
        appender: Appender,
        leases: Leases,
        lock: DirectoryLock,
        index_rebuilt: bool,
    ) -> None:
        self.index_rebuilt = index_rebuilt
        """Whether opening found the index unreadable and made it anew."""
        self._path = path
        self._packs = packs
        self._index = index
        self._appender = appender
        self._leases = leases
        self._lock = lock
        self._queue = CommitQueue(self._commit)
        self._compaction = Compaction(packs, index, leases, self._queue.lock, appender)
        self._upkeep = threading.Lock()
        """Held by whoever moves blocks: a repair or a compaction."""
        self._make_room: Callable[[int], bool] | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        max_bytes: int | None = None,
        files: FileLayer | None = None,
        max_pack_bytes: int | None = None,
    ) -> "DiskBlockStore":
        """Open or create the store in a directory, finishing what a crash left. `max_bytes` bounds what all
        packs take, and the size of one unless that is given.

        Raises StoreBusy when another process holds it, StoreDamaged (with where and what to do), DiskFull.
        """
        return cls._open(path, max_bytes, files, max_pack_bytes, refuse)

    @classmethod
    def _open(
        cls, path: Path, max_bytes: int | None, files: FileLayer | None, max_pack_bytes: int | None, on_damage: OnDamage
    ) -> "DiskBlockStore":
        lock: DirectoryLock | None = None
        try:
            make_directory(path / "packs")
            lock = DirectoryLock(path)
            packs = PackFiles(path / "packs", files or OsFiles())
            index, tail, rebuilt = open_index(path / "index", packs, on_damage)
        except BaseException as error:
            if lock is not None:
                lock.release()
            if isinstance(error, OSError):
                raise disk_error(error, path) from error
            raise
        leases = Leases()
        appender = Appender(packs, index, tail, leases, max_bytes, max_pack_bytes or pack_bytes_for(max_bytes))
        return cls(path, packs, index, appender, leases, lock, rebuilt)

    def get(self, cid: Cid) -> bytes:
        """See BlockStore.get."""
        if is_inline(cid):
            return cid.digest
        while True:
            entry = self._lookup(cid)
            if entry is None:
                raise not_found(cid)
            try:
                return self._read(cid, entry)
            except (OSError, StoreDamaged) as error:
                if self._index.lookup(cid.multihash) != entry:
                    continue  # it has moved since, or was forgotten
                if isinstance(error, StoreDamaged):
                    raise
                raise self._unreadable(cid, entry, error) from error

    def has(self, cid: Cid) -> bool:
        """See BlockStore.has."""
        if is_inline(cid):
            return True
        return self._leases.touch(cid.multihash) and self._index.contains(cid.multihash)

    def size_of(self, cid: Cid) -> int:
        """See BlockStore.size_of."""
        if is_inline(cid):
            return len(cid.digest)
        entry = self._lookup(cid)
        if entry is None:
            raise not_found(cid)
        return entry.length

    def lengths(self, cids: Sequence[Cid]) -> list[int | None]:
        """See BlockStore.lengths."""
        return [self._length(cid) for cid in cids]

    def lease(self, what: str) -> Lease:
        """See BlockStore.lease."""
        return self._leases.open(what, self._appender.end)

    def put(self, blocks: Sequence[tuple[Cid, bytes]]) -> None:
        """See BlockStore.put."""
        for cid, data in blocks:
            check_block(cid, data)
        deadline = time.monotonic() + ROOM_SECONDS
        while True:
            try:
                return self._queue.submit(blocks)
            except QuotaExceeded:
                make_room = self._make_room
                size = sum(record_size(len(cid.to_bytes()), len(data)) for cid, data in blocks) + PACK_HEADER_BYTES
                if make_room is None or time.monotonic() >= deadline or not make_room(size):
                    raise

    def on_full(self, make_room: Callable[[int], bool] | None) -> None:
        """See Collectable.on_full."""
        self._make_room = make_room

    def generations(self) -> Sequence[PackInfo]:
        """See Collectable.generations."""
        with self._queue.lock:
            limits = self._appender.limits()
        start = self._leases.start()  # all that was written later is protected: nothing of it could go
        return [info for info in self._compaction.generations(limits) if start is None or info.number <= start[0]]

    def records_of(self, pack: int) -> Iterator[tuple[Cid, int]]:
        """See Collectable.records_of."""
        with self._queue.lock:
            length = self._appender.limits().get(pack, 0)
        for record in self._compaction.records_of(pack, length):
            yield record.cid, record.end - record.offset

    def retire(self, pack: int, keep: Callable[[Cid], bool], stop: Callable[[], bool]) -> Retired:
        """See Collectable.retire."""
        with self._upkeep:
            return self._compaction.retire(pack, keep, stop)

    def cids(self) -> Iterator[Cid]:
        """See BlockStore.cids."""
        for entry in self._index.entries():
            yield entry.cid

    def stats(self) -> StoreStats:
        """See BlockStore.stats."""
        appender = self._appender
        return StoreStats(
            appender.blocks, appender.bytes, appender.max_bytes, len(self._packs.numbers()), len(self._leases)
        )

    def verify(self, progress: Progress | None = None) -> VerifyReport:
        """See BlockStore.verify. Puts go on meanwhile; what they add is not looked at."""
        with self._queue.lock:
            limits = self._appender.limits()
        return verify_packs(self._packs, self._index, limits, progress)

    def repair(self) -> RepairReport:
        """See BlockStore.repair. Whole records of a damaged pack are copied to a new one; reads go on meanwhile."""
        with self._upkeep, self._queue.lock:
            self._appender.prepare()
            return quarantine_damage(
                self._packs,
                self._index,
                self._appender.limits(),
                self._path / "quarantine",
                relink=self._appender.relink,
                rewrite=self._appender.rewrite,
                drop=self._appender.drop,
            )

    def close(self) -> None:
        """See BlockStore.close."""
        with self._queue.lock:
            if self._appender.closed:
                return
            self._appender.close()
            self._packs.close()
            self._index.close()
            self._lock.release()

    def _lookup(self, cid: Cid) -> Entry | None:
        """The block's place, protected from here on under the leases that are open; None when it is not here."""
        return self._index.lookup(cid.multihash) if self._leases.touch(cid.multihash) else None

    def _length(self, cid: Cid) -> int | None:
        if is_inline(cid):
            return len(cid.digest)
        entry = self._lookup(cid)
        return None if entry is None else entry.length

    def _read(self, cid: Cid, entry: Entry) -> bytes:
        with self._packs.lease(entry.pack) as descriptor:
            header_length = RECORD_HEADER_BYTES + len(entry.cid.to_bytes())
            header = self._packs.layer.read(descriptor, header_length, entry.offset)
            record = decode_record_header(header, entry.pack, entry.offset)
            if record is None or record.cid.multihash != cid.multihash or record.length != entry.length:
                raise self._damaged(cid, entry, "no whole record header of this block")
            data = self._packs.layer.read(descriptor, record.length, record.data_offset)
        if not cid.matches(data):
            raise self._damaged(cid, entry, "the bytes do not match the CID")
        return data

    def _damaged(self, cid: Cid, entry: Entry, reason: str) -> StoreDamaged:
        path = self._packs.path(entry.pack)
        return StoreDamaged(f"{path} is damaged at byte {entry.offset} (block {cid}): {reason}", hint=REPAIR_HINT)

    def _unreadable(self, cid: Cid, entry: Entry, error: OSError) -> StoreDamaged:
        return self._damaged(cid, entry, error.strerror or str(error))

    def _commit(self, group: list[Request]) -> None:
        """Make a group durable; a request beyond the quota gets its own error. Runs under the queue's lock."""
        self._appender.prepare()
        fresh = self._appender.select(group)
        if fresh:
            self._appender.append(list(fresh.values()))


def repair_store(path: Path, *, max_pack_bytes: int | None = None, files: FileLayer | None = None) -> RepairReport:
    """Repair a store that is not open, even one that refuses to open. Raises StoreBusy, DiskFull."""
    found: list[Damage] = []
    drop_unreadable_index(path)
    store = DiskBlockStore._open(path, None, files, max_pack_bytes, found.append)
    try:
        report = store.repair()
        named = {cid.multihash: cid for cid in report.lost}
        for damage in found:
            if damage.cid is not None and not store.has(damage.cid):
                named.setdefault(damage.cid.multihash, damage.cid)
    finally:
        store.close()
    return RepairReport(report.kept, tuple(named[key] for key in sorted(named)), report.quarantined)
