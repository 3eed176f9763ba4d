"""`mpisa bench network`: the figures of a devnet of four on this machine."""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mpisa.cli.bench import burst, reference
from mpisa.cli.bench.result import Bench, Figure, machine, versions
from mpisa.sdk.client import Client

NODES = 4
ACCOUNTS = 10
MIB = 1 << 20
_COMMAND_TIMEOUT_S = 120.0
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


@dataclass(frozen=True, slots=True)
class Network:
    """The devnet under measurement."""

    home: Path
    apis: tuple[str, ...]
    pids: tuple[int, ...]
    accounts: tuple[Path, ...]


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
        with _devnet(workspace / "measured") as (network, _seconds):
            for name, measure in _ON_DEVNET.items():
                say(name)
                figures += measure(size, network, workspace)
    return Bench("network", where, versions(_VERSIONS), tuple(figures))


def _timed(*command: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, capture_output=True, timeout=_COMMAND_TIMEOUT_S)
    return time.perf_counter() - begun


def _help(size: Size) -> Figure:
    own, floor = [], []
    _timed("-m", "mpisa.cli", "--help")  # the first run compiles
    for _ in range(size.runs):
        own.append(statistics.median([_timed("-m", "mpisa.cli", "--help") for _ in range(3)]))
        floor.append(statistics.median([_timed("-c", "import click") for _ in range(3)]))
    return Figure(
        "cli_help_s", "s", "lower", tuple(own), goal=0.3, limit="python -c 'import click'", limit_runs=tuple(floor)
    )


def _ready(size: Size, workspace: Path) -> Figure:
    own, floor = [], []
    for at in range(size.runs):
        floor.append(_timed("-c", "from mpisa.cli.serve import preload; preload()"))
        with _devnet(workspace / f"ready-{at}") as (_network, seconds):
            own.append(seconds)
    return Figure(
        "devnet_ready_s", "s", "lower", tuple(own), goal=6.0, limit="importing the libraries", limit_runs=tuple(floor)
    )


@contextmanager
def _devnet(home: Path) -> Iterator[tuple[Network, float]]:
    """A devnet of four, and how long `mpisa devnet up` took; stopped in the end."""
    from devnet import cluster, state

    options = ("--nodes", str(NODES), "--accounts", str(ACCOUNTS), "--home", str(home), "--detach", "--quiet")
    try:
        seconds = _timed("-m", "mpisa.cli", "devnet", "up", *options)
        manifest = state.require_manifest(home)
        pids = tuple(node.pid for node in manifest.nodes if node.pid is not None)
        accounts = tuple(account.key_file for account in manifest.accounts)
        yield Network(home, tuple(node.api for node in manifest.nodes), pids, accounts), seconds
    finally:
        if state.is_devnet_home(home):
            cluster.down(home)


def _publish(size: Size, network: Network, workspace: Path) -> list[Figure]:
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


def _idle(size: Size, network: Network, _workspace: Path) -> list[Figure]:
    """Processor time of all nodes over wall time, and the largest node's resident memory."""
    time.sleep(size.quiet_s)
    ticks = os.sysconf("SC_CLK_TCK")
    busy, resident = [], []
    for _ in range(size.runs):
        before, begun = _cpu_ticks(network.pids), time.monotonic()
        time.sleep(size.idle_s)
        busy.append((_cpu_ticks(network.pids) - before) / ticks / (time.monotonic() - begun) * 100)
        resident.append(max(_resident_bytes(pid) for pid in network.pids) / MIB)
    return [
        Figure("idle_cpu_percent", "% of one core, four nodes", "lower", tuple(busy), goal=15.0),
        Figure("idle_rss_mib_per_node", "MiB", "lower", tuple(resident), goal=150.0),
    ]


def _cpu_ticks(pids: tuple[int, ...]) -> int:
    total = 0
    for pid in pids:
        text = Path(f"/proc/{pid}/stat").read_text()
        fields = text[text.rindex(")") + 2 :].split()
        total += int(fields[11]) + int(fields[12])
    return total


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _transfer(size: Size, network: Network, workspace: Path) -> list[Figure]:
    """Node 3 fetches from node 1, hashes and stores durably; the reference and the disk take turns with it."""
    own, peer, disk = [], [], []
    path = workspace / "large"
    for _ in range(size.runs):
        with path.open("wb") as stream:
            for _ in range(size.transfer_bytes // MIB):
                stream.write(os.urandom(MIB))
        with Client(network.apis[0], home=network.home) as client:
            cid = client.put(path).cid
        with Client(network.apis[2], home=network.home, timeout=_COMMAND_TIMEOUT_S) as client:
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


def _burst(size: Size, network: Network, workspace: Path) -> list[Figure]:
    outcome = asyncio.run(burst.run(list(network.apis), list(network.accounts), network.home, workspace, size.burst))
    facts = {
        "publishes": outcome.publishes,
        "lost": outcome.lost,
        "twice": outcome.twice,
        "same_state_root": outcome.same_state_root,
    }
    return [Figure("publish_100_at_once_s", "s", "lower", (outcome.seconds,), facts=facts)]


_ON_DEVNET: dict[str, Callable[[Size, Network, Path], list[Figure]]] = {
    "publish_certified_p50_ms": _publish,
    "idle_cpu_percent, idle_rss_mib_per_node": _idle,
    "transfer_256mib": _transfer,
    "publish_100_at_once_s": _burst,
}
