"""The chain's store: one batch a chain block, recent states provable, first final outcome kept, damage found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mpisa.node.chain_records import ExecutedBlock, TransactionPlace
from mpisa.node.chain_store import ChainStore
from mpisa.node.database import Change, Database
from mpisa.node.state_map import RECENT_HEIGHTS
from mpisa.node.state_storage import CROWN_BITS, pack_entry, pack_node, slot_key
from mpisa.primitives import merkle
from mpisa.primitives.digest import sha256
from mpisa.primitives.errors import DiskFull, NotFound, RejectionReason, StoreDamaged
from mpisa.primitives.genesis_state import genesis_header, genesis_state
from mpisa.primitives.header import Certificate, Header, header_hash
from mpisa.primitives.merkle import key_path
from mpisa.primitives.merkle_crown import LEAF, slot_of
from mpisa.primitives.receipt import Receipt, ReceiptStatus
from tests.node.cluster import key_of, make_genesis, validator_keys

GENESIS = make_genesis([validator_keys(0)], [key_of("account 0")])
GENESIS_HEADER = genesis_header(GENESIS)
OUTLINE = b"outline"


def open_store(path: Path) -> ChainStore:
    return ChainStore.open(path, GENESIS_HEADER, genesis_state(GENESIS), GENESIS.hash)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ChainStore]:
    opened = open_store(tmp_path / "ledger")
    yield opened
    opened.close()


def commit(
    store: ChainStore, *changes: tuple[bytes, bytes | None], receipts: tuple[Receipt, ...] = (), cursor: bytes = b"c"
) -> Header:
    """The next chain block with these changes."""
    previous = store.header(store.height)
    update = store.preview(changes)
    header = Header(
        chain_hash=previous.chain_hash,
        height=previous.height + 1,
        time_ms=previous.time_ms + 1,
        epoch=0,
        first_commit=previous.last_commit + 1,
        last_commit=previous.last_commit + 1,
        previous=header_hash(previous),
        commit_digest=sha256(b"digest"),
        window_root=sha256(b"window"),
        tx_root=bytes(32),
        receipts_root=bytes(32),
        state_root=update.root,
        validators_hash=previous.validators_hash,
        next_validators_hash=bytes(32),
    )
    transactions = tuple(b"raw" + receipt.tx_hash for receipt in receipts)
    store.commit(ExecutedBlock(header, transactions, receipts, changes, (), OUTLINE, cursor), update)
    return header


def receipt(name: bytes, *, final: bool) -> Receipt:
    if final:
        return Receipt(sha256(name), ReceiptStatus.APPLIED, nonce_used=True)
    return Receipt(sha256(name), ReceiptStatus.REJECTED, RejectionReason.NONCE_GAP, "too early")


def test_a_fresh_store_holds_genesis(store: ChainStore) -> None:
    assert (store.height, store.certified_height, store.cursor) == (0, 0, None)
    assert store.header(0) == GENESIS_HEADER
    assert store.height_of(store.hash_at(0)) == 0
    assert (store.transactions(0), store.receipts(0), store.certificate(0)) == ((), (), None)
    assert store.outline(0) is None
    assert {key: store.get(key) for key in genesis_state(GENESIS)} == genesis_state(GENESIS)


def test_a_block_is_all_there_after_opening_again(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    header = commit(store, (b"k", b"v"), receipts=(receipt(b"t", final=True),), cursor=b"here")
    store.close()
    store = open_store(tmp_path)
    assert (store.height, store.cursor, store.get(b"k")) == (1, b"here", b"v")
    assert store.header(1) == store.reread_header(1) == header
    assert store.receipts(1) == (receipt(b"t", final=True),)
    assert store.transactions(1) == (b"raw" + sha256(b"t"),)
    assert store.place(sha256(b"t")) == TransactionPlace(1, 0, True)
    store.close()


def test_recent_states_are_provable_also_after_opening_again(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    commit(store, (b"k", b"one"))
    commit(store, (b"k", b"two"), (b"other", b"x"))
    commit(store, (b"k", None))
    expected = [(0, None), (1, b"one"), (2, b"two"), (3, None)]
    for _ in range(2):
        for height, value in expected:
            root = store.header(height).state_root
            assert store.value_at(b"k", height) == value
            proof = store.prove(b"k", height)
            if value is None:
                merkle.verify_absence(root, b"k", proof)
            else:
                merkle.verify_membership(root, b"k", value, proof)
        store.close()
        store = open_store(tmp_path)
    store.close()


def test_states_are_kept_up_to_the_bound_and_no_longer(store: ChainStore) -> None:
    for number in range(RECENT_HEIGHTS + 2):
        commit(store, (b"k", str(number).encode()))
    oldest = store.height - RECENT_HEIGHTS
    assert store.value_at(b"k", oldest) == str(oldest - 1).encode()
    value, proof = str(oldest - 1).encode(), store.prove(b"k", oldest)
    merkle.verify_membership(store.header(oldest).state_root, b"k", value, proof)
    for height in (oldest - 1, store.height + 1, -1):
        with pytest.raises(NotFound, match=f"the state at height {height} isn't kept, only from {oldest}"):
            store.value_at(b"k", height)
    assert len(store._headers) <= RECENT_HEIGHTS
    assert len(store._db.range(b"u", b"v")) == RECENT_HEIGHTS


def test_the_first_final_outcome_stays(store: ChainStore) -> None:
    name = sha256(b"t")
    commit(store, receipts=(receipt(b"t", final=False), receipt(b"t", final=False)))
    assert store.place(name) == TransactionPlace(1, 0, False)
    commit(store, receipts=(receipt(b"x", final=True), receipt(b"t", final=True)))
    assert store.place(name) == TransactionPlace(2, 1, True)
    commit(store, receipts=(receipt(b"t", final=False),))
    assert store.place(name) == TransactionPlace(2, 1, True)
    assert store.place(sha256(b"never")) is None


def test_a_height_is_written_once(store: ChainStore) -> None:
    header = commit(store, (b"k", b"v"))
    block = ExecutedBlock(header, (), (), ((b"k", b"other"),), (), OUTLINE, b"c")
    with pytest.raises(AssertionError, match="chain blocks are committed in order"):
        store.commit(block, store.preview(()))
    assert store.reread_header(1) == header


def test_certificates_are_kept_once_and_gaps_are_known(store: ChainStore) -> None:
    for _ in range(4):
        commit(store)
    certificate = Certificate(1, (bytes(64),))
    assert store.add_certificate(3, certificate)
    assert (store.certified_height, store.complete_height) == (3, 0)
    assert store.missing_certificates(10) == [1, 2]
    assert store.missing_certificates(1) == [1]
    assert store.uncertified() == [1, 2, 4]
    assert store.add_certificate(1, certificate)
    assert store.add_certificate(2, certificate)
    assert not store.add_certificate(2, Certificate(2, (bytes(64),)))
    assert (store.complete_height, store.missing_certificates(10), store.uncertified()) == (3, [], [4])
    assert store.certificate(2) == certificate


def test_a_full_disk_changes_nothing(store: ChainStore) -> None:
    real = store._db

    class FullDisk:
        """Reads work, writes don't."""

        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

        def write(self, changes: object, *, sync: bool) -> None:
            raise DiskFull("no space")

    store._db = FullDisk()  # type: ignore[assignment]
    with pytest.raises(DiskFull):
        commit(store, (b"k", b"v"))
    store._db = real
    assert (store.height, store.get(b"k"), store.value_at(b"k", 0)) == (0, None, None)
    commit(store, (b"k", b"v"))
    assert store.value_at(b"k", 1) == b"v"


def test_a_write_that_failed_and_is_there_all_the_same_is_not_shown(store: ChainStore) -> None:
    """A full disk may have kept the batch in the log, and shows it when the database is opened again."""
    commit(store, (b"k", b"before"), (b"gone", b"x"))
    real = store._db

    class Doubtful:
        """Writes, and says that it couldn't."""

        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

        def write(self, changes: list[Change], *, sync: bool) -> None:
            real.write(changes, sync=sync)
            raise DiskFull("no space")

    store._db = Doubtful()  # type: ignore[assignment]
    changes = ((b"k", b"after"), (b"new", b"y"), (b"gone", None))
    with pytest.raises(DiskFull):
        commit(store, *changes)
    store._db = real
    root = store.header(1).state_root
    assert [store.get(key) for key in (b"k", b"new", b"gone")] == [b"before", None, b"x"]
    assert store.value_at(b"k", 1) == b"before"
    merkle.verify_membership(root, b"k", b"before", store.prove(b"k", 1))
    merkle.verify_absence(root, b"new", store.prove(b"new", 1))
    commit(store, *changes)
    assert [store.get(key) for key in (b"k", b"new", b"gone")] == [b"after", b"y", None]
    assert store.value_at(b"gone", 1) == b"x"
    store.check_state()


def test_a_map_that_lacks_its_root_is_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    commit(store, (b"k", b"v"))
    store.close()
    change_stored(tmp_path, slot_key(slot_of(key_path(b"k"), 0, CROWN_BITS)), pack_node((LEAF, bytes(32))))
    with pytest.raises(StoreDamaged, match="the state doesn't have the root of the header at height 1"):
        open_store(tmp_path)


def test_a_value_that_the_map_does_not_bind_is_refused_when_it_is_read(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    commit(store, (b"k", b"v"), (b"other", b"x"))
    store.close()
    change_stored(tmp_path, b"s" + key_path(b"k"), pack_entry(b"k", b"w"))
    store = open_store(tmp_path)
    assert store.get(b"other") == b"x"
    for read in (lambda: store.get(b"k"), lambda: store.prove(b"k", 1), lambda: store.state_chunk(1, bytes(32), 1000)):
        with pytest.raises(StoreDamaged, match="the state map is damaged") as damage:
            read()
        assert damage.value.hint == "run `mpisa node repair`"
    store.close()


def test_a_store_of_another_format_is_left_to_repair(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    change_stored(tmp_path, b"mversion", b"1")
    with pytest.raises(StoreDamaged, match="its format is 1, not this one's"):
        open_store(tmp_path)


def change_stored(path: Path, key: bytes, value: bytes) -> None:
    database = Database(path, "chain store")
    database.write([(key, value)], sync=True)
    database.close()


def test_ranges_are_bounded_by_count_and_bytes(tmp_path: Path) -> None:
    database = Database(tmp_path, "test")
    database.write([(bytes([n]), bytes(100)) for n in range(10)], sync=False)
    keys = [key[0] for key, _ in database.range(b"\x02", b"\x08", limit=3)]
    assert keys == [2, 3, 4]
    assert [key[0] for key, _ in database.range(b"\x02", b"\x08", reverse=True, limit=2)] == [7, 6]
    assert len(database.range(b"\x00", b"\xff", max_bytes=250)) == 3
    database.close()
