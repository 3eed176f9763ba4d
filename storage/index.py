"""Where each block lies: multihash -> pack, offset, length, CID.

The index can always be made again from the packs, so it is not synced with each put: the packs are. What a power cut
takes from it is found again by reading the packs from the checkpoint on, which is written in the same batch as the
entries that it covers. It is synced when a pack is full, which bounds that reading to about one pack.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import Rejection, StoreDamaged
from storage.leveldb import REPAIR_HINT, Database
from storage.records import PACK_HEADER_BYTES, Record

_ENTRY = struct.Struct(">QQI")
_CHECKPOINT = struct.Struct(">QQQ")
_NUMBER = struct.Struct(">Q")
_BLOCK, _SEALED, _RETIRING, _CHECKPOINT_KEY = b"b", b"p", b"r", b"c"


@dataclass(frozen=True, slots=True)
class Entry:
    """A block's record: pack, offset of the record, length of the data in bytes, CID as it was put."""

    pack: int
    offset: int
    length: int
    cid: Cid


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All records before `length` of `pack`, and of the packs before it, are indexed: `blocks` of them in all."""

    pack: int
    length: int
    blocks: int


EMPTY_CHECKPOINT = Checkpoint(0, PACK_HEADER_BYTES, 0)


class BlockIndex:
    """The index; thread-safe. Raises StoreDamaged, StoreBusy or DiskFull."""

    def __init__(self, path: Path) -> None:
        self.database = Database(path, "index")

    def lookup(self, multihash: bytes) -> Entry | None:
        """Where the block is, or None."""
        value = self.database.get(_BLOCK + multihash)
        return None if value is None else self._decode(value)

    def contains(self, multihash: bytes) -> bool:
        """Whether the block is known."""
        return self.database.get(_BLOCK + multihash) is not None

    def entries(self) -> Iterator[Entry]:
        """All entries, ordered by multihash."""
        for _, value in self.database.scan(_BLOCK):
            yield self._decode(value)

    def checkpoint(self) -> Checkpoint | None:
        """The checkpoint, or None for an index that holds nothing yet."""
        value = self.database.get(_CHECKPOINT_KEY)
        if value is None:
            return None
        if len(value) != _CHECKPOINT.size:
            raise self._malformed()
        return Checkpoint(*_CHECKPOINT.unpack(value))

    def sealed(self) -> dict[int, int]:
        """Lengths of the packs that are no longer written to, by number."""
        found = {}
        for key, value in self.database.scan(_SEALED):
            if len(key) != 1 + _NUMBER.size or len(value) != _NUMBER.size:
                raise self._malformed()
            found[_NUMBER.unpack_from(key, 1)[0]] = _NUMBER.unpack(value)[0]
        return found

    def retiring(self) -> set[int]:
        """The packs of which collection has begun to forget blocks: their records needn't be known here."""
        return {_NUMBER.unpack_from(key, 1)[0] for key, _ in self.database.scan(_RETIRING)}

    def apply(
        self,
        records: Iterable[Record],
        checkpoint: Checkpoint,
        *,
        sync: bool = False,
        sealed: tuple[int, int] | None = None,
    ) -> None:
        """Add records and move the checkpoint, all or nothing; `sealed` is a pack and its final length."""
        changes: list[tuple[bytes, bytes | None]] = [
            (_BLOCK + record.cid.multihash, _encode(record)) for record in records
        ]
        if sealed is not None:
            changes.append((_SEALED + _NUMBER.pack(sealed[0]), _NUMBER.pack(sealed[1])))
        self.database.write([*changes, _checkpoint_change(checkpoint)], sync=sync)

    def move(self, records: Iterable[Record], forgotten: Iterable[Cid], pack: int, checkpoint: Checkpoint) -> None:
        """Records at new places and blocks to forget, all from one pack, in one durable change."""
        changes: list[tuple[bytes, bytes | None]] = [
            (_BLOCK + record.cid.multihash, _encode(record)) for record in records
        ]
        changes += [(_BLOCK + cid.multihash, None) for cid in forgotten]
        changes.append((_RETIRING + _NUMBER.pack(pack), b""))
        self.database.write([*changes, _checkpoint_change(checkpoint)], sync=True)

    def forget(
        self, cids: Iterable[Cid], packs: Iterable[int], checkpoint: Checkpoint, *, retired: Iterable[int] = ()
    ) -> None:
        """Remove blocks and sealed packs, durably; of `retired` ones the header stays."""
        changes: list[tuple[bytes, bytes | None]] = [(_BLOCK + cid.multihash, None) for cid in cids]
        for pack in packs:
            changes += [(_SEALED + _NUMBER.pack(pack), None), (_RETIRING + _NUMBER.pack(pack), None)]
        for pack in retired:
            changes.append((_SEALED + _NUMBER.pack(pack), _NUMBER.pack(PACK_HEADER_BYTES)))
            changes.append((_RETIRING + _NUMBER.pack(pack), None))
        self.database.write([*changes, _checkpoint_change(checkpoint)], sync=True)

    def close(self) -> None:
        """Close it; closing twice is harmless."""
        self.database.close()

    def _decode(self, value: bytes) -> Entry:
        if len(value) <= _ENTRY.size:
            raise self._malformed()
        try:
            pack, offset, length = _ENTRY.unpack_from(value)
            return Entry(pack, offset, length, Cid.from_bytes(value[_ENTRY.size :]))
        except Rejection:
            raise self._malformed() from None

    def _malformed(self) -> StoreDamaged:
        return StoreDamaged(f"index {self.database.path} holds an entry that can't be read", hint=REPAIR_HINT)


def _checkpoint_change(checkpoint: Checkpoint) -> tuple[bytes, bytes]:
    return _CHECKPOINT_KEY, _CHECKPOINT.pack(checkpoint.pack, checkpoint.length, checkpoint.blocks)


def _encode(record: Record) -> bytes:
    return _ENTRY.pack(record.pack, record.offset, record.length) + record.cid.to_bytes()
