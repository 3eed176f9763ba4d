"""The figures of `mpisa bench storage` that need two nodes: moving 1 GiB, single blocks, the first byte, memory.

Ours are processes of a devnet, asked over their API as an application asks them; Kubo's nodes are asked inside their
processes, which spares them that. The first node has the bytes; the second takes all of them and keeps them, the third
reads single blocks and first bytes.
"""

from __future__ import annotations

import http.client
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from mpisa.cli.bench import kubo, reference
from mpisa.cli.bench.machine import MIB, Devnet, devnet, peak_bytes
from mpisa.cli.bench.result import Figure
from mpisa.cli.bench.storage_size import FULL, Size, compared, sized, write_random
from mpisa.sdk.client import Client

NODES = 3
BLOCK_BYTES = 4096
PATIENCE_S = 1200.0
KUBO_SECONDS = 60.0
SHARES = {"p50": 0.5, "p99": 0.99}

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two nodes of Kubo, connected."""

    source: kubo.KuboNode
    taker: kubo.KuboNode


def measure(size: Size, place: Path, library: Path | None, say: Say) -> list[Figure]:
    """The last figure is the memory of the two nodes of a transfer, for `rss_8gib_mib`."""
    with pair_of_kubo(place / "kubo", library) as pair, devnet(place / "devnet", NODES) as (network, _seconds):
        say("remote_block_4kib_p50_ms, remote_block_4kib_p99_ms, transfer_1gib, ttfb_1gib_ms")
        figures = on_devnet(size, network, place, pair)
    with devnet(place / "devnet", NODES) as (network, _seconds):
        say("rss_8gib_mib: a transfer")
        figures.append(_memory(size, network, place))
    return figures


def on_devnet(size: Size, network: Devnet, place: Path, pair: Pair | None) -> list[Figure]:
    """The figures of latency and speed, on nodes that run."""
    return [*_blocks(size, network, place, pair), *transfers(size, network, place, pair)]


def _blocks(size: Size, network: Devnet, place: Path, pair: Pair | None) -> list[Figure]:
    """One after another, each a new block; ours as `?format=raw` of the gateway, on a connection that is kept."""
    own, other = [], []
    for number in range(size.runs):
        tree = place / f"blocks-{number}"
        tree.mkdir()
        for at in range(size.remote_blocks):
            (tree / f"{at:06d}").write_bytes(os.urandom(BLOCK_BYTES))
        with Client(network.apis[0], home=network.home, timeout=PATIENCE_S) as client:
            cids = [entry.cid for entry in client.ls(client.put(tree).cid)]
        own.append(_fetch_blocks(network.apis[2], cids))
        if pair is not None:
            added = [pair.source.ask("add", path) for path in sorted(tree.iterdir())]
            taken = [pair.taker.seconds("get", cid, place / "taken" / cid, KUBO_SECONDS) for cid in added]
            other.append([seconds * 1e3 for seconds in taken])
        shutil.rmtree(tree)
    facts = {"blocks_a_run": size.remote_blocks, "compared": "ours over HTTP; Kubo asked in process, into a file"}
    return [_latency(name, own, other, facts) for name in ("p50", "p99")]


def _latency(name: str, own: list[list[float]], other: list[list[float]], facts: dict[str, object]) -> Figure:
    values = [_at(SHARES[name], run) for run in own]
    peers = [_at(SHARES[name], run) for run in other]
    goal = 0.5 * _at(0.5, peers) if peers else None
    figure = Figure(
        f"remote_block_4kib_{name}_ms", "ms", "lower", tuple(values), goal=goal, facts={"goal_is": "half of Kubo's"}
    )
    return compared(figure, peer_runs=peers, facts=facts)


def _fetch_blocks(api: str, cids: list[str]) -> list[float]:
    """Milliseconds from the request to the whole block, for each."""
    where = urlsplit(api)
    connection = http.client.HTTPConnection(where.netloc, timeout=PATIENCE_S)
    taken = []
    for cid in cids:
        begun = time.perf_counter()
        connection.request("GET", f"/ipfs/{cid}?format=raw")
        answer = connection.getresponse()
        body = answer.read()
        taken.append((time.perf_counter() - begun) * 1e3)
        if answer.status != http.client.OK or len(body) != BLOCK_BYTES:
            raise RuntimeError(f"{api}/ipfs/{cid}: {answer.status}, {len(body)} bytes")
    connection.close()
    return taken


def transfers(size: Size, network: Devnet, place: Path, pair: Pair | None) -> list[Figure]:
    """All of a new file from the first node to the second, and its first bytes to the third."""
    own, other, bound, first, puts = [], [], [], [], []
    mib = size.large_bytes / MIB
    for _ in range(size.runs):
        path = write_random(place / "large", size.large_bytes)
        begun = time.perf_counter()
        with Client(network.apis[0], home=network.home, timeout=PATIENCE_S) as client:
            cid = client.put(path).cid
        puts.append(mib / (time.perf_counter() - begun))
        first.append(_first_byte(network, cid))
        os.sync()
        with Client(network.apis[1], home=network.home, timeout=PATIENCE_S) as client:
            begun = time.perf_counter()
            client.pin(cid)
            own.append(mib / (time.perf_counter() - begun))
        if pair is not None:
            added = pair.source.ask("add", path)
            os.sync()
            other.append(mib / pair.taker.seconds("pin", added))
        with reference.server(path, place) as (url, certificate):
            bound.append(reference.fetch_hashed(url, certificate))
        path.unlink()
    half = 0.5 * _at(0.5, bound)
    goal = max(4 * _at(0.5, other), half) if other else half
    facts = sized(size.large_bytes, FULL.large_bytes)
    return [
        compared(
            Figure("transfer_1gib", "MiB/s", "higher", tuple(own), goal=goal),
            peer_runs=other,
            limit="aiohttp TLS, hashed on arrival, not stored",
            limit_runs=bound,
            facts=facts | {"goal_is": "4x Kubo and half of the limit", "put_over_http": round(_at(0.5, puts), 1)},
        ),
        Figure("ttfb_1gib_ms", "ms", "lower", tuple(first), goal=50.0, facts=facts | {"from": "SDK, hashed there"}),
    ]


class _Seen(Exception):
    """The first byte is here."""


class _First:
    """A file that wants one byte."""

    def write(self, _data: object) -> int:
        raise _Seen

    def flush(self) -> None:
        """Nothing is kept."""


def _first_byte(network: Devnet, cid: str) -> float:
    """Milliseconds until the third node, which has nothing of it, gave the first bytes of the content to an SDK."""
    with Client(network.apis[2], home=network.home, timeout=PATIENCE_S) as client:
        client.pins_of(cid)  # the connection is there
        begun = time.perf_counter()
        try:
            client.get(cid, _First())  # type: ignore[arg-type]
        except _Seen:
            return (time.perf_counter() - begun) * 1e3
    raise RuntimeError(f"{cid} came without a byte")


def _memory(size: Size, network: Devnet, place: Path) -> Figure:
    path = write_random(place / "huge", size.huge_bytes)
    with Client(network.apis[0], home=network.home, timeout=PATIENCE_S) as client:
        cid = client.put(path).cid
    path.unlink()
    with Client(network.apis[1], home=network.home, timeout=PATIENCE_S) as client:
        client.pin(cid)
    source, taker = (peak_bytes(pid) / MIB for pid in network.pids[:2])
    facts = {"source_node_mib": round(source), "taking_node_mib": round(taker)}
    return Figure("rss_transfer_mib", "MiB", "lower", (max(source, taker),), facts=facts)


@contextmanager
def pair_of_kubo(home: Path, library: Path | None) -> Iterator[Pair | None]:
    """Nodes below `home`, ended afterwards; None without the library. Raises RuntimeError when they don't meet."""
    if library is None:
        yield None
        return
    with ExitStack() as stack:
        source, taker = (stack.enter_context(kubo.KuboNode(library, home / name)) for name in ("source", "taker"))
        source.require_synced()
        taker.require_synced()
        if not taker.ask("connect", source.dial):
            raise RuntimeError("Kubo's nodes don't connect")
        (home.parent / "taken").mkdir(exist_ok=True)
        yield Pair(source, taker)


def _at(share: float, values: list[float]) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
