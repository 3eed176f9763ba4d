"""`mpisa bench`: measurements next to the peer that does the same work and the limit that bounds it, in one run.

`result` is the form of a figure, `network` takes the figures of a devnet, `reference` is what its transfer is compared
with, `burst` publishes a hundred things at once, `report` writes docs/benchmarks.md.
"""

from __future__ import annotations

from pathlib import Path

import click

from mpisa.cli.commands import group
from mpisa.cli.render import emit, note, table


@group("bench", examples=("mpisa bench network", "mpisa bench network --json"))
def bench() -> None:
    """Measure, next to the peer and the limit."""


@bench.command(
    "network",
    examples=(
        "mpisa bench network --json",
        "mpisa bench network --write docs/benchmarks.md",
        "mpisa bench network --quick",
    ),
)
@click.option("--write", type=click.Path(path_type=Path, dir_okay=False), help="Also write the figures to this page.")
@click.option("--quick", is_flag=True, help="Fewer and smaller runs: to see that it works, not to quote.")
def measure_network(write: Path | None, quick: bool) -> None:
    """Start-up, publishing, idling, transfer and a burst of publishes, on a devnet of four."""
    from mpisa.cli.bench import network, report

    found = network.run(quick, note)
    if write is not None:
        report.write(write, found)
        note(f"written to {write}")
    emit(found.to_json(), lambda: table(report.rows(found), report.HEADERS))
