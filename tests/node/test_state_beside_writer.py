"""Readers beside the writer, switched between as often as can be: never a torn answer, never false damage."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mpisa.node.database import Database
from mpisa.node.state_map import StateMap
from mpisa.primitives import merkle
from mpisa.primitives.merkle_range import verify_range
from tests.node.ground_keys import GROUND

BLOCKS = 150
KEYS = [*GROUND, *[b"key %d" % n for n in range(200)]]


@pytest.fixture
def _switching() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_switching")
@pytest.mark.parametrize("cache_bytes", [4_000, 1 << 20])
def test_reading_while_blocks_are_committed(tmp_path: Path, cache_bytes: int) -> None:
    chance = random.Random(cache_bytes)
    database = Database(tmp_path / "db", "test")
    state = StateMap(database, 0, bucket_bytes=cache_bytes, value_bytes=cache_bytes)
    states: list[dict[bytes, bytes]] = [{}]
    roots = [bytes(32)]
    shown = 0

    def write() -> None:
        nonlocal shown
        writes = random.Random(7)
        for number in range(BLOCKS):
            changes = [
                (key, None if writes.random() < 0.3 else b"%d" % number)
                for key in writes.sample(KEYS, writes.randrange(60))
            ]
            state.preview([(b"void", b"x"), *changes[:5]])
            update = state.preview(changes)
            after = dict(states[-1])
            for key, value in changes:
                after.pop(key, None)
                if value is not None:
                    after[key] = value
            states.append(after)
            roots.append(update.root)
            database.write(update.batch, sync=False)
            state.publish(update)
            shown = number + 1

    writer = threading.Thread(target=write)
    writer.start()
    reads = 0
    while writer.is_alive() or reads < 50:
        newest = shown
        height = chance.randrange(max(0, newest - 100), newest + 1)
        key = chance.choice(KEYS)
        value = state.value_at(key, height)
        assert value == states[height].get(key)
        assert state.get(key) in {after.get(key) for after in states[newest:]}
        if roots[height] != bytes(32):
            proof = state.prove(key, height, roots[height])
            if value is None:
                merkle.verify_absence(roots[height], key, proof)
            else:
                merkle.verify_membership(roots[height], key, value, proof)
            first = chance.randbytes(32)
            chunk = state.chunk(height, roots[height], first, 500)
            verify_range(roots[height], first, chunk.last, chunk.entries, chunk.proof)
        reads += 1
    writer.join()
    assert shown == BLOCKS
    database.close()
