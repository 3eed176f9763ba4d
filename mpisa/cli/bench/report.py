"""docs/benchmarks.md: what was seen, when and where, shortfalls included.

Each bench owns one marked section of the page.
"""

from __future__ import annotations

import datetime
import statistics
from pathlib import Path

from mpisa.cli.bench.result import Bench, Figure

HEADERS = ("figure", "value", "goal", "met", "against", "times better", "limit", "of limit")

_TITLE = """# Benchmarks

Written by the benches themselves (`make bench`); a figure counts only next to what was measured in the same run.
Value = median of the runs. "times better" compares with the peer that does the same work, "of limit" with what bounds
it.
"""


def rows(found: Bench) -> list[tuple[str, ...]]:
    """One row a figure, for people."""
    return [_row(figure) for figure in found.figures]


def _row(figure: Figure) -> tuple[str, ...]:
    sign = {"higher": ">=", "lower": "<="}[figure.better]
    peer = statistics.median(figure.peer_runs) if figure.peer_runs else None
    limit = statistics.median(figure.limit_runs) if figure.limit_runs else None
    return (
        figure.name,
        f"{figure.value:.4g} {figure.unit}",
        f"{sign} {figure.goal:g}" if figure.goal is not None else "-",
        {None: "-", True: "yes", False: "NO"}[figure.met],
        f"{figure.peer}: {peer:.4g}" if peer is not None else "-",
        f"{figure.compared(peer):.2f}" if peer is not None else "-",
        f"{figure.limit}: {limit:.4g}" if limit is not None else "-",
        f"{figure.compared(limit):.2f}" if limit is not None else "-",
    )


def section(found: Bench, today: datetime.date) -> str:
    """The bench's part of the page, in Markdown."""
    where = found.machine
    lines = [
        f"## {found.name}",
        "",
        f"{today.isoformat()}, {where['cores']} cores of {where['cpu']}, Python {where['python']}, "
        f"load before {where['load_before']}. " + ", ".join(f"{name} {v}" for name, v in found.versions.items()) + ".",
        "",
        "| " + " | ".join(HEADERS) + " |",
        "|" + "---|" * len(HEADERS),
        *("| " + " | ".join(row) + " |" for row in rows(found)),
        "",
    ]
    if found.picture is not None:
        lines += [f"![{found.name}]({found.picture})", ""]
    for figure in found.figures:
        runs = ", ".join(f"{value:.4g}" for value in figure.runs)
        facts = "; ".join(f"{name}: {value}" for name, value in figure.facts.items())
        lines.append(f"- {figure.name}: runs {runs}" + (f"; {facts}" if facts else ""))
    return "\n".join(lines) + "\n"


def write(path: Path, found: Bench) -> None:
    """Replace this bench's section of the page, or add it; other sections stay as they are."""
    begin, end = f"<!-- bench:{found.name} -->\n", f"<!-- /bench:{found.name} -->\n"
    text = path.read_text() if path.exists() else _TITLE
    if begin not in text or end not in text:
        text = text.rstrip("\n") + f"\n\n{begin}{end}"
    head, _, rest = text.partition(begin)
    tail = rest.partition(end)[2]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{head}{begin}{section(found, datetime.datetime.now(datetime.UTC).date())}{end}{tail}")
