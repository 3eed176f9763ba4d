"""The state map on disk against the one in memory, over random histories: tiny caches, restarts, old heights."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mpisa.node.database import Database
from mpisa.node.state_map import RECENT_HEIGHTS, StateMap
from mpisa.primitives import merkle
from mpisa.primitives.errors import NotFound
from mpisa.primitives.merkle_range import prove_range, verify_range
from tests.node.ground_keys import GROUND

KEYS = st.one_of(
    st.sampled_from(GROUND),
    st.integers(0, 30).map(lambda number: b"key %d" % number),
    st.binary(max_size=3),
)
CHANGES = st.lists(st.tuples(KEYS, st.one_of(st.none(), st.binary(max_size=5))), max_size=120)
CACHE_BYTES = 4_000
"""Room for a handful of buckets and values: most are read again and again."""


class StateMapMachine(RuleBasedStateMachine):
    """`states[h]` and `nodes[h]` are the state and the map in memory after height h."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self._database = Database(Path(self._directory.name) / "db", "test")
        self._map = StateMap(self._database, 0, bucket_bytes=CACHE_BYTES, value_bytes=CACHE_BYTES)
        self.states: list[dict[bytes, bytes]] = [{}]
        self.nodes: list[merkle.MapNode | None] = [None]

    def teardown(self) -> None:
        self._database.close()
        self._directory.cleanup()

    @property
    def height(self) -> int:
        return len(self.nodes) - 1

    @initialize(count=st.integers(0, len(GROUND)))
    def begin(self, count: int) -> None:
        """So many keys that fall into one slot of the crown."""
        self.block([(key, b"ground") for key in GROUND[:count]])

    @rule(changes=CHANGES)
    def block(self, changes: list[tuple[bytes, bytes | None]]) -> None:
        update = self._map.preview(changes)
        node = merkle.update(self.nodes[-1], changes)
        assert update.root == merkle.root_hash(node)
        self._database.write(update.batch, sync=False)
        self._map.publish(update)
        after = dict(self.states[-1])
        for key, value in changes:
            after.pop(key, None)
            if value is not None:
                after[key] = value
        self.states.append(after)
        self.nodes.append(node)

    @rule(keep=st.integers(0, len(GROUND)))
    def remove_ground_keys(self, keep: int) -> None:
        self.block([(key, None) for key in GROUND[keep:]])

    @rule(changes=CHANGES)
    def preview_only(self, changes: list[tuple[bytes, bytes | None]]) -> None:
        """Computed and never written: nothing of it may show."""
        self._map.preview(changes)

    @rule()
    def restart(self) -> None:
        self._map = StateMap(self._database, self.height, bucket_bytes=CACHE_BYTES, value_bytes=CACHE_BYTES)
        assert self._map.load() == merkle.root_hash(self.nodes[-1])

    @rule(data=st.data(), keys=st.lists(KEYS, min_size=1, max_size=8))
    def read(self, data: st.DataObject, keys: list[bytes]) -> None:
        height = data.draw(st.integers(0, self.height))
        state, node = self.states[height], self.nodes[height]
        for key in keys:
            assert self._map.get(key) == self.states[-1].get(key)
            assert self._map.value_at(key, height) == state.get(key)
            proof = self._map.prove(key, height, merkle.root_hash(node))
            assert proof == merkle.prove(node, key)

    @rule(data=st.data(), first=st.binary(min_size=32, max_size=32), max_bytes=st.integers(1, 2_000))
    def chunks(self, data: st.DataObject, first: bytes, max_bytes: int) -> None:
        """From a path to the end, a chunk at a time, at one height."""
        height = data.draw(st.integers(0, self.height))
        state, node = self.states[height], self.nodes[height]
        if node is None:
            return
        found: list[tuple[bytes, bytes]] = []
        begin: bytes | None = first
        while begin is not None:
            chunk = self._map.chunk(height, merkle.root_hash(node), begin, max_bytes)
            assert chunk.proof == prove_range(node, begin, chunk.last)
            verify_range(merkle.root_hash(node), begin, chunk.last, chunk.entries, chunk.proof)
            assert sum(len(key) + len(value) + 2 for key, value in chunk.entries[:-1]) < max_bytes
            found += chunk.entries
            begin = chunk.next_path
        assert found == sorted(
            [item for item in state.items() if merkle.key_path(item[0]) >= first],
            key=lambda item: merkle.key_path(item[0]),
        )

    @rule(prefix=st.sampled_from((b"key", b"key 1", b"\x00")), limit=st.integers(1, 20))
    def scan(self, prefix: bytes, limit: int) -> None:
        expected = sorted(item for item in self.states[-1].items() if item[0].startswith(prefix))
        assert self._map.scan(prefix, None, limit) == expected[:limit]
        if len(expected) > limit:
            assert self._map.scan(prefix, expected[0][0], limit) == expected[1 : limit + 1]

    @invariant()
    def caches_are_bounded(self) -> None:
        assert self._map.cached_bytes <= 4 * CACHE_BYTES


TestStateMap = StateMapMachine.TestCase
TestStateMap.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def commit(database: Database, state: StateMap, *changes: tuple[bytes, bytes | None]) -> bytes:
    update = state.preview(changes)
    database.write(update.batch, sync=False)
    state.publish(update)
    return update.root


def test_old_heights_are_pruned(tmp_path: Path) -> None:
    database = Database(tmp_path / "db", "test")
    state = StateMap(database, 0)
    blocks = [((b"k", b"%d" % number), (b"new %d" % number, b"x")) for number in range(RECENT_HEIGHTS + 5)]
    roots = [bytes(32), *[commit(database, state, *changes) for changes in blocks]]
    oldest = len(roots) - 1 - RECENT_HEIGHTS
    for height in (oldest, oldest + 1, len(roots) - 1):
        proof = state.prove(b"k", height, roots[height])
        merkle.verify_membership(roots[height], b"k", b"%d" % (height - 1), proof)
        merkle.verify_absence(roots[height], b"new %d" % height, state.prove(b"new %d" % height, height, roots[height]))
    for height in (oldest - 1, len(roots)):
        with pytest.raises(NotFound, match=f"the state at height {height} isn't kept, only from {oldest} to"):
            state.prove(b"k", height, bytes(32))
    assert [int.from_bytes(key[1:], "big") for key, _ in database.range(b"u", b"v")] == list(
        range(oldest + 1, len(roots))
    )
    database.close()


def test_a_ground_slot_costs_pages_and_gives_them_back(tmp_path: Path) -> None:
    """Keys ground into one slot of the crown: no bucket grows beyond its bound, no page stays behind."""
    database = Database(tmp_path / "db", "test")
    state = StateMap(database, 0)
    commit(database, state, *[(key, b"v") for key in GROUND])
    pages = [key for key, _ in database.range(b"p", b"q")]
    assert len(pages) == 2  # the slot's, and that of those which share four bits more
    assert max(len(content) for content in state._buckets._young.values()) <= 32 * 64
    commit(database, state, *[(key, None) for key in GROUND[1:]])
    assert database.range(b"p", b"q") == []
    assert commit(database, state, (GROUND[0], None)) == bytes(32)
    assert [database.range(kind, kind + b"\xff") for kind in (b"s", b"k", b"n", b"p")] == [[], [], [], []]
    database.close()
