"""How much the storage bench measures, and what its parts share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mpisa.cli.bench.kubo import NAME
from mpisa.cli.bench.machine import MIB
from mpisa.cli.bench.result import Figure

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Size:
    """Sizes in bytes; `remote_blocks` are fetched in each run."""

    runs: int
    large_bytes: int
    files: int
    dead_blocks: int
    remote_blocks: int
    huge_bytes: int


FULL = Size(5, GIB, 10_000, 100_000, 200, 8 * GIB)
QUICK = Size(1, 16 * MIB, 200, 2_000, 20, 32 * MIB)


def write_random(path: Path, count: int) -> Path:
    """A file of so many random bytes; left in the page cache."""
    with path.open("wb") as stream:
        for at in range(0, count, MIB):
            stream.write(os.urandom(min(MIB, count - at)))
    return path


def compared(
    figure: Figure,
    *,
    peer_runs: Sequence[float] = (),
    limit: str | None = None,
    limit_runs: Sequence[float] = (),
    facts: dict[str, Any],
) -> Figure:
    """A figure with what was measured beside it; without a peer there is no goal that speaks of one."""
    return replace(
        figure,
        peer=NAME if peer_runs else None,
        peer_runs=tuple(peer_runs),
        limit=limit,
        limit_runs=tuple(limit_runs),
        facts={name: value for name, value in (figure.facts | facts).items() if name != "goal_is" or figure.goal},
    )


def sized(count: int, whole: int) -> dict[str, Any]:
    """The size as a fact, where it isn't the one that the figure's name tells."""
    return {} if count == whole else {"mib": count // MIB}
