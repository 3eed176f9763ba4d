"""The two maps that `mpisa bench state` compares, each in a process of its own: on the disk, and wholly in memory.

Both hold the same entries and take the same blocks. The one in memory writes what a store without a map on the disk
would: values and what they replaced. Answers are plain numbers, so that nothing of one process counts in the other.
"""

from __future__ import annotations

import gc
import os
import random
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpisa.node.database import Database
from mpisa.node.state_map import StateMap
from mpisa.node.state_storage import (
    CROWN_BITS,
    ENTRY,
    FIRST_PATH,
    KEY,
    LAST_PATH,
    SLOT,
    entries_between,
    pack_entry,
    pack_node,
    page_key,
    slot_key,
)
from mpisa.primitives import merkle
from mpisa.primitives.merkle_bucket import leaf_hash
from mpisa.primitives.merkle_builder import slots_of

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from mpisa.node.database import Change

VALUE_BYTES = 80
"""About an account's."""
BUILD_STEP = 20_000
HOT_KEYS = 20_000
RECENT = 8

Answer = dict[str, float]


def key_of(number: int) -> bytes:
    """The key of one account."""
    return b"a\0" + sha256(b"%d" % number).digest()[:20]


def value_of(number: int, version: int) -> bytes:
    """Its value after so many changes."""
    return (sha256(b"%d.%d" % (number, version)).digest() * 3)[:VALUE_BYTES]


class Blocks:
    """The same blocks for both maps: `wide` ones draw from all keys, the others from the hot ones."""

    def __init__(self, keys: int) -> None:
        self._keys = keys
        self._random = random.Random(keys)  # noqa: S311 - no secret
        self._made = 0

    def changes(self, count: int, wide: bool) -> list[tuple[bytes, bytes]]:
        """The next block."""
        self._made += 1
        bound = self._keys if wide else min(self._keys, HOT_KEYS)
        return [(key_of(n), value_of(n, self._made)) for n in (self._random.randrange(bound) for _ in range(count))]


def build(path: Path, keys: int) -> None:
    """A state of so many entries on the disk, as loading a snapshot makes it."""
    database = Database(path, "bench state")
    for first in range(0, keys, BUILD_STEP):
        pairs = [(key_of(n), value_of(n, 0)) for n in range(first, min(keys, first + BUILD_STEP))]
        batch: list[Change] = [(ENTRY + merkle.key_path(key), pack_entry(key, value)) for key, value in pairs]
        database.write(batch + [(KEY + key, b"") for key, _ in pairs], sync=False)
    leaves = (
        (path, leaf_hash(path, entry[-VALUE_BYTES:]))
        for path, entry in entries_between(database, FIRST_PATH, LAST_PATH)
    )
    batch = []
    for slot, node, pages in slots_of(leaves, CROWN_BITS):
        batch.append((slot_key(slot), pack_node(node)))
        batch += [(page_key(index), page) for index, page in pages.items()]
    database.write(batch, sync=True)
    database.close()


def resident_mib() -> float:
    """Memory that this process has in RAM, mapped tables included."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


class OnDisk:
    """The node's own state map."""

    def __init__(self, path: Path, keys: int) -> None:
        from mpisa.cli.serve import preload

        preload()  # what a node has in memory besides counts as well
        self._path = path
        self._blocks = Blocks(keys)
        self._keys = keys
        self._height = 0
        self._roots: list[bytes] = []
        self.start()

    def start(self) -> Answer:
        """Open the database and know the root; the first value read."""
        begun = time.perf_counter()
        self._database = Database(self._path, "bench state")
        self._map = StateMap(self._database, self._height)
        self._roots = [*self._roots[:-1], self._map.load()]
        assert self._map.get(key_of(0)) is not None
        seconds = time.perf_counter() - begun
        return {"seconds": seconds, "slots": float(sum(1 for _ in self._database.scan(SLOT)))}

    def restart(self) -> Answer:
        """As after a stop: nothing of the map is in memory."""
        self._database.close()
        del self._map
        gc.collect()
        return self.start()

    def block(self, count: int, wide: bool) -> Answer:
        """One chain block's changes to the state: computed, written, published."""
        changes = self._blocks.changes(count, wide)
        begun, cpu = time.perf_counter(), time.thread_time()
        update = self._map.preview(changes)
        computed = time.thread_time() - cpu
        self._database.write(update.batch, sync=True)
        cpu = time.thread_time()
        self._map.publish(update)
        seconds, computed = time.perf_counter() - begun, computed + time.thread_time() - cpu
        self._height, self._roots = update.height, [*self._roots, update.root]
        size = sum([len(key) + len(value or b"") for key, value in update.batch])
        return {"seconds": seconds, "map_cpu": computed, "bytes": float(size)}

    def proof(self) -> Answer:
        """Of a random key at one of the latest heights."""
        key = key_of(random.randrange(self._keys))  # noqa: S311 - no secret
        height = max(0, self._height - random.randrange(RECENT))  # noqa: S311
        begun = time.perf_counter()
        proof = self._map.prove(key, height, self._roots[height])
        proved = time.perf_counter()
        value = self._map.value_at(key, height)
        assert value is not None
        begun_check = time.perf_counter()
        merkle.verify_membership(self._roots[height], key, value, proof)
        return {
            "seconds": proved - begun,
            "verify": time.perf_counter() - begun_check,
            "bytes": float(len(proof.encode())),
        }

    def chunk(self, max_bytes: int) -> Answer:
        """A piece of a snapshot from a random path on, proof included."""
        begun = time.perf_counter()
        found = self._map.chunk(self._height, self._roots[-1], random.randbytes(32), max_bytes)  # noqa: S311
        return {"seconds": time.perf_counter() - begun, "entries": float(len(found.entries))}

    def resident(self) -> Answer:
        """Memory of a process that holds a node's libraries and this map."""
        gc.collect()
        return {"mib": resident_mib()}


class InMemory:
    """The pure map of `mpisa.primitives.merkle`, all nodes as objects."""

    def __init__(self, path: Path, keys: int) -> None:
        self._database = Database(path, "bench values")
        self._blocks = Blocks(keys)
        self._keys = keys
        self._values: dict[bytes, bytes] = {}
        self._node: merkle.MapNode | None = None
        self._height = 0
        for first in range(0, keys, BUILD_STEP):
            pairs = [(key_of(n), value_of(n, 0)) for n in range(first, min(keys, first + BUILD_STEP))]
            self._values |= dict(pairs)
            self._node = merkle.update(self._node, pairs)
            self._database.write([(b"s" + key, value) for key, value in pairs], sync=False)
        gc.collect()
        gc.freeze()

    def block(self, count: int, wide: bool) -> Answer:
        """The same changes as the other's; `hashes` is how many digests the new map needs."""
        changes = self._blocks.changes(count, wide)
        begun, cpu = time.perf_counter(), time.thread_time()
        node = merkle.update(self._node, changes)
        computed = time.thread_time() - cpu
        undo = b"".join([pack_entry(key, self._values[key]) for key, _ in dict(changes).items()])
        self._height += 1
        batch: list[Change] = [(b"s" + key, value) for key, value in changes]
        batch.append((b"u" + self._height.to_bytes(8, "big"), undo))
        self._database.write(batch, sync=True)
        seconds = time.perf_counter() - begun
        hashes = _new_nodes(self._node, node) + 2 * len(dict(changes))
        self._node = node
        self._values |= dict(changes)
        return {"seconds": seconds, "map_cpu": computed, "hashes": float(hashes)}

    def proof(self) -> Answer:
        """Of a random key, now."""
        key = key_of(random.randrange(self._keys))  # noqa: S311 - no secret
        begun = time.perf_counter()
        merkle.prove(self._node, key)
        return {"seconds": time.perf_counter() - begun}

    def resident(self) -> Answer:
        """Memory of this process."""
        return {"mib": resident_mib()}


def _new_nodes(old: merkle.MapNode | None, new: merkle.MapNode | None) -> int:
    """Nodes of the new map that the old one doesn't share."""
    count, waiting = 0, [(old, new)]
    while waiting:
        before, after = waiting.pop()
        if after is not None and after is not before:
            count += 1
            if isinstance(after, merkle.Branch):
                known = before if isinstance(before, merkle.Branch) else None
                waiting.append((known.left if known else None, after.left))
                waiting.append((known.right if known else None, after.right))
    return count


def hash_and_write(path: Path, hashes: int, changes: int) -> Callable[[], tuple[float, float]]:
    """What bounds a block: seconds for so many digests of two hashes each, and for a synced batch of the new values."""
    database = Database(path, "bench limit")
    message = bytes(65)

    def measure() -> tuple[float, float]:
        begun = time.perf_counter()
        for _ in range(hashes):
            sha256(message).digest()
        hashed = time.perf_counter()
        database.write([(random.randbytes(33), bytes(VALUE_BYTES)) for _ in range(changes)], sync=True)  # noqa: S311
        return hashed - begun, time.perf_counter() - hashed

    return measure


def serve(connection: Connection, kind: str, path: Path, keys: int) -> None:
    """Do what the bench says until it hangs up."""
    if kind == "build":
        build(path, keys)
        connection.send({})
        return
    worker = OnDisk(path, keys) if kind == "disk" else InMemory(path, keys)
    connection.send({})
    while True:
        try:
            name, arguments = connection.recv()
        except EOFError:
            return
        call: Callable[..., Any] = getattr(worker, name)
        connection.send(call(*arguments))
