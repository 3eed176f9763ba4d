"""`mpisa bench consensus`: signed transactions through real validator processes, from several client processes.

Every run is an open loop, and every transaction is signed by itself before the clock starts. The limits (signature
checks, fsyncs) and the references (which tolerate crashes only, no lies) are measured in the same run.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mpisa.cli.bench import catch_up, delays, limits, plot, raft, soak
from mpisa.cli.bench.load.fleet import FUNDED_A_BUNDLE, FUNDS, Fleet, Load, Seen, fleet, greetings, percentile
from mpisa.cli.bench.load.work import PAYLOAD_BYTES
from mpisa.cli.bench.machine import Devnet, devnet
from mpisa.cli.bench.result import Bench, Figure, machine, versions

CERTIFIED_TPS = 2_200.0
"""A tenth above the goal, so that how long the last ones take doesn't decide whether it is met."""

SINGLE_TPS = 1_350.0
LATENCY_TPS = 1_000.0
WINDOW = 400
BUNDLE = 50
BUNDLED_OPS = 12_000.0
SILENT_TPS = 500.0
SILENT_S = 15.0
REFERENCE_S = 10.0
_VERSIONS = ("mpisa", "aiohttp", "msgpack", "plyvel", "py-ed25519-zebra-bindings", "uvloop", "pysyncobj")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure: `rate` transactions a second are offered, None means every figure; `runs` of each."""

    validators: int = 4
    rate: float | None = None
    seconds: float = 30.0
    clients: int = 4
    runs: int = 1
    catch_up: bool = False


@dataclass(frozen=True, slots=True)
class Bounds:
    """Transactions a second that signature checks alone would allow, and fsyncs a second."""

    checks: float
    fsyncs: float


def run(options: Options, say: Say) -> Bench:
    """Take every figure; leaves nothing running and nothing on disk."""
    where = machine()
    with tempfile.TemporaryDirectory(prefix="mpisa-bench-") as directory:
        workspace = Path(directory)
        say("limits: signature checks, fsyncs")
        bounds = Bounds(limits.verifications() / options.validators, limits.fsyncs(workspace))
        with (
            devnet(workspace / "measured", options.validators) as (network, _seconds),
            _clients(network, options) as clients,
        ):
            figures = _on_devnet(clients, network, options, bounds, say)
        say("references: Raft, which tolerates crashes only")
        found, notes = raft.references(workspace, min(options.seconds, REFERENCE_S))
        for line in notes:
            say(line)
    figures = _with_references(figures, found)
    if options.rate is None:
        say("message delays to order")
        figures += _delays([delays.measure(size) for size in delays.SIZES])
    return Bench("consensus", where, versions(_VERSIONS), tuple(figures))


def endure(options: Options, minutes: int, say: Say) -> Bench:
    """The same load for so many minutes: latency and memory in the end, next to the beginning."""
    where = machine()
    with (
        tempfile.TemporaryDirectory(prefix="mpisa-bench-") as directory,
        devnet(Path(directory) / "measured", options.validators) as (network, _seconds),
        _clients(network, options) as clients,
    ):
        seen = soak.run(clients, network, minutes, say, rate=options.rate or soak.RATE)
    return Bench("consensus-soak", where, versions(_VERSIONS), tuple(soak.figures(seen)))


def growth(file: Path, say: Say) -> Bench:
    """The delays and what a vertex costs over the number of authorities, and the plot of both."""
    where = machine()
    found = []
    for size in delays.SIZES:
        say(f"{size} authorities")
        found.append(delays.measure(size))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        plot.draw(
            [
                plot.Panel("to order", "message delays", [(d.authorities, d.to_order) for d in found], (2.7, 3.3)),
                plot.Panel("CPU a vertex received", "us", [(d.authorities, d.vertex_us) for d in found]),
            ],
            "authorities",
        )
    )
    return Bench("consensus-growth", where, versions(("mpisa",)), tuple(_delays(found)))


def _delays(found: list[delays.Delays]) -> list[Figure]:
    """A leader's vertex, as promised; any vertex and the cost are facts beside it."""
    return [
        Figure(
            f"delays_to_order_n{item.authorities}",
            "message delays",
            "lower",
            (item.to_order,),
            goal=3.3,
            facts={"any_vertex": round(item.to_order_any, 2), "cpu_us_a_vertex": round(item.vertex_us, 1)},
        )
        for item in found
    ]


def _on_devnet(clients: Fleet, network: Devnet, options: Options, bounds: Bounds, say: Say) -> list[Figure]:
    def runs(what: str, load: Load) -> list[Seen]:
        say(what)
        return [clients.run(load) for _ in range(options.runs)]

    rate, seconds = options.rate or CERTIFIED_TPS, options.seconds
    seen = runs(f"{rate:g} transactions a second offered, on streams", Load("stream", seconds, rate))
    figures = _throughput(seen, bounds)
    if options.rate is not None:
        return figures + _latency(seen)
    figures += _saturated(runs("as many as are taken, closed loop", Load("stream", seconds, window=WINDOW)), bounds)
    figures += _single(runs(f"{SINGLE_TPS:g} a second offered, one request each", Load("single", seconds, SINGLE_TPS)))
    figures += _latency(runs(f"latency at {LATENCY_TPS:g} a second", Load("stream", seconds, LATENCY_TPS)))
    bundles = Load("stream", seconds, BUNDLED_OPS / BUNDLE, operations=BUNDLE)
    figures += _bundled(runs("bundles of operations", bundles))
    say("one silent validator")
    figures += _silent(clients, network, options)
    if options.catch_up:
        figures.append(catch_up.measure(clients, network, say))
    return figures


@contextmanager
def _clients(network: Devnet, options: Options) -> Iterator[Fleet]:
    """Client processes with funded accounts."""
    nodes = list(zip(network.apis, network.pids, strict=True))
    chain_hash = asyncio.run(_chain_hash(network))
    with fleet(options.clients, nodes) as found:
        addresses = found.greet(greetings(network.home, nodes, options.clients, chain_hash))
        asyncio.run(_fund(network, addresses))
        found.show_keys()
        yield found


async def _chain_hash(network: Devnet) -> bytes:
    from mpisa.sdk.async_client import AsyncClient

    async with AsyncClient(network.apis[0], home=network.home) as client:
        return bytes.fromhex((await client.genesis()).chain_hash)


async def _fund(network: Devnet, addresses: list[str]) -> None:
    from mpisa.sdk import publishing
    from mpisa.sdk.async_client import AsyncClient

    async with AsyncClient(network.apis[0], home=network.home) as client:
        signer = publishing.load_signer(network.accounts[0], network.home, None)
        for at in range(0, len(addresses), FUNDED_A_BUNDLE):
            bundle = tuple(publishing.transfer(address, FUNDS) for address in addresses[at : at + FUNDED_A_BUNDLE])
            await publishing.transact(client, signer, bundle, 60.0)


def _throughput(seen: Sequence[Seen], bounds: Bounds) -> list[Figure]:
    checks = "signature checks alone, of all cores for all validators"
    values = tuple(run.certified_tps for run in seen)
    return [
        Figure(
            "certified_tps",
            "1/s",
            "higher",
            values,
            goal=2_000.0,
            limit=checks,
            limit_runs=(bounds.checks,),
            facts=facts(seen[-1]) | {"fsyncs_a_second": round(bounds.fsyncs)},
        )
    ]


def _saturated(seen: Sequence[Seen], bounds: Bounds) -> list[Figure]:
    """Closed loops flatter: what the machine gives and how far from its limit that is, not the throughput."""
    values = tuple(run.certified_tps for run in seen)
    return [
        Figure("saturated_tps", "1/s", "higher", values, facts={"window": WINDOW} | facts(seen[-1])),
        Figure("of_signature_limit", "of 1", "higher", tuple(value / bounds.checks for value in values), goal=0.25),
    ]


def _single(seen: Sequence[Seen]) -> list[Figure]:
    values = tuple(run.certified_tps for run in seen)
    return [Figure("single_certified_tps", "1/s", "higher", values, goal=1_300.0, facts=facts(seen[-1]))]


def _latency(seen: Sequence[Seen]) -> list[Figure]:
    def values(share: float, *, ordered: bool = False) -> tuple[float, ...]:
        return tuple(percentile(run.ordered if ordered else run.certified, share) for run in seen)

    shown = facts(seen[-1])
    return [
        Figure("ordered_p50_ms", "ms", "lower", values(0.5, ordered=True), goal=100.0, facts=shown),
        Figure("certified_p50_ms", "ms", "lower", values(0.5), goal=150.0),
        Figure("certified_p99_ms", "ms", "lower", values(0.99), goal=350.0),
    ]


def _bundled(seen: Sequence[Seen]) -> list[Figure]:
    values = tuple(run.certified_tps * run.load.operations for run in seen)
    shown = {"operations_a_transaction": seen[-1].load.operations} | facts(seen[-1])
    return [Figure("bundled_ops_per_s", "1/s", "higher", values, goal=10_000.0, facts=shown)]


def _silent(clients: Fleet, network: Devnet, options: Options) -> list[Figure]:
    """The last validator is stopped (SIGSTOP) for a run, its client's transactions go to the others."""
    load = Load("stream", min(options.seconds, SILENT_S), SILENT_TPS)
    whole = clients.run(load)
    pid = network.pids[-1]
    os.kill(pid, signal.SIGSTOP)
    try:
        silent = clients.run(load, without=pid)
    finally:
        os.kill(pid, signal.SIGCONT)
    slower = percentile(silent.certified, 0.5) - percentile(whole.certified, 0.5)
    shown = {"certified_p50_more_ms": round(slower, 1), "whole_tps": round(whole.certified_tps, 1)} | facts(silent)
    ratio = silent.certified_tps / max(whole.certified_tps, 1e-9)
    return [Figure("one_silent_tps_ratio", "of 1", "higher", (ratio,), goal=0.7, facts=shown)]


def _with_references(figures: list[Figure], found: list[raft.Reference]) -> list[Figure]:
    """Each reference as a figure of its own, and the first as the peer of the throughput."""
    if found:
        peer = found[0]
        figures[0] = replace(figures[0], peer=peer.name, peer_runs=(peer.per_second,))
    return figures + [
        Figure(
            f"reference_{item.short}_per_s",
            "1/s",
            "higher",
            (item.per_second,),
            facts={"what": item.name, "p50_ms": item.p50_ms, "p99_ms": item.p99_ms},
        )
        for item in found
    ]


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def facts(seen: Seen) -> dict[str, Any]:
    """What belongs next to a throughput: what was offered and refused, latencies, and where the CPU time went.

    `cpu_allows_tps` is what all cores would allow at this cost a transaction if nothing else ran on them: on a busy
    machine it says more than the throughput.
    """
    sent = max(seen.answered, 1)
    nodes = seen.cost(seen.node_cpu_s)
    stages = {
        name.removeprefix("cpu_").removesuffix("_seconds_total"): seen.cost(s) for name, s in seen.stages_s.items()
    }
    return {
        "payload_bytes": PAYLOAD_BYTES,
        "mode": seen.load.mode,
        "offered_tps": round(seen.offered_tps, 1),
        "refused": seen.refused,
        "unfinished": seen.sent - seen.answered - sum(seen.refused.values()),
        **{
            f"{name}_p{int(share * 100)}_ms": round(percentile(values, share), 1)
            for name, values in (("ordered", seen.ordered), ("certified", seen.certified))
            for share in (0.5, 0.9, 0.99)
            if values
        },
        "client_sign_us": round(seen.sign_us, 1),
        "client_send_us": round(seen.cost(seen.client_cpu_s), 1),
        "cpu_allows_tps": round(_cores() * 1e6 / max(nodes + seen.cost(seen.client_cpu_s), 1.0)),
        "nodes_us": round(nodes, 1),
        "nodes_us_by_stage": {name: round(cost, 1) for name, cost in sorted(stages.items())}
        | {"other": round(nodes - sum(stages.values()), 1)},
        "wire_bytes": round(seen.wire_bytes / sent),
    }
