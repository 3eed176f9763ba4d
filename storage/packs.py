"""The block store on disk: packs and an index in one directory.

    LOCK  index/ (LevelDB)  packs/00000001.pack ...  quarantine/ (what repairs set aside)

Concurrent puts share one fdatasync: whoever finds no commit under way commits for all that wait. Reads use pread and an
index lookup, beside any write. Every read is hashed. See recovery.py for what opening does, pack_writer.py for what is
synced, check.py for verify and repair.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import NotReady, StoreDamaged
from storage.blockstore import (
    Damage,
    Progress,
    RepairReport,
    StoreStats,
    VerifyReport,
    check_block,
    is_inline,
    not_found,
    quota_exceeded,
)
from storage.check import quarantine_damage, verify_packs
from storage.commit_queue import CommitQueue, Request
from storage.files import DirectoryLock, FileLayer, OsFiles, PackFiles, disk_error, make_directory
from storage.index import BlockIndex, Checkpoint, Entry
from storage.leases import Lease, Leases
from storage.leveldb import REPAIR_HINT
from storage.opening import drop_unreadable_index, open_index
from storage.pack_writer import MAX_PACK_BYTES, PackWriter
from storage.records import PACK_HEADER_BYTES, RECORD_HEADER_BYTES, Record, decode_record_header, record_size
from storage.recovery import OnDamage, Tail, catch_up, refuse


class DiskBlockStore:
    """Blocks in packs; thread-safe, one process at a time."""

    def __init__(
        self,
        path: Path,
        packs: PackFiles,
        index: BlockIndex,
        writer: PackWriter,
        lock: DirectoryLock,
        blocks: int,
        max_bytes: int | None,
        index_rebuilt: bool,
    ) -> None:
        self.index_rebuilt = index_rebuilt
        """Whether opening found the index unreadable and made it anew."""
        self._path = path
        self._packs = packs
        self._index = index
        self._writer = writer
        self._lock = lock
        self._blocks = blocks
        self._bytes = sum(packs.size(number) for number in packs.numbers())
        self._max_bytes = max_bytes
        self._queue = CommitQueue(self._commit)
        self._leases = Leases()
        self._closed = False

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        max_bytes: int | None = None,
        files: FileLayer | None = None,
        max_pack_bytes: int = MAX_PACK_BYTES,
    ) -> "DiskBlockStore":
        """Open or create the store in a directory, finishing what a crash left. `max_bytes` bounds the packs' sizes.

        Raises StoreBusy when another process holds it, StoreDamaged (with where and what to do), DiskFull.
        """
        return cls._open(path, max_bytes, files, max_pack_bytes, refuse)

    @classmethod
    def _open(
        cls, path: Path, max_bytes: int | None, files: FileLayer | None, max_pack_bytes: int, on_damage: OnDamage
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
        return cls(path, packs, index, PackWriter(packs, tail, max_pack_bytes), lock, tail.blocks, max_bytes, rebuilt)

    def get(self, cid: Cid) -> bytes:
        """See BlockStore.get."""
        if is_inline(cid):
            return cid.digest
        tried: Entry | None = None
        while True:
            entry = self._lookup(cid)
            if entry is None:
                raise not_found(cid)
            try:
                return self._read(cid, entry)
            except OSError as error:
                if not isinstance(error, FileNotFoundError) or entry == tried:
                    raise self._unreadable(cid, entry, error) from error
                tried = entry  # the block may have moved, more than once, since it was looked up

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
        pack = self._writer.pack  # read before the length: a pack begun in between only moves the place forward
        return self._leases.open(what, (pack, self._writer.length))

    def put(self, blocks: Sequence[tuple[Cid, bytes]]) -> None:
        """See BlockStore.put."""
        for cid, data in blocks:
            check_block(cid, data)
        self._queue.submit(blocks)

    def cids(self) -> Iterator[Cid]:
        """See BlockStore.cids."""
        for entry in self._index.entries():
            yield entry.cid

    def stats(self) -> StoreStats:
        """See BlockStore.stats."""
        return StoreStats(self._blocks, self._bytes, self._max_bytes, len(self._packs.numbers()))

    def verify(self, progress: Progress | None = None) -> VerifyReport:
        """See BlockStore.verify. Puts go on meanwhile; what they add is not looked at."""
        with self._queue.lock:
            limits = self._limits()
        return verify_packs(self._packs, self._index, limits, progress)

    def repair(self) -> RepairReport:
        """See BlockStore.repair. Whole records of a damaged pack are copied to a new one; reads go on meanwhile."""
        with self._queue.lock:
            self._require_open()
            if self._index.database.broken:
                self._recover_index()
            return quarantine_damage(
                self._packs,
                self._index,
                self._limits(),
                self._path / "quarantine",
                relink=self._relink,
                rewrite=self._rewrite,
                drop=self._drop,
            )

    def close(self) -> None:
        """See BlockStore.close."""
        with self._queue.lock:
            if self._closed:
                return
            self._closed = True
            self._writer.close()
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
        self._require_open()
        if self._index.database.broken:
            self._recover_index()
        fresh = self._select(group)
        if fresh:
            self._append(list(fresh.values()))

    def _select(self, group: list[Request]) -> dict[bytes, tuple[Cid, bytes]]:
        """The blocks that are new, less those of requests that do not fit the quota."""
        fresh: dict[bytes, tuple[Cid, bytes]] = {}
        used = self._bytes
        for request in group:
            mine: dict[bytes, tuple[Cid, bytes]] = {}
            for cid, data in request.blocks:
                multihash = cid.multihash
                if is_inline(cid) or multihash in fresh or multihash in mine:
                    continue
                if self._index.contains(multihash):
                    self._leases.touch(multihash)
                    continue
                mine[multihash] = (cid, data)
            size = sum(record_size(len(cid.to_bytes()), len(data)) for cid, data in mine.values())
            header = PACK_HEADER_BYTES if self._writer.needs_new_pack(used - self._bytes + size) else 0
            if self._max_bytes is not None and used + size + header > self._max_bytes:
                request.error = quota_exceeded(self._max_bytes, used, size)
                continue
            used += size
            fresh.update(mine)
        return fresh

    def _append(self, blocks: Sequence[tuple[Cid, bytes]], *, replacing: bool = False) -> None:
        """Write blocks that are new (or, with `replacing`, known ones at a new place) and index them."""
        size = sum(record_size(len(cid.to_bytes()), len(data)) for cid, data in blocks)
        if self._writer.needs_new_pack(size):
            finished = self._writer.start_pack()
            self._bytes += self._writer.length
            sealed = finished if finished[0] else None
            self._index.apply((), self._checkpoint(), sync=True, sealed=sealed)
        records = self._writer.append(blocks)
        self._bytes += size
        added = 0 if replacing else len(records)
        self._blocks += added
        self._index.apply(records, self._checkpoint())

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(self._writer.pack, self._writer.length, self._blocks)

    def _recover_index(self) -> None:
        """Give the index a new handle after a full disk, and what it missed. Raises DiskFull without space."""
        self._index.database.recover()
        self._blocks = catch_up(self._packs, self._index, Tail(self._writer.pack, self._writer.length, 0, 0))

    def _limits(self) -> dict[int, int]:
        """The acknowledged length of every pack."""
        limits = self._index.sealed()
        if self._writer.pack:
            limits[self._writer.pack] = self._writer.length
        return limits

    def _relink(self, records: Sequence[Record]) -> None:
        """Index records that the index does not know."""
        self._blocks += len({record.cid.multihash for record in records})
        self._index.apply(records, self._checkpoint(), sync=True)

    def _rewrite(self, blocks: Sequence[tuple[Cid, bytes]], avoid: int) -> None:
        """Store blocks again, elsewhere than in the pack `avoid`."""
        if self._writer.pack == avoid:
            finished = self._writer.start_pack()
            self._bytes += self._writer.length
            self._index.apply((), self._checkpoint(), sync=True, sealed=finished)
        if blocks:
            self._append(blocks, replacing=True)

    def _drop(self, pack: int, lost: Sequence[Cid]) -> None:
        """Forget lost blocks and remove a pack whose good blocks now lie elsewhere."""
        self._blocks = max(self._blocks - len(lost), 0)
        self._index.forget(lost, [pack], self._checkpoint())
        path = self._packs.path(pack)
        if path.exists():
            self._bytes -= path.stat().st_size
            self._packs.forget(pack)
            path.unlink()
            self._packs.layer.sync_directory(path.parent)

    def _require_open(self) -> None:
        if self._closed:
            raise NotReady(f"the block store {self._path} is closed")


def repair_store(path: Path, *, max_pack_bytes: int = MAX_PACK_BYTES, files: FileLayer | None = None) -> RepairReport:
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
