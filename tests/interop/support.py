"""Trees of files to send around, and fetching a whole DAG as a node does: what a block links to is fetched next."""

from __future__ import annotations

import os
from pathlib import Path

from mpisa.network.ports import PeerAddress
from mpisa.network.service import PeerNetwork
from mpisa.primitives.cid import Cid
from mpisa.primitives.links import links_of
from storage.blockstore import MemoryBlockStore
from storage.export import export_to_path
from storage.importer import import_path
from storage.profiles import Profile
from storage.reader import DagReader

SIZES = (4 << 10, 1 << 20, 32 << 20)


def make_file(folder: Path, size: int) -> Path:
    path = folder / f"{size} bytes"
    path.write_bytes(os.urandom(size))
    return path


def make_tree(folder: Path) -> Path:
    tree = folder / "tree"
    (tree / "inner" / "deep").mkdir(parents=True)
    (tree / "empty").write_bytes(b"")
    (tree / "inner" / "größe.bin").write_bytes(os.urandom(700_000))
    for number in range(50):
        (tree / "inner" / "deep" / f"{number}.txt").write_text(f"file {number}\n")
    return tree


def contents(path: Path) -> dict[str, bytes]:
    """The files at or below a path, by their names below it."""
    if path.is_file():
        return {"": path.read_bytes()}
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def add(store: MemoryBlockStore, path: Path, profile: Profile) -> Cid:
    return import_path(store, path, profile).cid


async def fetch(network: PeerNetwork, store: MemoryBlockStore, root: Cid, providers: list[PeerAddress]) -> None:
    """All blocks of the DAG, level by level."""
    level = [root]
    while level:
        found = [pair async for pair in network.exchange.fetch_many(level, providers)]
        store.put(found)
        level = [link for cid, block in found for link in links_of(cid, block)]


def take_out(store: MemoryBlockStore, root: Cid, folder: Path) -> Path:
    path = folder / "out"
    export_to_path(DagReader(store.get), root, path)
    return path
