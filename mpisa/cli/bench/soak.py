"""`mpisa bench consensus --soak MINUTES`: the same load for long. Do latency and memory stay what they were?

Minute after minute of the same open loop, each signed before it begins. Latencies are those of the last tenth of the
minutes, next to the first tenth's; memory counts as flat where the node that has most of its own has no more in the
last tenth than in the third one, when caches are full, but for a few MiB. What a database maps of its files is the page
cache's, and shown beside it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mpisa.cli.bench.load.fleet import Fleet, Load, percentile
from mpisa.cli.bench.machine import MIB, Devnet, own_bytes, resident_bytes
from mpisa.cli.bench.result import Figure

RATE = 1_000.0
MINUTE_S = 60.0
FLAT_MIB = 8.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Minute:
    """Latencies in ms, certified a second, and the memory of the node that has most: its own, and all of it."""

    ordered_p50: float
    certified_p50: float
    certified_p99: float
    certified_tps: float
    own_mib: float
    rss_mib: float


def run(clients: Fleet, network: Devnet, minutes: int, say: Say, *, rate: float = RATE) -> list[Minute]:
    """As many minutes of load; each is told."""
    found = []
    for number in range(1, minutes + 1):
        seen = clients.run(Load("stream", MINUTE_S, rate))
        found.append(
            Minute(
                percentile(seen.ordered, 0.5),
                percentile(seen.certified, 0.5),
                percentile(seen.certified, 0.99),
                seen.certified_tps,
                max(own_bytes(pid) for pid in network.pids) / MIB,
                max(resident_bytes(pid) for pid in network.pids) / MIB,
            )
        )
        say(
            f"minute {number} of {minutes}: certified p50 {found[-1].certified_p50:.0f} ms, {found[-1].own_mib:.0f} MiB"
        )
    return found


def figures(minutes: Sequence[Minute]) -> list[Figure]:
    """What they come to."""
    tenth = max(1, len(minutes) // 10)
    first, last = minutes[:tenth], minutes[-tenth:]
    full = minutes[min(2 * tenth, len(minutes) - 1) :][:tenth]
    shown = {"minutes": len(minutes), "certified_tps": round(_median(last, "certified_tps"), 1)}

    def latency(name: str, field: str, goal: float, **facts: Any) -> Figure:
        facts = {"first_ms": round(_median(first, field), 1)} | facts
        return Figure(name, "ms", "lower", tuple(getattr(item, field) for item in last), goal=goal, facts=facts)

    growth = _median(last, "own_mib") - _median(full, "own_mib")
    memory = {
        "first_mib": round(_median(first, "own_mib"), 1),
        "full_mib": round(_median(full, "own_mib"), 1),
        "last_mib": round(_median(last, "own_mib"), 1),
        "every_minute_mib": [round(item.own_mib) for item in minutes],
        "every_minute_with_mapped_files_mib": [round(item.rss_mib) for item in minutes],
    }
    return [
        latency("soak_ordered_p50_ms", "ordered_p50", 100.0, **shown),
        latency("soak_certified_p50_ms", "certified_p50", 150.0),
        latency("soak_certified_p99_ms", "certified_p99", 350.0),
        Figure("soak_memory_growth_mib", "MiB", "lower", (growth,), goal=FLAT_MIB, facts=memory),
    ]


def _median(minutes: Sequence[Minute], field: str) -> float:
    return statistics.median([float(getattr(item, field)) for item in minutes])
