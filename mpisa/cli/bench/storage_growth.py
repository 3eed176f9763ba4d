"""`mpisa bench storage --growth`: the same work over sizes and numbers of files, once each, and the plots of it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from mpisa.cli.bench import plot, storage, storage_network
from mpisa.cli.bench.machine import devnet
from mpisa.cli.bench.result import Bench, Figure, machine, versions
from mpisa.cli.bench.storage_size import FULL, GIB, Size

SIZES_GIB = (1, 4, 16)
FILES = (1_000, 10_000, 100_000)
QUICK_DIVISOR = 256
COPIES = 6
_VERSIONS = ("mpisa", "aiohttp", "cryptography", "libp2p", "plyvel", "uvloop")


def run(quick: bool, against: str | None, file: Path, say: storage.Say) -> Bench:
    """Take every figure and draw the plot; leaves nothing running, and nothing else on disk."""
    where = machine()
    peer = storage.find_peer(against, say)
    divisor = QUICK_DIVISOR if quick else 1
    added, moved, files = [], [], []
    with tempfile.TemporaryDirectory(prefix="mpisa-bench-") as directory:
        place = Path(directory)
        for gib in SIZES_GIB:
            say(f"{gib} GiB, 1/{divisor} of it" if quick else f"{gib} GiB")
            size = replace(FULL, runs=1, large_bytes=gib * GIB // divisor)
            added.append(_named(storage.add_large(size, place, peer)[0], f"add_{gib}gib"))
            moved.append(_named(_transfer(size, place, _with_room(size, place, peer, say)), f"transfer_{gib}gib"))
        for count in FILES:
            say(f"{count:,} files, 1/{divisor} of them" if quick else f"{count:,} files")
            size = replace(FULL, runs=1, files=count // divisor)
            files.append(_named(storage.add_small(size, place, peer), f"add_{count // 1000}k_files"))
    file.parent.mkdir(parents=True, exist_ok=True)
    panels = [
        _panel("added", SIZES_GIB, added),
        _panel("from node to node", SIZES_GIB, moved),
        _panel("added, of 4 KiB", FILES, files),
    ]
    file.write_text(plot.draw(panels, "GiB, GiB, files"))
    return Bench("storage-growth", where, versions(_VERSIONS), (*added, *moved, *files), picture=file.name)


def _with_room(size: Size, place: Path, peer: Path | None, say: storage.Say) -> Path | None:
    """The peer, if the disk holds a source, two copies of ours and two of the peer's."""
    if peer is None or shutil.disk_usage(place).free > COPIES * size.large_bytes:
        return peer
    say(f"no room on the disk for {COPIES} times {size.large_bytes // GIB} GiB: this transfer has no peer")
    return None


def _transfer(size: Size, place: Path, peer: Path | None) -> Figure:
    """With nodes of its own: what the last size left on the disk is gone."""
    home = place / "transfer"
    home.mkdir()
    try:
        with (
            storage_network.pair_of_kubo(home / "kubo", peer) as pair,
            devnet(home / "devnet", storage_network.NODES) as (network, _seconds),
        ):
            return storage_network.transfers(size, network, home, pair)[0]
    finally:
        shutil.rmtree(home)


def _named(figure: Figure, name: str) -> Figure:
    """Growth is looked at, not promised: no goal."""
    facts = {key: value for key, value in figure.facts.items() if key not in ("goal_is", "files")}
    return replace(figure, name=name, goal=None, facts=facts)


def _panel(title: str, sizes: Sequence[int], figures: Sequence[Figure]) -> plot.Panel:
    own = [(size, figure.value) for size, figure in zip(sizes, figures, strict=True)]
    peer = [(size, median(item.peer_runs)) for size, item in zip(sizes, figures, strict=True) if item.peer_runs]
    return plot.Panel(title, figures[0].unit, own, peer=peer)
