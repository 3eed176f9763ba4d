"""Pinned states: served chunk by chunk while the chain goes on, few, and not for ever."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mpisa.node import state_pins
from mpisa.node.chain_store import ChainStore
from mpisa.node.state_map import RECENT_HEIGHTS
from mpisa.node.state_pins import MAX_PINS
from mpisa.primitives.errors import NotFound
from mpisa.primitives.merkle import key_path, map_root
from tests.node.ground_keys import GROUND
from tests.node.test_chain_store import commit, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ChainStore]:
    opened = open_store(tmp_path / "ledger")
    yield opened
    opened.close()


def read_all(store: ChainStore, height: int, max_bytes: int = 300) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    path: bytes | None = bytes(32)
    while path is not None:
        chunk = store.state_chunk(height, path, max_bytes)
        assert all(key_path(key) >= path for key, _ in chunk.entries)
        found |= dict(chunk.entries)
        path = chunk.next_path
    return found


def test_a_pinned_state_is_served_whole_while_blocks_go_on(store: ChainStore) -> None:
    commit(store, *[(key, b"ground") for key in GROUND])
    commit(store, *[(b"key %d" % n, b"old %d" % n) for n in range(50)])
    pinned = store.height
    commit(store, (b"key 1", b"before the pin"), (GROUND[0], None))
    store.pin_state(pinned)
    store.pin_state(pinned)
    assert store.pinned_heights == (pinned,)
    begun = store.state_chunk(pinned, bytes(32), 300)
    for n in range(RECENT_HEIGHTS + 5):
        commit(store, (b"key %d" % (n % 60), b"new %d" % n), *[(key, None) for key in GROUND[n : n + 2]])
    assert store.state_chunk(pinned, bytes(32), 300) == begun
    state = read_all(store, pinned)
    assert map_root(state) == store.header(pinned).state_root
    assert (state[b"key 1"], state[GROUND[0]]) == (b"old 1", b"ground")
    assert map_root(read_all(store, store.height)) == store.header(store.height).state_root
    with pytest.raises(NotFound, match=f"the state at height {pinned - 1} isn't kept"):
        store.state_chunk(pinned - 1, bytes(32), 300)
    store.unpin_state(pinned)
    with pytest.raises(NotFound, match=f"the state at height {pinned} isn't kept"):
        store.state_chunk(pinned, bytes(32), 300)


def test_pins_are_few_and_end(store: ChainStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(MAX_PINS + 1):
        commit(store, (b"k", b"%d" % n))
        store.pin_state(store.height)
    assert store.pinned_heights == tuple(range(2, MAX_PINS + 2))
    monkeypatch.setattr(state_pins, "MAX_PINNED_HEIGHTS", 1)
    commit(store)
    assert store.pinned_heights == tuple(range(3, MAX_PINS + 2))
    commit(store)
    assert store.pinned_heights == ()
    with pytest.raises(NotFound, match="the state at height 99 isn't kept"):
        store.pin_state(99)


def test_a_pin_ends_when_the_database_is_opened_again(store: ChainStore) -> None:
    commit(store, (b"k", b"v"))
    store.pin_state(1)
    store._db._broken = True
    store._db.recover()
    with pytest.raises(NotFound, match="the snapshot has ended"):
        store.state_chunk(1, bytes(32), 1000)
    store.unpin_state(1)
    assert dict(store.state_chunk(1, bytes(32), 100_000).entries)[b"k"] == b"v"
