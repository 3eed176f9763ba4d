"""Raft as the reference for ordering: pysyncobj (Python) and etcd, three nodes each, the same payload.

Both tolerate nodes that crash, none that lies, and neither checks a signature: they do less. Each is driven through its
own client, closed loop, as fast as it takes. pysyncobj's client is an object in the process of a node; etcd's is its
HTTP API. One that isn't installed is left out.
"""

from __future__ import annotations

import asyncio
import base64
import importlib.metadata
import importlib.util
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpisa.cli.bench.load.work import payload

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "127.0.0.1"
NODES = 3
PYSYNCOBJ_WINDOW = 500
ETCD_WINDOW = 128
START_TIMEOUT_S = 30.0
LABEL = "crash faults only, no signatures"


@dataclass(frozen=True, slots=True)
class Reference:
    """What was measured: `name` says what and which faults it tolerates."""

    short: str
    name: str
    per_second: float
    p50_ms: float
    p99_ms: float


def references(directory: Path, seconds: float) -> tuple[list[Reference], list[str]]:
    """Those that are installed, and a note for each that isn't."""
    found: list[Reference] = []
    notes: list[str] = []
    if importlib.util.find_spec("pysyncobj") is None:
        notes.append("pysyncobj isn't installed: left out (it is one of the development dependencies)")
    else:
        found.append(pysyncobj(directory, seconds))
    if shutil.which("etcd") is None:
        notes.append("etcd isn't installed: left out (apt install etcd-server)")
    else:
        found.append(etcd(directory, seconds))
    return found, notes


def _summary(short: str, name: str, latencies: Sequence[float], seconds: float) -> Reference:
    ascending = sorted(latencies)
    return Reference(
        short,
        f"{name} ({LABEL})",
        len(ascending) / seconds,
        ascending[len(ascending) // 2] if ascending else float("nan"),
        ascending[int(len(ascending) * 0.99)] if ascending else float("nan"),
    )


def _ports(count: int) -> tuple[int, ...]:
    from devnet.ports import choose_ports

    return choose_ports(count, None)


@contextmanager
def _ended(process: subprocess.Popen[Any]) -> Iterator[subprocess.Popen[Any]]:
    try:
        yield process
    finally:
        process.terminate()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


# pysyncobj


def pysyncobj(directory: Path, seconds: float) -> Reference:
    """A replicated list whose items are the payloads, appended through the leader; journals on disk, without fsync."""
    addresses = [f"{HOST}:{port}" for port in _ports(NODES)]
    program = "import sys; from mpisa.cli.bench.raft import pysyncobj_main; pysyncobj_main(*sys.argv[1:])"
    with ExitStack() as stack:
        members = []
        for at, own in enumerate(addresses):
            others = [address for address in addresses if address != own]
            arguments = [own, ",".join(others), str(directory / f"raft-{at}"), str(seconds)]
            members.append(
                stack.enter_context(
                    _ended(
                        subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True)
                    )
                )
            )
        lines = [_first_line(member) for member in members]
    latencies: list[float] = next((json.loads(line) for line in lines if line.startswith("[")), [])
    return _summary("pysyncobj", f"pysyncobj {importlib.metadata.version('pysyncobj')}, 3 nodes", latencies, seconds)


def _first_line(member: subprocess.Popen[str]) -> str:
    assert member.stdout is not None
    return member.stdout.readline()


def pysyncobj_main(own: str, others: str, journal: str, seconds: str) -> None:
    """Entry of a node's process: the leader appends and prints its latencies, the others wait to be ended."""
    from pysyncobj import SyncObj, SyncObjConf, replicated

    class Log(SyncObj):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(own, others.split(","), SyncObjConf(journalFile=journal, autoTickPeriod=0.001))
            self.items = 0

        @replicated  # type: ignore[untyped-decorator]
        def append(self, item: str) -> int:
            self.items += 1
            return self.items

    log = Log()
    deadline = time.monotonic() + START_TIMEOUT_S
    while not log.isReady() or log._getLeader() is None:
        if time.monotonic() > deadline:
            raise TimeoutError("no leader")
        time.sleep(0.05)
    leads = str(log._getLeader()) == own
    print(json.dumps(_append_all(log, float(seconds))) if leads else "follower", flush=True)
    time.sleep(3_600)


def _append_all(log: Any, seconds: float) -> list[float]:
    import threading

    latencies: list[float] = []
    room = threading.Semaphore(PYSYNCOBJ_WINDOW)
    end = time.perf_counter() + seconds
    number = 0
    while (begun := time.perf_counter()) < end:
        room.acquire()

        def done(_result: object, error: int, begun: float = begun) -> None:
            now = time.perf_counter()
            if not error and now <= end:
                latencies.append(round((now - begun) * 1000, 2))
            room.release()

        log.append(payload(number), callback=done)
        number += 1
    return latencies


# etcd


def etcd(directory: Path, seconds: float) -> Reference:
    """Puts of the payload under new keys, through one member's HTTP API; each is fsynced by a majority."""
    ports = _ports(2 * NODES)
    clients, peers = ports[:NODES], ports[NODES:]
    cluster = ",".join(f"m{at}=http://{HOST}:{port}" for at, port in enumerate(peers))
    with ExitStack() as stack:
        for at in range(NODES):
            client, peer = f"http://{HOST}:{clients[at]}", f"http://{HOST}:{peers[at]}"
            command = ["etcd", "--name", f"m{at}", "--data-dir", str(directory / f"etcd-{at}"), "--log-level", "error"]
            command += ["--listen-client-urls", client, "--advertise-client-urls", client]
            command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
            command += ["--initial-cluster", cluster]
            stack.enter_context(_ended(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)))
        for port in clients:
            _await_port(port)
        latencies = asyncio.run(_put_all(f"http://{HOST}:{clients[0]}", seconds))
    version = subprocess.run(["etcd", "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    return _summary("etcd", f"etcd {version}, 3 nodes, over HTTP", latencies, seconds)


def _await_port(port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


async def _put_all(url: str, seconds: float) -> list[float]:
    import aiohttp

    latencies: list[float] = []
    connector = aiohttp.TCPConnector(limit=ETCD_WINDOW)
    async with aiohttp.ClientSession(connector=connector) as session:
        await _until_it_has_a_leader(session, url)
        end = time.perf_counter() + seconds

        async def put(first: int) -> None:
            number = first
            while (begun := time.perf_counter()) < end:
                async with session.post(f"{url}/v3/kv/put", data=_put(number)) as answer:
                    await answer.read()
                now = time.perf_counter()
                if answer.status == 200 and now <= end:
                    latencies.append(round((now - begun) * 1000, 2))
                number += ETCD_WINDOW

        await asyncio.gather(*(put(first) for first in range(ETCD_WINDOW)))
    return latencies


def _put(number: int) -> bytes:
    key, value = (base64.b64encode(text.encode()).decode() for text in (f"{number:016x}", payload(number)))
    return json.dumps({"key": key, "value": value}).encode()


async def _until_it_has_a_leader(session: Any, url: str) -> None:
    async with asyncio.timeout(START_TIMEOUT_S):
        while True:
            async with session.post(f"{url}/v3/kv/put", data=_put(0)) as answer:
                if answer.status == 200:
                    return
            await asyncio.sleep(0.1)
