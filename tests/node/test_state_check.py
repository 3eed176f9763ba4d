"""Looking through a whole state: a sound one passes, every record that is changed, lost or added is found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mpisa.node.chain_store import ChainStore
from mpisa.node.database import Database
from mpisa.node.state_storage import pack_entry
from mpisa.primitives.errors import StoreDamaged
from mpisa.primitives.merkle import key_path
from tests.node.ground_keys import GROUND
from tests.node.test_chain_store import commit, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ChainStore]:
    opened = open_store(tmp_path / "ledger")
    commit(opened, *[(key, b"ground") for key in GROUND], *[(b"key %d" % n, b"v") for n in range(20)])
    commit(opened, *[(b"key %d" % n, b"w") for n in range(10)], (GROUND[3], None))
    yield opened
    opened.close()


def test_a_sound_state_passes(store: ChainStore) -> None:
    store.check_state()
    commit(store, *[(key, None) for key in GROUND[5:]])
    store.check_state()


def test_every_damaged_record_is_found(store: ChainStore) -> None:
    """Each record of the map in turn: a bit flipped, the record lost."""
    database: Database = store._db
    found = {kind: database.range(kind, kind + b"\xff" * 40) for kind in (b"s", b"k", b"n", b"p", b"u")}
    assert {kind: len(records) > 1 for kind, records in found.items()} == dict.fromkeys(found, True)
    for kind, records in found.items():
        sample = records if kind != b"u" else records[1:]  # nobody asks what genesis replaced
        for key, raw in sample[:: max(1, len(sample) // 12)]:
            twins: list[bytes | None] = [None]
            if raw:
                twins.append(raw[:-1] + bytes([raw[-1] ^ 1]))
            for twin in twins:
                database.write([(key, twin)], sync=False)
                store._state._history._undos.clear()
                with pytest.raises(StoreDamaged):
                    store.check_state()
                database.write([(key, raw)], sync=False)
    store.check_state()


def test_what_does_not_belong_is_found(store: ChainStore) -> None:
    database: Database = store._db
    page = database.range(b"p", b"q")[0]
    for key, value, damage in (
        (b"s" + key_path(b"key 99"), pack_entry(b"key 99", b"v"), "the entries below node"),
        (b"s" + key_path(b"key 99"), pack_entry(b"key 98", b"v"), "is not on its key's path"),
        (b"kkey 99", b"", "the index by key doesn't name the keys"),
        (page[0] + b"\1", page[1], "a page is left over"),
        (b"n" + bytes(3) + b"\1", b"\2" + bytes(32), "its slots don't lead to the header's state root"),
    ):
        database.write([(key, value)], sync=False)
        with pytest.raises(StoreDamaged, match=damage) as found:
            store.check_state()
        assert found.value.hint == "run `mpisa node repair`"
        database.write([(key, None)], sync=False)
    store.check_state()
