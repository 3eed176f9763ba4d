"""`mpisa blob export-car | import-car`: DAGs as CAR files, every block hashed here."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from mpisa.cli import names
from mpisa.cli.commands import command
from mpisa.cli.render import emit, hint, note, progress, size
from mpisa.cli.settings import current
from mpisa.primitives.errors import NotFound


@command(
    "export-car",
    examples=("mpisa blob export-car CID -o model.car", "mpisa blob export-car alice/demo@v1/data -o - > data.car"),
)
@click.argument("what", metavar="CID|NAME[/PATH]")
@click.option("--output", "-o", help="Where to write; `-` is stdout.  [default: ./CID.car]")
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
@click.option(
    "--scope",
    type=click.Choice(("all", "entity", "block")),
    default="all",
    show_default=True,
    help="All below it, what it takes to read the file or list the directory, or the block alone.",
)
@click.option("--range", "span", metavar="RANGE", help="With --scope entity: FIRST-LAST, FIRST- or -COUNT of a file.")
def export_car(what: str, output: str | None, overwrite: bool, scope: str, span: str | None) -> None:
    """Write all blocks below a CID to a CAR file; it appears when all of it was proven."""
    with current().client() as client:
        place = names.place_of(client, what)
        root = client.find(place)
        with progress(f"export {root}", None) as advance:
            if output == "-":
                client.export_car(root, sys.stdout.buffer, scope=scope, span=span, progress=advance)
                sys.stdout.buffer.flush()
                return
            target = output or f"{root}.car"
            result = client.export_car(root, target, overwrite=overwrite, scope=scope, span=span, progress=advance)
    emit(result.to_dict(), str(result.path))
    note(f"{size(result.size)}, {result.blocks} blocks, each hashed here")


@command(
    "import-car",
    examples=("mpisa blob import-car model.car", "curl -s https://example.org/model.car | mpisa blob import-car -"),
)
@click.argument("file")
def import_car(file: str) -> None:
    """Store the blocks of a CAR file on the node; roots whose whole DAG is there are pinned."""
    if file != "-" and not Path(file).is_file():
        raise NotFound(f"no such file: {file}", hint="check the path; `-` reads stdin")
    total = None if file == "-" else Path(file).stat().st_size
    with current().client() as client, progress(f"import {Path(file).name}", total) as advance:
        result = client.import_car(sys.stdin.buffer if file == "-" else Path(file), progress=advance)
    emit(result.to_dict(), "\n".join(result.roots))
    note(f"{result.blocks} blocks, {size(result.bytes)}, each hashed here and durable on the node")
    for root in result.roots:
        if root not in result.pinned:
            hint(f"{root} isn't whole, so nothing pins it: import the rest, or `mpisa blob pin {root}` fetches it")


COMMANDS = (export_car, import_car)
