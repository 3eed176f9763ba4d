"""`mpisa bench`: measurements next to the peer that does the same work and the limit that bounds it, in one run.

`result` is the form of a figure, `network` takes the figures of a devnet, `reference` is what its transfer is compared
with, `burst` publishes a hundred things at once; `consensus` puts load on one, `soak` for long, `load` makes it,
`limits` bounds it; `state` fills a state map, `state_worker` holds it; `storage` takes the figures of bytes, with
`storage_worker` and `storage_network` on our side and `kubo` on the other, `storage_growth` over sizes; `asked` is a
process that is measured; `machine` reads processes, `report` writes docs/benchmarks.md.
"""

from __future__ import annotations

from pathlib import Path

import click

from mpisa.cli.commands import group
from mpisa.cli.render import emit, note, table
from mpisa.primitives.errors import UsageError


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


@bench.command(
    "consensus",
    examples=(
        "mpisa bench consensus --seconds 60 --runs 3 --catch-up --json",
        "mpisa bench consensus --rate 1000",
        "mpisa bench consensus --growth --plot docs/consensus-growth.svg",
        "mpisa bench consensus --soak 60 --write docs/benchmarks.md",
        "mpisa bench consensus --write docs/benchmarks.md",
    ),
)
@click.option("--validators", type=click.IntRange(1, 32), default=4, show_default=True, help="Validator processes.")
@click.option("--rate", default="max", show_default=True, help="Transactions a second offered, or max.")
@click.option("--seconds", type=click.FloatRange(1, 3600), default=30.0, show_default=True, help="How long a run is.")
@click.option("--runs", type=click.IntRange(1, 20), default=1, show_default=True, help="Runs of each figure.")
@click.option("--catch-up", is_flag=True, help="Also kill a validator, let 10,000 commits go by, and start it again.")
@click.option("--growth", is_flag=True, help="Message delays and cost over the number of authorities instead.")
@click.option(
    "--soak", type=click.IntRange(1, 10_000), help="The same load for so many minutes, 1,000 a second, instead."
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("consensus-growth.svg"),
    show_default=True,
    help="Where --growth draws its plot.",
)
@click.option("--write", type=click.Path(path_type=Path, dir_okay=False), help="Also write the figures to this page.")
def measure_consensus(
    validators: int,
    rate: str,
    seconds: float,
    runs: int,
    catch_up: bool,
    growth: bool,
    soak: int | None,
    plot: Path,
    write: Path | None,
) -> None:
    """Signed transactions a second, their latency and cost, next to the limits of this machine."""
    from mpisa.cli.bench import consensus, report

    options = consensus.Options(validators, _read_rate(rate), seconds, runs=runs, catch_up=catch_up)
    if growth:
        found = consensus.growth(plot, note)
        note(f"drawn in {plot}")
    elif soak is not None:
        found = consensus.endure(options, soak, note)
    else:
        found = consensus.run(options, note)
    if write is not None:
        report.write(write, found)
        note(f"written to {write}")
    emit(found.to_json(), lambda: table(report.rows(found), report.HEADERS))


@bench.command(
    "state",
    examples=(
        "mpisa bench state --json",
        "mpisa bench state --keys 100000",
        "mpisa bench state --write docs/benchmarks.md",
    ),
)
@click.option(
    "--keys", type=click.IntRange(1_000, 20_000_000), default=1_000_000, show_default=True, help="Entries in the state."
)
@click.option("--write", type=click.Path(path_type=Path, dir_okay=False), help="Also write the figures to this page.")
def measure_state(keys: int, write: Path | None) -> None:
    """The state map with many keys: a block, a proof, a restart, memory; next to the same map in memory."""
    from mpisa.cli.bench import report, state

    found = state.run(keys, note)
    if write is not None:
        report.write(write, found)
        note(f"written to {write}")
    emit(found.to_json(), lambda: table(report.rows(found), report.HEADERS))


@bench.command(
    "storage",
    examples=(
        "mpisa bench storage --against kubo --json",
        "mpisa bench storage --against kubo --write docs/benchmarks.md",
        "mpisa bench storage --against kubo --growth --plot docs/storage-growth.svg",
        "mpisa bench storage --quick",
    ),
)
@click.option("--growth", is_flag=True, help="Over sizes and numbers of files instead, drawn as a plot.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("storage-growth.svg"),
    show_default=True,
    help="Where --growth draws its plot.",
)
@click.option("--against", type=click.Choice(["kubo"]), help="Also measure this peer, in the same run.")
@click.option("--write", type=click.Path(path_type=Path, dir_okay=False), help="Also write the figures to this page.")
@click.option("--quick", is_flag=True, help="Once, and small: to see that it works, not to quote.")
def measure_storage(growth: bool, plot: Path, against: str | None, write: Path | None, quick: bool) -> None:
    """Adding, verifying, collecting and moving bytes, next to Kubo and the limits of this machine."""
    from mpisa.cli.bench import report, storage, storage_growth

    if growth:
        found = storage_growth.run(quick, against, plot, note)
        note(f"drawn in {plot}")
    else:
        found = storage.run(quick, against, note)
    if write is not None:
        report.write(write, found)
        note(f"written to {write}")
    emit(found.to_json(), lambda: table(report.rows(found), report.HEADERS))


def _read_rate(text: str) -> float | None:
    if text == "max":
        return None
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 1 <= rate <= 100_000:
        raise UsageError(f"--rate: expected max, or a number from 1 to 100000, got {text[:40]!r}")
    return rate
