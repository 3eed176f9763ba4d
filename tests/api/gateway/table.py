"""One row of the conformance table, and what rows are written with.

Cases follow specs.ipfs.tech (trustless gateway, path gateway) over the public fixtures of ipfs/gateway-conformance,
which lie in tests/vectors/gateway. A row's CIDs come from the fixtures' blocks, found by paths below their roots.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from urllib.parse import quote

from mpisa.primitives.car_stream import CarFrames
from mpisa.primitives.cid import Cid
from storage.blockstore import MemoryBlockStore
from storage.car import import_car
from storage.paths import resolve
from storage.reader import DagReader

HOME = Path(__file__).parents[2] / "vectors" / "gateway" / "fixtures"
CAR = "application/vnd.ipld.car"
RAW = "application/vnd.ipld.raw"
IMMUTABLE = "public, max-age=29030400, immutable"
GENERATED = "public, max-age=604800, stale-while-revalidate=2678400"

Check = Callable[[bytes], bool]


@dataclass(frozen=True)
class Case:
    """A request and what its answer must be. `headers` are compared as patterns that must match in full; a name with
    the pattern "" must be absent.
    """

    name: str
    path: str
    query: str = ""
    ask: Mapping[str, str] = field(default_factory=dict)
    method: str = "GET"
    status: int | range = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    check: Check | None = None

    def faults(self, status: int, headers: Mapping[str, str], body: bytes) -> list[str]:
        """What is wrong with an answer."""
        found = []
        expected = self.status if isinstance(self.status, range) else (self.status,)
        if status not in expected:
            found.append(f"status {status}, expected {self.status}: {body[:300]!r}")
        for name, pattern in self.headers.items():
            value = headers.get(name)
            if pattern == "" and value is not None:
                found.append(f"{name}: {value!r}, expected none")
            elif pattern and (value is None or re.fullmatch(pattern, value) is None):
                found.append(f"{name}: {value!r}, expected {pattern!r}")
        if self.body is not None and body != self.body:
            found.append(f"body {body[:120]!r}, expected {self.body[:120]!r}")
        if self.check is not None and not self.check(body):
            found.append(f"body {body[:300]!r} doesn't pass")
        return found


@cache
def blocks_of(name: str) -> tuple[MemoryBlockStore, Cid]:
    """The blocks of a fixture, and its first root."""
    store = MemoryBlockStore()
    with (HOME / name).open("rb") as file:
        return store, import_car(store, file)[0]


def at(name: str, path: str = "") -> Cid:
    """The CID at a path below a fixture's root."""
    store, root = blocks_of(name)
    return resolve(DagReader(store.get), root, [part for part in path.split("/") if part]).cid


def block(name: str, path: str = "") -> bytes:
    """The block there."""
    return DagReader(blocks_of(name)[0].get).block(at(name, path))


def below(name: str, path: str = "") -> list[Cid]:
    """All blocks below it in depth-first order, it first."""
    return [cid for cid, _ in DagReader(blocks_of(name)[0].get).walk(at(name, path))]


def way(name: str, path: str) -> list[Cid]:
    """The blocks that a path takes, shards of directories too, without the last."""
    store, root = blocks_of(name)
    return list(resolve(DagReader(store.get), root, [part for part in path.split("/") if part]).path_blocks)


def url(cid: Cid | str, path: str = "", space: str = "ipfs") -> str:
    return f"/{space}/{cid}" + quote(path)


def holds(*texts: str) -> Check:
    """A page that has these."""
    return lambda body: all(text in body.decode() for text in texts)


def lacks(*texts: str) -> Check:
    return lambda body: not any(text in body.decode() for text in texts)


def car_of(*cids: Cid) -> Check:
    """A CAR of exactly these blocks in this order."""

    def check(body: bytes) -> bool:
        frames = CarFrames()
        found = [cid for cid, _ in frames.feed(body)]
        frames.finish()
        return found == list(cids)

    return check
