"""`mpisa bench storage`: adding, verifying, collecting and moving bytes, with Kubo beside it in the same run.

Both sides take turns, each with a new store and a new process, after what was written before has reached the disk; the
bytes to add are in the page cache. Their limits are taken in between: sha256 on one core, a sequential write that is
synced each 16 MiB, and for transfers aiohttp over TLS. `storage_worker` holds our store, `kubo` the peer,
`storage_network` the figures that need two nodes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mpisa.cli.bench import kubo, storage_network
from mpisa.cli.bench.asked import Asked
from mpisa.cli.bench.machine import MIB
from mpisa.cli.bench.result import Bench, Figure, machine, versions
from mpisa.cli.bench.storage_size import FULL, QUICK, Size, compared, sized, write_random

SYNC_EACH_BYTES = 16 * MIB
FILE_BYTES = 4096
_VERSIONS = ("mpisa", "aiohttp", "cryptography", "libp2p", "plyvel", "uvloop")
_ADD_LIMIT = "the lower of sha256 on one core and a write synced each 16 MiB"

Say = Callable[[str], None]


def run(quick: bool, against: str | None, say: Say) -> Bench:
    """Take every figure; leaves nothing running and nothing on disk."""
    size = QUICK if quick else FULL
    where = machine()
    peer = find_peer(against, say)
    with tempfile.TemporaryDirectory(prefix="mpisa-bench-") as directory:
        place = Path(directory)
        figures = on_disk(size, place, peer, say)
        figures += storage_network.measure(size, place, peer, say)
        say("rss_8gib_mib: adding")
        figures.append(_memory(size, place, peer, figures.pop()))
    return Bench("storage", where, versions(_VERSIONS), tuple(figures))


def find_peer(against: str | None, say: Say) -> Path | None:
    """Kubo's library, if it was asked for and is here; what will be left out is said."""
    if against is None:
        return None
    found = kubo.library()
    if found is None:
        say(f"Kubo isn't here and is left out: {kubo.WHERE_FROM}")
    else:
        say("Kubo's library can't collect garbage, nor give a part of a file: those figures have no peer")
    return found


def on_disk(size: Size, place: Path, peer: Path | None, say: Say) -> list[Figure]:
    """The figures of one store."""
    say("add_1gib, verify_all")
    figures = add_large(size, place, peer)
    say("add_10k_files")
    figures.append(add_small(size, place, peer))
    say("gc_100k_s, gc_read_p99_ratio")
    return figures + _collection(size, place)


def add_large(size: Size, place: Path, peer: Path | None) -> list[Figure]:
    """Adding one file, and verifying it then."""
    source = write_random(place / "large", size.large_bytes)
    mib = size.large_bytes / MIB
    own, other, verified, hashed, written, peaks = [], [], [], [], [], []
    for number in range(size.runs):
        with _worker(place / "ours") as worker:
            own.append(mib / worker.ask("add", source)["seconds"])
            peaks.append(worker.ask("peak"))
            checked = worker.ask("verify")
            verified.append(checked["bytes"] / MIB / checked["seconds"])
        if peer is not None:
            with _kubo(peer, place / f"kubo-{number}") as node:
                other.append(mib / node.seconds("add", source))
        hashed.append(mib / hash_file(source))
        written.append(mib / write_synced(source, place / "plain"))
    source.unlink()
    limit = hashed if statistics.median(hashed) < statistics.median(written) else written
    bound = statistics.median(limit)
    facts = {"sha256": _short(hashed), "synced_write": _short(written), "peak_mib": round(max(peaks))}
    goal = min(3 * _middle(other), max(2 * _middle(other), 0.75 * bound)) if other else None
    return [
        compared(
            Figure("add_1gib", "MiB/s", "higher", tuple(own), goal=goal, facts=facts),
            peer_runs=other,
            limit=_ADD_LIMIT,
            limit_runs=limit,
            facts=sized(size.large_bytes, FULL.large_bytes)
            | {"goal_is": "3x Kubo, or 2x and 75% of the limit", "compared": "libraries, not daemons"},
        ),
        compared(
            Figure("verify_all", "MiB/s", "higher", tuple(verified), goal=0.7 * statistics.median(hashed)),
            limit="sha256 on one core",
            limit_runs=hashed,
            facts={"goal_is": "70% of sha256"},
        ),
    ]


def add_small(size: Size, place: Path, peer: Path | None) -> Figure:
    """Adding a directory of many small files."""
    tree = place / "files"
    tree.mkdir()
    for number in range(size.files):
        (tree / f"{number:06d}").write_bytes(os.urandom(FILE_BYTES))
    own, other, read = [], [], []
    for number in range(size.runs):
        with _worker(place / "ours") as worker:
            own.append(size.files / worker.ask("add", tree)["seconds"])
        if peer is not None:
            with _kubo(peer, place / f"kubo-{number}") as node:
                other.append(size.files / node.seconds("add", tree))
        begun = time.perf_counter()
        for path in tree.iterdir():
            hashlib.sha256(path.read_bytes()).digest()
        read.append(size.files / (time.perf_counter() - begun))
    shutil.rmtree(tree)
    goal = 8 * _middle(other) if other else None
    return compared(
        Figure("add_10k_files", "files/s", "higher", tuple(own), goal=goal, facts={"goal_is": "8x Kubo"}),
        peer_runs=other,
        limit="opening, reading and hashing each file, nothing stored",
        limit_runs=read,
        facts={"bytes_each": FILE_BYTES} | ({} if size.files == FULL.files else {"files": size.files}),
    )


def _collection(size: Size, place: Path) -> list[Figure]:
    found = []
    for _ in range(size.runs):
        with _worker(place / "ours") as worker:
            worker.ask("fill", size.dead_blocks)
            os.sync()
            found.append(worker.ask("collect"))
    last = found[-1]
    facts = {
        "blocks": last["blocks"],
        "mib_freed": round(last["freed"] / MIB),
        "mib_rewritten": round(last["rewritten"] / MIB),
        "longest_hold_ms": _short([run["longest_hold_ms"] for run in found]),
    }
    reads = {name: _short([run[name] for run in found]) for name in ("idle_p99_ms", "busy_p99_ms")}
    ratios = tuple([run["busy_p99_ms"] / run["idle_p99_ms"] for run in found])
    return [
        Figure("gc_100k_s", "s", "lower", tuple([run["seconds"] for run in found]), facts=facts),
        Figure("gc_read_p99_ratio", "times idle", "lower", ratios, goal=2.0, facts=reads | {"reads": last["reads"]}),
    ]


def _memory(size: Size, place: Path, peer: Path | None, transfer: Figure) -> Figure:
    """The larger of what adding needs and what the two nodes of a transfer do, each in a process that did only that."""
    source = write_random(place / "huge", size.huge_bytes)
    other = []
    with _worker(place / "ours") as worker:
        worker.ask("add", source)
        adding = worker.ask("peak")
    if peer is not None:
        with _kubo(peer, place / "kubo-huge") as node:
            node.seconds("add", source)
            other.append(node.peak_mib)
    source.unlink()
    facts = sized(size.huge_bytes, FULL.huge_bytes) | {
        "add_mib": round(adding),
        "transfer_mib": round(transfer.value),
        "compared": "Kubo: adding alone",
    }
    largest = max(adding, transfer.value)
    return compared(
        Figure("rss_8gib_mib", "MiB", "lower", (largest,), goal=256.0), peer_runs=other, facts=facts | transfer.facts
    )


def hash_file(path: Path) -> float:
    """Seconds that one core hashes a file."""
    digest = hashlib.sha256()
    begun = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        while piece := file.read(MIB):
            digest.update(piece)
    return time.perf_counter() - begun


def write_synced(source: Path, target: Path) -> float:
    """Seconds of copying a file, synced each 16 MiB."""
    begun = time.perf_counter()
    with source.open("rb", buffering=0) as file, target.open("wb", buffering=0) as out:
        while piece := file.read(SYNC_EACH_BYTES):
            out.write(piece)
            os.fdatasync(out.fileno())
    seconds = time.perf_counter() - begun
    target.unlink()
    return seconds


@contextmanager
def _worker(home: Path) -> Iterator[Asked]:
    """A new store in a new process; gone afterwards."""
    os.sync()
    command = [sys.executable, "-m", "mpisa.cli.bench.storage_worker", str(home)]
    try:
        with Asked(command, home.with_suffix(".err")) as worker:
            yield worker
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def _kubo(library: Path, home: Path) -> Iterator[kubo.KuboNode]:
    """A new node with a new repository; gone afterwards."""
    os.sync()
    try:
        with kubo.KuboNode(library, home) as node:
            node.require_synced()
            yield node
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _middle(values: list[float]) -> float:
    return statistics.median(values)


def _short(values: list[float]) -> float:
    return float(f"{statistics.median(values):.4g}")
