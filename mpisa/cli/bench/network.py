"""`mpisa bench network`: the figures of a devnet of four on this machine."""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mpisa.cli.bench import burst, reference
from mpisa.cli.bench.machine import COMMAND_TIMEOUT_S, MIB, Devnet, cpu_seconds, devnet, resident_bytes, timed
from mpisa.cli.bench.result import Bench, Figure, machine, versions
from mpisa.sdk.client import Client

_VERSIONS = ("mpisa", "aiohttp", "cryptography", "libp2p", "msgpack", "plyvel", "uvloop")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    runs: int
    publishes_a_run: int
    idle_s: float
    quiet_s: float
    transfer_bytes: int
    burst: int


FULL = Size(runs=5, publishes_a_run=8, idle_s=10.0, quiet_s=5.0, transfer_bytes=256 * MIB, burst=100)
QUICK = Size(runs=1, publishes_a_run=3, idle_s=2.0, quiet_s=1.0, transfer_bytes=32 * MIB, burst=12)


def run(quick: bool, say: Say) -> Bench:
    """Take every figure; leaves nothing running and nothing on disk."""
    size = QUICK if quick else FULL
    where = machine()
    with tempfile.TemporaryDirectory(prefix="mpisa-bench-") as directory:
        workspace = Path(directory)
        say("cli_help_s")
        figures = [_help(size)]
        say("devnet_ready_s")
        figures.append(_ready(size, workspace))
        with devnet(workspace / "measured") as (network, _seconds):
            for name, measure in _ON_DEVNET.items():
                say(name)
                figures += measure(size, network, workspace)
    return Bench("network", where, versions(_VERSIONS), tuple(figures))


def _help(size: Size) -> Figure:
    own, floor = [], []
    timed("-m", "mpisa.cli", "--help")  # the first run compiles
    for _ in range(size.runs):
        own.append(statistics.median([timed("-m", "mpisa.cli", "--help") for _ in range(3)]))
        floor.append(statistics.median([timed("-c", "import click") for _ in range(3)]))
    return Figure(
        "cli_help_s", "s", "lower", tuple(own), goal=0.3, limit="python -c 'import click'", limit_runs=tuple(floor)
    )


def _ready(size: Size, workspace: Path) -> Figure:
    own, floor = [], []
    for at in range(size.runs):
        floor.append(timed("-c", "from mpisa.cli.serve import preload; preload()"))
        with devnet(workspace / f"ready-{at}") as (_network, seconds):
            own.append(seconds)
    return Figure(
        "devnet_ready_s", "s", "lower", tuple(own), goal=6.0, limit="importing the libraries", limit_runs=tuple(floor)
    )


def _publish(size: Size, network: Devnet, workspace: Path) -> list[Figure]:
    """From the call to the certificate; pauses in between let the devnet fall idle, as a person's would."""
    path = workspace / "small"
    runs, every = [], []
    with Client(network.apis[0], home=network.home) as client:
        for _ in range(size.runs):
            taken = []
            for _ in range(size.publishes_a_run):
                path.write_bytes(os.urandom(1024))
                time.sleep(random.uniform(0.3, 1.3))  # noqa: S311 - a pause, no secret
                begun = time.perf_counter()
                client.publish(path, key=network.accounts[0])
                taken.append((time.perf_counter() - begun) * 1000)
            runs.append(statistics.median(taken))
            every += taken
    facts = {"p95_ms": round(sorted(every)[int(len(every) * 0.95)], 1), "publishes": len(every)}
    return [Figure("publish_certified_p50_ms", "ms", "lower", tuple(runs), goal=400.0, facts=facts)]


def _idle(size: Size, network: Devnet, _workspace: Path) -> list[Figure]:
    """Processor time of all nodes over wall time, and the largest node's resident memory."""
    time.sleep(size.quiet_s)
    busy, resident = [], []
    for _ in range(size.runs):
        before, begun = cpu_seconds(network.pids), time.monotonic()
        time.sleep(size.idle_s)
        busy.append((cpu_seconds(network.pids) - before) / (time.monotonic() - begun) * 100)
        resident.append(max(resident_bytes(pid) for pid in network.pids) / MIB)
    return [
        Figure("idle_cpu_percent", "% of one core, four nodes", "lower", tuple(busy), goal=15.0),
        Figure("idle_rss_mib_per_node", "MiB", "lower", tuple(resident), goal=150.0),
    ]


def _transfer(size: Size, network: Devnet, workspace: Path) -> list[Figure]:
    """Node 3 fetches from node 1, hashes and stores durably; the reference and the disk take turns with it."""
    own, peer, disk = [], [], []
    path = workspace / "large"
    for _ in range(size.runs):
        with path.open("wb") as stream:
            for _ in range(size.transfer_bytes // MIB):
                stream.write(os.urandom(MIB))
        with Client(network.apis[0], home=network.home) as client:
            cid = client.put(path).cid
        with Client(network.apis[2], home=network.home, timeout=COMMAND_TIMEOUT_S) as client:
            begun = time.perf_counter()
            client.pin(cid)
            own.append(size.transfer_bytes / MIB / (time.perf_counter() - begun))
        with reference.server(path, workspace) as (url, certificate):
            peer.append(reference.fetch_hashed(url, certificate))
        disk.append(reference.write_synced(workspace, size.transfer_bytes))
    return [
        Figure(
            "transfer_256mib",
            "MiB/s",
            "higher",
            tuple(own),
            goal=100.0,
            peer="aiohttp TLS, hashed on arrival, not stored",
            peer_runs=tuple(peer),
            limit="sequential write with fsync",
            limit_runs=tuple(disk),
            facts={} if size.transfer_bytes == 256 * MIB else {"mib": size.transfer_bytes // MIB},
        )
    ]


def _burst(size: Size, network: Devnet, workspace: Path) -> list[Figure]:
    outcome = asyncio.run(burst.run(list(network.apis), list(network.accounts), network.home, workspace, size.burst))
    facts = {
        "publishes": outcome.publishes,
        "lost": outcome.lost,
        "twice": outcome.twice,
        "same_state_root": outcome.same_state_root,
    }
    return [Figure("publish_100_at_once_s", "s", "lower", (outcome.seconds,), facts=facts)]


_ON_DEVNET: dict[str, Callable[[Size, Devnet, Path], list[Figure]]] = {
    "publish_certified_p50_ms": _publish,
    "idle_cpu_percent, idle_rss_mib_per_node": _idle,
    "transfer_256mib": _transfer,
    "publish_100_at_once_s": _burst,
}
