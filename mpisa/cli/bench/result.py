"""The form of a bench's answer: one object with the machine, the versions and a figure a name.

A figure's value is the median of its runs. `ratio` says how many times better than the peer it is, `of_limit` which
part of the physical limit it reaches; both turn the division round where lower is better. What doesn't apply is left
out.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One named measurement; `unit` is that of value, runs, peer_value and limit_value. `goal` is what was promised."""

    name: str
    unit: str
    better: str
    runs: tuple[float, ...]
    goal: float | None = None
    peer: str | None = None
    peer_runs: tuple[float, ...] = ()
    limit: str | None = None
    limit_runs: tuple[float, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """Median of the runs."""
        return statistics.median(self.runs)

    @property
    def met(self) -> bool | None:
        """Whether the goal was reached; None without one."""
        if self.goal is None:
            return None
        return self.value >= self.goal if self.better == "higher" else self.value <= self.goal

    def compared(self, other: float) -> float:
        """How many times better than another value."""
        return self.value / other if self.better == "higher" else other / self.value

    def to_json(self) -> dict[str, Any]:
        """The documented form."""
        body: dict[str, Any] = {
            "name": self.name,
            "unit": self.unit,
            "better": self.better,
            "value": _rounded(self.value),
            "runs": [_rounded(value) for value in self.runs],
        }
        if self.peer is not None and self.peer_runs:
            median = statistics.median(self.peer_runs)
            body |= {"peer": self.peer, "peer_value": _rounded(median), "ratio": _rounded(self.compared(median))}
        if self.limit is not None and self.limit_runs:
            median = statistics.median(self.limit_runs)
            body |= {"limit": self.limit, "limit_value": _rounded(median), "of_limit": _rounded(self.compared(median))}
        if self.goal is not None:
            body |= {"goal": self.goal, "met": self.met}
        return body | self.facts


@dataclass(frozen=True, slots=True)
class Bench:
    """All figures of one bench on one machine; `picture` is a file beside the page that shows them."""

    name: str
    machine: dict[str, Any]
    versions: dict[str, str]
    figures: tuple[Figure, ...]
    picture: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The documented form."""
        return {
            "bench": self.name,
            "machine": self.machine,
            "versions": self.versions,
            "results": [figure.to_json() for figure in self.figures],
        }


def machine() -> dict[str, Any]:
    """Cores, processor, Python, and the load before anything was measured."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _processor(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def versions(names: Sequence[str]) -> dict[str, str]:
    """Versions of installed distributions; those that are not installed are left out."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
