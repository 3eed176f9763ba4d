"""What is written to a store: the newest pack, the index behind it, the counters, and the limit that they keep.

Whoever calls holds the commit lock. A put is durable in its pack before the index hears of it; see pack_writer.py.

Of a limit one pack's size is kept free of puts, so that collection has room to write what it keeps before it removes
what it doesn't; stores too small for that have no such reserve.
"""

from collections.abc import Sequence
from dataclasses import replace

from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import NotFound, NotReady
from storage.blockstore import is_inline, quota_exceeded
from storage.commit_queue import Request
from storage.compaction import needs_header, remove_retired, unneeded_headers
from storage.files import PackFiles
from storage.index import BlockIndex, Checkpoint
from storage.leases import Leases, Place
from storage.pack_writer import MAX_PACK_BYTES, PackWriter
from storage.records import PACK_HEADER_BYTES, Record, record_size
from storage.recovery import Tail, catch_up

MIN_PACK_BYTES = 4 * 1024 * 1024
PACKS_IN_A_LIMIT = 16
"""A limited store has at least so many packs: space comes back pack by pack."""

MIN_PACKS_FOR_RESERVE = 8


def pack_bytes_for(max_bytes: int | None) -> int:
    """The size of a pack, in bytes, in a store with this limit."""
    if max_bytes is None:
        return MAX_PACK_BYTES
    return min(max(max_bytes // PACKS_IN_A_LIMIT, MIN_PACK_BYTES), MAX_PACK_BYTES)


class Appender:
    """See the module."""

    def __init__(
        self,
        packs: PackFiles,
        index: BlockIndex,
        tail: Tail,
        leases: Leases,
        max_bytes: int | None,
        max_pack_bytes: int,
    ) -> None:
        self.max_bytes = max_bytes
        self.closed = False
        self.blocks = tail.blocks
        self.bytes = sum(packs.size(number) for number in packs.numbers())
        self._packs = packs
        self._index = index
        self._leases = leases
        self._writer = PackWriter(packs, tail, max_pack_bytes)
        has_reserve = max_bytes is not None and max_bytes >= MIN_PACKS_FOR_RESERVE * max_pack_bytes
        self._reserve = max_pack_bytes if has_reserve else 0

    @property
    def room(self) -> int | None:
        """Bytes that puts may still add; None without a limit."""
        return None if self.max_bytes is None else max(self.max_bytes - self._reserve - self.bytes, 0)

    @property
    def end(self) -> Place:
        """Where the packs end: all that is put from now on lies behind. Needs no lock."""
        pack = self._writer.pack  # read before the length: a pack begun in between only moves the place forward
        return pack, self._writer.length

    def prepare(self) -> None:
        """Make the index usable after a full disk. Raises DiskFull, and NotReady when the store is closed."""
        if self.closed:
            raise NotReady(f"the block store {self._packs.directory.parent} is closed")
        if self._index.database.broken:
            self.recover()

    def close(self) -> None:
        """Close the newest pack; nothing is written any more."""
        self.closed = True
        self._writer.close()

    def select(self, group: list[Request]) -> dict[bytes, tuple[Cid, bytes]]:
        """The blocks that are new, less those of requests that do not fit the quota."""
        fresh: dict[bytes, tuple[Cid, bytes]] = {}
        used = self.bytes
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
            header = PACK_HEADER_BYTES if self._writer.needs_new_pack(used - self.bytes + size) else 0
            if self.max_bytes is not None and used + size + header > self.max_bytes - self._reserve:
                request.error = quota_exceeded(self.max_bytes, used, size)
                continue
            used += size
            fresh.update(mine)
        return fresh

    def append(self, blocks: Sequence[tuple[Cid, bytes]], *, replacing: bool = False) -> None:
        """Write blocks that are new (or, with `replacing`, known ones at a new place) and index them."""
        records = self._write(blocks, sum(record_size(len(cid.to_bytes()), len(data)) for cid, data in blocks))
        added = 0 if replacing else len(records)
        self.blocks += added
        self._index.apply(records, self._checkpoint())

    def _write(self, blocks: Sequence[tuple[Cid, bytes]], size: int) -> list[Record]:
        """Write blocks, which take `size` bytes, as one durable group; the index does not know of it yet."""
        if self._writer.needs_new_pack(size):
            self._start_pack()
        records = self._writer.append(blocks)
        self.bytes += size
        return records

    def _start_pack(self) -> None:
        finished = self._writer.start_pack()
        self.bytes += self._writer.length
        sealed = finished if finished[0] else None
        self._index.apply((), self._checkpoint(), sync=True, sealed=sealed)

    def seal(self, pack: int) -> int:
        """Finish the pack if it is the one that is written to; its length."""
        self.prepare()
        if self._writer.pack == pack:
            if self.max_bytes is not None and self.bytes + PACK_HEADER_BYTES > self.max_bytes:
                raise quota_exceeded(self.max_bytes, self.bytes, PACK_HEADER_BYTES)
            self._start_pack()
        length = self._index.sealed().get(pack)
        if length is None:
            raise NotFound(f"{self._packs.path(pack)} is no pack of this store")
        return length

    def move(self, blocks: Sequence[tuple[Cid, bytes]], forgotten: Sequence[Cid], pack: int) -> int:
        """Write blocks again and forget others, in one durable change; bytes written. Raises DiskFull."""
        self.prepare()
        if not blocks and not forgotten:
            return 0
        size = sum(record_size(len(cid.to_bytes()), len(data)) for cid, data in blocks)
        header = PACK_HEADER_BYTES if self._writer.needs_new_pack(size) else 0
        if self.max_bytes is not None and blocks and self.bytes + size + header > self.max_bytes:
            raise quota_exceeded(self.max_bytes, self.bytes, size)
        before = self.bytes
        records = self._write(blocks, size) if blocks else []
        count = self.blocks - len(forgotten)
        self._index.move(records, forgotten, pack, replace(self._checkpoint(), blocks=count))
        self.blocks = count
        return self.bytes - before

    def forget_pack(self, pack: int) -> None:
        """Forget a pack that the index points at no more, durably."""
        self.prepare()
        self._forget(pack, ())

    def freed(self, size: int) -> None:
        """That many bytes have been removed."""
        self.bytes -= size

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(self._writer.pack, self._writer.length, self.blocks)

    def recover(self) -> None:
        """Give the index a new handle after a full disk, and what it missed. Raises DiskFull without space."""
        self._index.database.recover()
        self.blocks = catch_up(self._packs, self._index, Tail(self._writer.pack, self._writer.length, 0, 0))

    def limits(self) -> dict[int, int]:
        """The acknowledged length of every pack."""
        limits = self._index.sealed()
        if self._writer.pack:
            limits[self._writer.pack] = self._writer.length
        return limits

    def relink(self, records: Sequence[Record]) -> None:
        """Index records that the index does not know."""
        self.blocks += len({record.cid.multihash for record in records})
        self._index.apply(records, self._checkpoint(), sync=True)

    def rewrite(self, blocks: Sequence[tuple[Cid, bytes]], avoid: int) -> None:
        """Store blocks again, elsewhere than in the pack `avoid`."""
        if self._writer.pack == avoid:
            self._start_pack()
        if blocks:
            self.append(blocks, replacing=True)

    def drop(self, pack: int, lost: Sequence[Cid]) -> None:
        """Forget lost blocks and remove a pack whose good blocks now lie elsewhere."""
        self.blocks = max(self.blocks - len(lost), 0)
        self._forget(pack, lost)
        self.bytes -= remove_retired(self._packs, pack)

    def _forget(self, pack: int, lost: Sequence[Cid]) -> None:
        behind = unneeded_headers(self._packs, pack)
        if needs_header(self._packs, pack):
            self._index.forget(lost, behind, self._checkpoint(), retired=[pack])
        else:
            self._index.forget(lost, [pack, *behind], self._checkpoint())
