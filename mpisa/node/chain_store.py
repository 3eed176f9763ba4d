"""What one node keeps of the chain, on disk and in memory.

Headers, bodies, receipts, the state with its map, indices and the engine's cursor of one chain block are ONE synced
batch; whatever happens, the store shows the state after a whole number of chain blocks. The state and its map are
`state_map`'s, certificates `certificate_store`'s; this module is the rest and the batch. A height is written once: a
different header for it is refused, so that nothing can make this node sign twice.

Keys and encodings: chain_records, state_storage. One writer (the ordering task, through one executor thread), any
number of readers in the loop.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING

from mpisa.node.certificate_store import CertificateStore
from mpisa.node.chain_records import (
    BASE,
    BODY,
    CERTIFICATE,
    CURSOR,
    EPOCH,
    EPOCH_ENTRIES,
    GENESIS,
    HASH,
    HEADER,
    LOWEST,
    OUTLINE,
    RECEIPTS,
    STORE_VERSION,
    TRANSACTION,
    VERSION,
    ExecutedBlock,
    TransactionPlace,
    block_changes,
    derived_prefix,
    genesis_changes,
    number,
)
from mpisa.node.cosigning import CosignatureStore
from mpisa.node.database import Database, prefix_end
from mpisa.node.epoch_record import EpochRecord
from mpisa.node.header_cache import HeaderCache
from mpisa.node.state_check import check_history, check_state
from mpisa.node.state_map import StateMap
from mpisa.node.state_pins import Pins
from mpisa.primitives import codec
from mpisa.primitives.errors import InvalidConfig, NotFound, StoreDamaged
from mpisa.primitives.header import Certificate, Header, decode_header, header_hash
from mpisa.primitives.receipt import Receipt
from storage.leveldb import remove_database

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from mpisa.node.database import Change
    from mpisa.node.state_map import StateUpdate
    from mpisa.node.state_reader import StateChunk
    from mpisa.primitives import merkle
    from mpisa.primitives.identifiers import Epoch

RECENT_EPOCHS = 64
"""Epoch records kept decoded: evidence of some epoch or other may come in each vertex, and one of 256 validators takes
4 ms to decode."""

REPLACED = ".replaced"
"""Behind the name of a store that another has taken the place of."""


def settle_replacement(place: Path, newer: Path) -> None:
    """Finishes what a crash interrupted in `ChainStore.replace`; harmless where nothing was."""
    older = place.with_name(place.name + REPLACED)
    if older.exists():
        if not place.exists():
            newer.rename(place)
        remove_database(older)


class ChainStore:
    """See the module. Reads come from the loop's thread; `commit` may run in a worker thread."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._state: StateMap
        self._pins = Pins(database)
        self.cosignatures = CosignatureStore(database)
        self._certificates = CertificateStore(database)
        self._headers = HeaderCache(database)
        self._height = 0
        self._lowest = 1
        self._recent_epoch = lru_cache(RECENT_EPOCHS)(self._read_epoch)

    @classmethod
    def open(cls, path: Path, genesis: Header, genesis_state: Mapping[bytes, bytes], genesis_hash: bytes) -> ChainStore:
        """Opens or begins the store. Raises StoreDamaged, StoreBusy, or InvalidConfig for another genesis."""
        database = Database(path, "chain store")
        try:
            store = cls(database)
            found = database.get(GENESIS)
            version = database.get(VERSION)
            if found is None:
                store._begin(genesis, genesis_state, genesis_hash)
            elif version != STORE_VERSION:
                raise store._damage(path, f"its format is {(version or b'').decode(errors='replace')}, not this one's")
            elif found != genesis_hash:
                raise InvalidConfig(
                    f"{path} holds the chain of genesis {found.hex()}, but genesis.json is {genesis_hash.hex()}",
                    hint="restore the genesis.json this home was made with, or start with an empty home",
                )
            store._load(path)
        except BaseException:
            database.close()
            raise
        return store

    def _begin(self, genesis: Header, state: Mapping[bytes, bytes], genesis_hash: bytes) -> None:
        batch = StateMap(self._db, -1).preview(state.items()).batch
        self._db.write(batch + genesis_changes(genesis, state, genesis_hash), sync=True)

    def _load(self, path: Path) -> None:
        newest = self._db.range(HEADER, prefix_end(HEADER), limit=1, reverse=True)
        if not newest:
            raise self._damage(path, "there is no header")
        self._height = int.from_bytes(newest[0][0][1:], "big")
        self._state = StateMap(self._db, self._height, int.from_bytes(self._db.get(BASE) or b"", "big"))
        if self._state.load() != self.header(self._height).state_root:
            raise self._damage(path, f"the state doesn't have the root of the header at height {self._height}")
        self._lowest = int.from_bytes(self._db.get(LOWEST) or number(1), "big")
        self._certificates.load()

    @staticmethod
    def _damage(path: Path, what: str) -> StoreDamaged:
        return StoreDamaged(f"{path} is damaged: {what}", hint="run `mpisa node repair`")

    @property
    def height(self) -> int:
        """The latest executed height; 0 is genesis."""
        return self._height

    @property
    def certified_height(self) -> int:
        """The latest height with a certificate; 0 until there is one."""
        return self._certificates.highest

    @property
    def cursor(self) -> bytes | None:
        """What the engine needs to go on from the latest executed commit."""
        return self._db.get(CURSOR)

    def epoch(self, epoch: int) -> EpochRecord:
        """An epoch whose beginning this node knows; for any thread. Raises NotFound."""
        return self._recent_epoch(epoch)

    def _read_epoch(self, epoch: int) -> EpochRecord:
        raw = self._db.get(EPOCH + number(epoch)) if 0 <= epoch < 1 << 63 else None
        if raw is None:
            raise NotFound(f"epoch {epoch} hasn't begun here")
        return EpochRecord.decode(raw)

    def epoch_at(self, height: int) -> Epoch | None:
        """The epoch of the header at a height, pruned or not; None above the latest. For any thread."""
        # Headers that close epochs are never pruned: the next one that is kept is of the same epoch.
        found = self._db.range(HEADER + number(height), prefix_end(HEADER), limit=1)
        return decode_header(found[0][1]).epoch if found else None

    def header(self, height: int) -> Header:
        """Raises NotFound."""
        header = self._headers.get(height)
        if header is None:
            raise self._not_kept(height)
        return header

    @property
    def lowest_height(self) -> int:
        """The lowest height above genesis whose chain block is kept whole; those below were pruned, but for headers and
        certificates of closing blocks.
        """
        return self._lowest

    def _not_kept(self, height: int) -> NotFound:
        if 0 < height < self._lowest:
            return NotFound(
                f"chain block {height} isn't kept here, only those from height {self._lowest} on",
                hint="ask a node that keeps all: its config.toml says history.archive = true",
            )
        return NotFound(f"there is no chain block at height {height}", hint=f"the latest is {self._height}")

    def hash_at(self, height: int) -> bytes:
        """The header hash at a height. Raises NotFound."""
        return self._headers.hash_of(height, self.header(height))

    def reread_header(self, height: int) -> Header:
        """The header as the disk has it now, past every cache: what is signed is what was stored. For any thread."""
        return decode_header(self.raw_header(height))

    def height_of(self, block_hash: bytes) -> int:
        """Raises NotFound."""
        raw = self._db.get(HASH + block_hash)
        if raw is None:
            raise NotFound(f"there is no chain block with hash {block_hash.hex()}")
        return int.from_bytes(raw, "big")

    def certificate(self, height: int) -> Certificate | None:
        """None for genesis and while the block is ordered only."""
        return self._certificates.get(height)

    @property
    def complete_height(self) -> int:
        """The height up to which every certificate is here."""
        return self._certificates.complete

    def missing_certificates(self, limit: int, through: int = 0) -> list[int]:
        """Heights up to the latest certified one, or `through`, without a certificate of their own, lowest first."""
        missing = self._certificates.missing(max(self.certified_height, through))
        return list(islice(missing, limit))

    def uncertified(self) -> list[int]:
        """Executed heights without a certificate, lowest first: what the engine is told of again after a restart."""
        return list(self._certificates.missing(self._height))

    def transactions(self, height: int) -> tuple[bytes, ...]:
        """Signed transactions of a chain block, in order. Raises NotFound."""
        return self._list(BODY, height)

    def receipts(self, height: int) -> tuple[Receipt, ...]:
        """Outcomes, same order as the transactions. Raises NotFound."""
        return tuple(Receipt.decode_stored(raw) for raw in self._list(RECEIPTS, height))

    def _list(self, kind: bytes, height: int) -> tuple[bytes, ...]:
        raw = self._db.get(kind + number(height)) if 0 <= height < 1 << 63 else None
        if raw is None:
            raise self._not_kept(height)
        items = codec.expect_tuple(codec.decode(raw, max_bytes=len(raw)), "chain block")
        return tuple(codec.expect_bytes(item, "chain block item") for item in items)

    def raw_header(self, height: int) -> bytes:
        """The header's bytes, past every cache: for any thread. Raises NotFound."""
        raw = self._headers.raw(height)
        if raw is None:
            raise self._not_kept(height)
        return raw

    def raw_certificate(self, height: int) -> bytes:
        """The certificate's bytes, empty where there is none; for any thread."""
        return self._certificates.raw(height)

    def outline(self, height: int) -> bytes | None:
        """Which vertices the block's commits ordered; None for genesis and for what isn't kept."""
        return self._db.get(OUTLINE + number(height))

    def place(self, transaction_hash: bytes) -> TransactionPlace | None:
        """Where a transaction was executed first; a final outcome replaces one that wasn't."""
        raw = self._db.get(TRANSACTION + transaction_hash)
        if raw is None:
            return None
        return TransactionPlace.decode(raw)

    def get(self, key: bytes) -> bytes | None:
        """A state value after the latest executed chain block (ledger.state.StateView). Raises StoreDamaged."""
        return self._state.get(key)

    def value_at(self, key: bytes, height: int) -> bytes | None:
        """A state value after a recent chain block. Raises NotFound for a height that is too old or not there."""
        return self._state.value_at(key, height)

    def prove(self, key: bytes, height: int) -> merkle.MapProof:
        """What the state map of a recent height holds under the key. Raises NotFound as value_at."""
        self._state.require_recent(height)
        return self._state.prove(key, height, self.header(height).state_root)

    def state_chunk(self, height: int, from_path: bytes, max_bytes: int) -> StateChunk:
        """What the state map of a recent or pinned height holds from a path on, about `max_bytes` of it, and the
        proof. Raises NotFound as value_at.
        """
        root = self.header(height).state_root
        pin = self._pins.get(height)
        if pin is not None:
            return pin.chunk(height, root, from_path, max_bytes)
        return self._state.chunk(height, root, from_path, max_bytes)

    def epoch_entries(self, epoch: int) -> bytes | None:
        """The state entries that show an epoch's validators; None for the first, and where they aren't known."""
        return self._db.get(EPOCH_ENTRIES + number(epoch))

    def keep_epoch_entries(self, epoch: int, entries: bytes) -> None:
        """Keeps them for whoever joins. Not synced: they are made again at the next start, or peers have them."""
        self._db.write([(EPOCH_ENTRIES + number(epoch), entries)], sync=False)

    def pin_state(self, height: int) -> None:
        """Holds the state of a recent height still, so that `state_chunk` serves it for longer (state_pins). Raises
        NotFound as value_at.
        """
        self._pins.add(height, self._state)

    def unpin_state(self, height: int) -> None:
        """Ends a pin; harmless without one."""
        self._pins.remove(height)

    @property
    def pinned_heights(self) -> tuple[int, ...]:
        """Heights held still, the oldest pin first; older ones give way to newer."""
        return self._pins.heights

    def check_state(self) -> None:
        """Looks through the whole state and its recent past. Raises StoreDamaged."""
        check_state(self._db, self.header(self._height).state_root)
        check_history(self._state, self._db, lambda height: self.header(height).state_root)

    def scan_state(self, prefix: bytes, after: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        """State entries under a prefix in key order, behind the key `after`."""
        return self._state.scan(prefix, after, limit)

    def derived(self, cid: bytes, limit: int) -> list[bytes]:
        """Keys of records that named this CID as an input (some may have been replaced since)."""
        prefix = derived_prefix(cid)
        return [key[len(prefix) :] for key, _ in self._db.range(prefix, prefix_end(prefix), limit=limit)]

    def preview(self, changes: Iterable[tuple[bytes, bytes | None]]) -> StateUpdate:
        """The state after these changes, not yet the store's; the next call makes an uncommitted update void."""
        return self._state.preview(changes)

    def commit(self, block: ExecutedBlock, update: StateUpdate, *, sync: bool = True) -> None:
        """Makes a chain block durable, all of it or nothing. Raises DiskFull, then nothing has changed.

        Without `sync` it is durable once a later synced one is: for blocks that can be executed again, and unsigned.
        """
        header = block.header
        assert header.height == self._height + 1, "chain blocks are committed in order"
        assert update.root == header.state_root, "the map given is the one of the header"
        places = self._places(block.receipts, header.height)
        self._db.write(update.batch + places + block_changes(block, self._certificates.complete), sync=sync)
        self._state.publish(update)
        self._pins.expire(header.height)
        self._headers.remember(header.height, header)
        self._height = header.height

    def _places(self, receipts: Sequence[Receipt], height: int) -> list[Change]:
        fresh: dict[bytes, TransactionPlace] = {}
        for index, receipt in enumerate(receipts):
            before = fresh.get(receipt.tx_hash) or self.place(receipt.tx_hash)
            if before is None or (receipt.nonce_used and not before.final):
                fresh[receipt.tx_hash] = TransactionPlace(height, index, receipt.nonce_used)
        return [(TRANSACTION + key, place.encode()) for key, place in fresh.items()]

    def add_certificate(self, height: int, certificate: Certificate) -> bool:
        """Keeps the first certificate of a height; False when there is one already. Not synced: peers have it too."""
        return self._certificates.add(height, certificate)

    def prune(self, through: int) -> None:
        """Forgets the chain blocks up to this height, all of them or none: bodies, receipts, outlines and places, and
        headers and certificates but for closing blocks'. Not synced: what comes back is pruned again.
        """
        assert through < self._height, "the latest chain block stays"
        batch: list[Change] = []
        for height in range(self._lowest, through + 1):
            key = number(height)
            header = self.header(height)
            batch += [(kind + key, None) for kind in (BODY, RECEIPTS, OUTLINE)]
            for receipt in self.receipts(height):
                place = self.place(receipt.tx_hash)
                if place is not None and place.height == height:
                    batch.append((TRANSACTION + receipt.tx_hash, None))
            if not header.closes_epoch:
                batch += [(HEADER + key, None), (CERTIFICATE + key, None), (HASH + header_hash(header), None)]
        batch.append((LOWEST, number(through + 1)))
        self._db.write(batch, sync=False)
        self._lowest = through + 1
        self._certificates.pruned(through)
        self._headers.forget(through)

    def replace(self, path: Path) -> None:
        """Goes on with the store that was made whole at `path`, which takes this one's place on the disk.

        The writer's thread calls it. A crash leaves one of both in place, or is put right by `settle_replacement`.
        """
        place = self._db.path
        self.close()
        place.rename(place.with_name(place.name + REPLACED))
        path.rename(place)
        ChainStore.__init__(self, Database(place, "chain store"))
        self._load(place)
        settle_replacement(place, path)

    def close(self) -> None:
        """Harmless when closed already."""
        self._pins.close()
        self._db.close()
