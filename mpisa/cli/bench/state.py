"""`mpisa bench state`: the state map with many keys: a block's update, a proof, a restart, memory.

Next to it the same map wholly in memory, which is what it replaced, and what bounds both: the sha256 digests that the
new nodes need, and one synced batch of the new values. All three take turns.
"""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpisa.cli.bench import state_worker
from mpisa.cli.bench.result import Bench, Figure, machine, versions

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

UPDATES = 1_000
SMALL_UPDATES = 200
RESTARTS = 5
ROUNDS = 9
PROOFS = 200
CHUNK_BYTES = 1 << 20
WARM_ROUNDS = 30
_ANSWER_TIMEOUT_S = 600.0
_VERSIONS = ("mpisa", "plyvel")
_PEER = "the map wholly in memory"
_LIMIT = "sha256 of the new nodes and a synced batch of the values"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Worker:
    """One map in a process of its own."""

    connection: Connection

    def ask(self, name: str, *arguments: Any) -> dict[str, float]:
        """What a method of the worker measured."""
        self.connection.send((name, arguments))
        return self.wait()

    def wait(self) -> dict[str, float]:
        """The next answer. Raises RuntimeError when the process has ended or doesn't answer."""
        if not self.connection.poll(_ANSWER_TIMEOUT_S):
            raise RuntimeError("a measuring process doesn't answer")
        try:
            answer: dict[str, float] = self.connection.recv()
        except EOFError:
            raise RuntimeError("a measuring process has ended") from None
        return answer


@contextmanager
def _worker(kind: str, path: Path, keys: int) -> Iterator[Worker]:
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    process = context.Process(target=state_worker.serve, args=(far, kind, path, keys), daemon=True)
    process.start()
    far.close()
    worker = Worker(near)
    try:
        worker.wait()
        yield worker
    finally:
        near.close()
        process.join(_ANSWER_TIMEOUT_S)


def run(keys: int, say: Say) -> Bench:
    """Take every figure; leaves nothing running and nothing on disk."""
    where = machine()
    with tempfile.TemporaryDirectory(prefix="mpisa-bench-") as directory:
        place = Path(directory)
        say(f"a state of {keys:,} keys, on the disk and in memory")
        with _worker("build", place / "disk", keys):
            pass
        with _worker("disk", place / "disk", keys) as disk, _worker("memory", place / "values", keys) as memory:
            say("state_restart_s")
            figures = [_restart(disk, keys)]
            say("state_block_1000_ms, state_block_1000_cold_ms")
            figures += _blocks(disk, memory, place)
            say("state_update_us")
            figures.append(_updates(disk, memory))
            say("state_proof_ms")
            figures.append(_proofs(disk, memory))
            say("state_chunk_1mib_ms, state_rss_mib")
            figures.append(_chunks(disk))
            figures.append(_memory(disk, memory))
    return Bench("state", where, versions(_VERSIONS), tuple(figures))


def _restart(disk: Worker, keys: int) -> Figure:
    runs = [disk.ask("restart") for _ in range(RESTARTS)]
    facts = {"keys": keys, "slots_read": int(runs[-1]["slots"])}
    return Figure("state_restart_s", "s", "lower", tuple([run["seconds"] for run in runs]), goal=5.0, facts=facts)


def _blocks(disk: Worker, memory: Worker, place: Path) -> list[Figure]:
    """Random keys out of all: first with a cache that is empty after the restart, then with one that has warmed up."""
    first = memory.ask("block", UPDATES, True)
    limit = state_worker.hash_and_write(place / "limit", int(first["hashes"]), UPDATES)
    disk.ask("block", UPDATES, True)
    found = []
    for name, warm in (("state_block_1000_cold_ms", 0), ("state_block_1000_ms", WARM_ROUNDS)):
        for _ in range(warm):
            disk.ask("block", UPDATES, True)
            memory.ask("block", UPDATES, True)
        own, peer, bound = [], [], []
        for _ in range(ROUNDS):
            own.append(disk.ask("block", UPDATES, True))
            peer.append(memory.ask("block", UPDATES, True))
            bound.append(limit())
        facts = {
            "map_cpu_ms": _middle([run["map_cpu"] * 1e3 for run in own]),
            "in_memory_map_cpu_ms": _middle([run["map_cpu"] * 1e3 for run in peer]),
            "batch_kib": _middle([run["bytes"] / 1024 for run in own]),
            "digests": int(first["hashes"]),
            "sha256_ms": _middle([hashed * 1e3 for hashed, _ in bound]),
            "synced_batch_ms": _middle([written * 1e3 for _, written in bound]),
        }
        found.append(
            Figure(
                name,
                "ms",
                "lower",
                _ms(own),
                peer=_PEER,
                peer_runs=_ms(peer),
                limit=_LIMIT,
                limit_runs=tuple([sum(run) * 1e3 for run in bound]),
                facts=facts,
            )
        )
    return found[::-1]


def _updates(disk: Worker, memory: Worker) -> Figure:
    """CPU of the map alone an update, in blocks as small as a busy chain's, on keys that are used again and again."""
    own, peer = [], []
    for number in range(WARM_ROUNDS * 10 + ROUNDS):
        answers = disk.ask("block", SMALL_UPDATES, False), memory.ask("block", SMALL_UPDATES, False)
        if number >= WARM_ROUNDS * 10:
            own.append(answers[0]["map_cpu"] / SMALL_UPDATES * 1e6)
            peer.append(answers[1]["map_cpu"] / SMALL_UPDATES * 1e6)
    facts = {"updates_a_block": SMALL_UPDATES, "hot_keys": state_worker.HOT_KEYS}
    return Figure("state_update_us", "us of CPU", "lower", tuple(own), peer=_PEER, peer_runs=tuple(peer), facts=facts)


def _proofs(disk: Worker, memory: Worker) -> Figure:
    own = [disk.ask("proof") for _ in range(PROOFS)]
    peer = [memory.ask("proof") for _ in range(PROOFS)]
    ordered = sorted([run["seconds"] * 1e3 for run in own])
    facts = {
        "p99_ms": _middle([ordered[int(PROOFS * 0.99)]]),
        "proof_bytes": int(statistics.median([run["bytes"] for run in own])),
        "verify_us": _middle([run["verify"] * 1e6 for run in own]),
        "proofs": PROOFS,
    }
    middle = (statistics.median(ordered),)
    peer_runs = (statistics.median([run["seconds"] * 1e3 for run in peer]),)
    return Figure("state_proof_ms", "ms", "lower", middle, peer=_PEER, peer_runs=peer_runs, facts=facts)


def _chunks(disk: Worker) -> Figure:
    runs = [disk.ask("chunk", CHUNK_BYTES) for _ in range(ROUNDS)]
    facts = {"entries": int(statistics.median([run["entries"] for run in runs]))}
    return Figure("state_chunk_1mib_ms", "ms", "lower", _ms(runs), facts=facts)


def _memory(disk: Worker, memory: Worker) -> Figure:
    """Of a process with a node's libraries, after all of the above."""
    own, peer = disk.ask("resident")["mib"], memory.ask("resident")["mib"]
    return Figure("state_rss_mib", "MiB", "lower", (own,), goal=300.0, peer=_PEER, peer_runs=(peer,))


def _ms(runs: list[dict[str, float]]) -> tuple[float, ...]:
    return tuple([run["seconds"] * 1e3 for run in runs])


def _middle(values: list[float]) -> float:
    return float(f"{statistics.median(values):.4g}")
