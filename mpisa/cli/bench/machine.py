"""What every bench looks at: a devnet of its own, the CPU time and memory of its processes, their counters."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NODES = 4
ACCOUNTS = 10
MIB = 1 << 20
COMMAND_TIMEOUT_S = 120.0
METRICS_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Devnet:
    """The devnet under measurement."""

    home: Path
    apis: tuple[str, ...]
    pids: tuple[int, ...]
    accounts: tuple[Path, ...]


def timed(*command: str) -> float:
    """Seconds that this Python needs to run a command line that succeeds."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, capture_output=True, timeout=COMMAND_TIMEOUT_S)
    return time.perf_counter() - begun


@contextmanager
def devnet(home: Path, nodes: int = NODES) -> Iterator[tuple[Devnet, float]]:
    """A devnet, and how long `mpisa devnet up` took; stopped in the end."""
    from devnet import cluster, state

    options = ("--nodes", str(nodes), "--accounts", str(ACCOUNTS), "--home", str(home), "--detach", "--quiet")
    try:
        seconds = timed("-m", "mpisa.cli", "devnet", "up", *options)
        manifest = state.require_manifest(home)
        pids = tuple(node.pid for node in manifest.nodes if node.pid is not None)
        accounts = tuple(account.key_file for account in manifest.accounts)
        yield Devnet(home, tuple(node.api for node in manifest.nodes), pids, accounts), seconds
    finally:
        if state.is_devnet_home(home):
            cluster.down(home)


def cpu_seconds(pids: Sequence[int]) -> float:
    """Processor time, user and system, that these processes have used."""
    total = 0
    for pid in pids:
        text = Path(f"/proc/{pid}/stat").read_text()
        fields = text[text.rindex(")") + 2 :].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Memory that a process has in RAM."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak_bytes(pid: int) -> int:
    """The most memory that a process ever had in RAM."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text[text.index("VmHWM:") :].split()[1]) * 1024


def own_bytes(pid: int) -> int:
    """Of that memory what is the process's own: mapped tables of a database are the page cache's."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text[text.index("RssAnon:") :].split()[1]) * 1024


def counters(api: str) -> dict[str, float]:
    """A node's own figures from its /metrics, without the `mpisa_` in front; none when it doesn't answer."""
    try:
        with urllib.request.urlopen(f"{api}/metrics", timeout=METRICS_TIMEOUT_S) as answer:  # noqa: S310 - our own URL
            text = answer.read().decode()
    except OSError:
        return {}
    found = {}
    for line in text.splitlines():
        if line.startswith("mpisa_") and "{" not in line:
            name, _, value = line.removeprefix("mpisa_").partition(" ")
            found[name] = float(value)
    return found
