"""A state from another node's chunks: resumed after a break, every lie refused, the store as good as its source."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mpisa.node.chain_records import genesis_changes, snapshot_changes
from mpisa.node.chain_store import ChainStore
from mpisa.node.state_loading import MAX_CHUNK_ENTRIES, StateLoading
from mpisa.node.state_storage import pack_entry
from mpisa.primitives import merkle
from mpisa.primitives.errors import NotFound, Rejection, RejectionReason, StoreDamaged
from mpisa.primitives.genesis_state import genesis_state
from mpisa.primitives.header import Certificate
from tests.node.ground_keys import GROUND
from tests.node.test_chain_store import GENESIS, GENESIS_HEADER, change_stored, commit, open_store

CERTIFICATE = Certificate(1, (bytes(64),))


def a_source(path: Path) -> ChainStore:
    store = open_store(path)
    commit(store, *[(key, b"ground") for key in GROUND])
    commit(store, *[(b"key %d" % n, b"value %d" % n) for n in range(200)], cursor=b"there")
    return store


def finish(loading: StateLoading, source: ChainStore) -> None:
    state = genesis_state(GENESIS)
    loading.finish(
        [
            *genesis_changes(GENESIS_HEADER, state, GENESIS.hash),
            *snapshot_changes(source.header(source.height), CERTIFICATE, b"there", ()),
        ]
    )


def test_a_loaded_store_goes_on_as_its_source(tmp_path: Path) -> None:
    source = a_source(tmp_path / "source")
    root = source.header(2).state_root
    loading = StateLoading(tmp_path / "loaded", root)
    broken_off = 0
    while (path := loading.next_path) is not None:
        loading.add(source.state_chunk(2, path, 1_500))
        broken_off += 1
        loading.close()
        loading = StateLoading(tmp_path / "loaded", root)
    assert broken_off > 3
    finish(loading, source)
    loaded = open_store(tmp_path / "loaded")
    assert (loaded.height, loaded.certified_height, loaded.complete_height, loaded.lowest_height) == (2, 2, 2, 3)
    assert (loaded.cursor, loaded.certificate(2), loaded.uncertified()) == (b"there", CERTIFICATE, [])
    assert loaded.scan_state(b"key", None, 500) == source.scan_state(b"key", None, 500)
    with pytest.raises(NotFound, match="the state at height 1 isn't kept, only from 2 to 2"):
        loaded.value_at(b"key 1", 1)
    changes = [(b"key 1", b"next"), *[(key, None) for key in GROUND[:50]]]
    assert commit(source, *changes).state_root == commit(loaded, *changes).state_root
    for height in (2, 3):
        assert loaded.prove(b"key 1", height) == source.prove(b"key 1", height)
    loaded.pin_state(2)
    assert loaded.state_chunk(2, bytes(32), 1_000) == source.state_chunk(2, bytes(32), 1_000)
    source.close()
    loaded.close()


def test_what_the_root_does_not_bind_is_refused_and_leaves_no_trace(tmp_path: Path) -> None:
    source = a_source(tmp_path / "source")
    loading = StateLoading(tmp_path / "loaded", source.header(2).state_root)
    first = source.state_chunk(2, bytes(32), 1_500)
    second = source.state_chunk(2, first.next_path or b"", 1_500)
    (key, value), *others = first.entries
    for lie in (
        replace(first, entries=((key, value + b"!"), *others)),
        replace(first, entries=tuple(others)),
        replace(first, entries=()),
        replace(first, last=b"\xff" * 32),
        replace(first, last=b"short"),
        replace(first, proof=second.proof),
        source.state_chunk(1, bytes(32), 1_500),
        second,
    ):
        with pytest.raises(Rejection) as refused:
            loading.add(lie)
        assert refused.value.reason is RejectionReason.BAD_PROOF
    with pytest.raises(Rejection, match=f"a chunk has at most {MAX_CHUNK_ENTRIES} entries"):
        loading.add(replace(first, entries=first.entries * (MAX_CHUNK_ENTRIES // len(first.entries) + 1)))
    assert loading.next_path == bytes(32)
    loading.add(first)
    with pytest.raises(Rejection):
        loading.add(first)
    assert loading.next_path == first.next_path
    source.close()
    loading.close()


def test_another_root_begins_again(tmp_path: Path) -> None:
    source = a_source(tmp_path / "source")
    loading = StateLoading(tmp_path / "loaded", source.header(2).state_root)
    loading.add(source.state_chunk(2, bytes(32), 1_500))
    loading.close()
    again = StateLoading(tmp_path / "loaded", source.header(1).state_root)
    again.add(source.state_chunk(1, bytes(32), 1 << 20))
    assert again.next_path is None
    source.close()
    again.close()


def test_entries_that_rotted_on_the_disk_are_found_at_the_end(tmp_path: Path) -> None:
    source = a_source(tmp_path / "source")
    root = source.header(2).state_root
    loading = StateLoading(tmp_path / "loaded", root)
    loading.add(source.state_chunk(2, bytes(32), 1 << 20))
    loading.close()
    change_stored(tmp_path / "loaded", b"s" + merkle.key_path(b"key 1"), pack_entry(b"key 1", b"rotten"))
    loading = StateLoading(tmp_path / "loaded", root)
    with pytest.raises(StoreDamaged, match="the state that was loaded doesn't lead to its root"):
        finish(loading, source)
    source.close()
    loading.close()
