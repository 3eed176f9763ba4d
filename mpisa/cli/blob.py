"""`mpisa blob`: content by CID. `blob cid` needs no node."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from mpisa.cli import cars, names
from mpisa.cli.artefacts import PROFILES, ignoring, keeping, profile_name
from mpisa.cli.commands import group
from mpisa.cli.render import emit, fields, moment, note, size, table
from mpisa.cli.settings import current
from mpisa.primitives.errors import IntegrityError

WHAT = "CID|NAME[/PATH]"


@group("blob", examples=("mpisa blob cid ./model", "mpisa blob ls CID/weights"))
def blob() -> None:
    """Content by CID."""


for car_command in cars.COMMANDS:
    blob.add_command(car_command)


@blob.command(
    "cid",
    examples=(
        "mpisa blob cid ./model",
        "mpisa blob cid ./model --ignore '*.tmp'",
        "mpisa blob cid weights.bin --profile unixfs-v0-2015 --chunk-size 262144 --json",
    ),
)
@click.argument("path")
@click.option("--profile", type=click.Choice(PROFILES), default=PROFILES[0], show_default=True)
@click.option("--chunk-size", type=int, help="Bytes of a file that become one leaf.")
@click.option("--max-links", type=int, help="Most links of a file's node.")
@click.option("--raw-leaves/--no-raw-leaves", default=None, help="Leaves as plain bytes, or wrapped.")
@click.option("--cid-version", type=click.Choice(["0", "1"]))
@click.option("--hamt-threshold", type=int, help="Estimated bytes above which a directory is sharded.")
@keeping
@ignoring
def cid(
    path: str,
    profile: str,
    keep: tuple[str, ...],
    cid_version: str | None,
    ignore: tuple[str, ...],
    ignore_file: bool,
    **overrides: Any,
) -> None:
    """The CID a file or a directory would get; computed here, stored nowhere."""
    from mpisa.primitives.profiles import profile_by_name
    from mpisa.sdk.ignore import read_rules
    from mpisa.sdk.tree import Source, build, open_source

    chosen = profile_by_name(profile_name(profile, keep) or profile).replace(
        cid_version=None if cid_version is None else int(cid_version), **overrides
    )
    if path == "-":
        source = Source(None, None, None, sys.stdin.buffer)
    else:
        source = open_source(Path(path), read_rules(Path(path), ignore, use_file=ignore_file))
    found = str(build(source, chosen, lambda *_: None).cid)
    emit({"cid": found}, found)


@blob.command("ls", examples=("mpisa blob ls CID", "mpisa blob ls CID/weights", "mpisa blob ls alice/demo@v1 --json"))
@click.argument("what", metavar=WHAT)
def ls(what: str) -> None:
    """What a directory holds."""
    with current().client() as client:
        root = client.find(names.place_of(client, what))
        entries = client.ls(root)
    data = {"cid": root, "entries": [entry.to_dict() for entry in entries]}
    rows = [(entry.name, entry.kind, size(entry.size), entry.cid) for entry in entries]
    emit(data, lambda: table(rows, ("name", "kind", "size", "cid")))


@blob.command("stat", examples=("mpisa blob stat CID", "mpisa blob stat CID/weights/model.bin --json"))
@click.argument("what", metavar=WHAT)
def stat(what: str) -> None:
    """Kind and sizes of what a CID names, and who wants it kept."""
    with current().client() as client:
        found = client.stat(names.place_of(client, what))
        pins = client.pins_of(found.cid)
    data = found.to_dict() | {"pins": [pin.to_dict() for pin in pins]}
    kept = ", ".join(f"{pin.reason} ({pin.kind}{f', {pin.name}' if pin.name else ''})" for pin in pins)
    shown = {name: value for name, value in found.to_dict().items() if value is not None}
    if found.mode is not None:
        shown["mode"] = f"{found.mode:04o}"
    if found.mtime_ns is not None:
        shown["mtime"] = moment(shown.pop("mtime_ns") // 1_000_000)
    emit(data, lambda: fields(shown | {"pinned for": kept or None}))


@blob.command("verify", examples=("mpisa blob verify CID", "mpisa blob verify alice/demo@v1 --json"))
@click.argument("what", metavar=WHAT)
def verify(what: str) -> None:
    """Let the node hash again all it has of a DAG. Exit code 5 when a block is damaged or missing."""
    with current().client() as client:
        found = client.check(names.place_of(client, what))
    emit(found.to_dict(), lambda: f"{found.blocks} blocks, {size(found.bytes)} hashed, {_lack(found)}")
    if found.damaged:
        raise IntegrityError(
            f"{found.damaged} blocks of {found.cid} are damaged, the first is {found.damaged_cids[0]}",
            hint=f"stop the node, `mpisa node repair`, start it, then `mpisa blob pin {found.cid}`",
        )
    if found.missing:
        raise IntegrityError(
            f"{found.missing} blocks of {found.cid} aren't on this node, the first is {found.missing_cids[0]}",
            hint=f"fetch them: mpisa blob pin {found.cid}",
        )


def _lack(found: Any) -> str:
    return f"{found.damaged} damaged, {found.missing} missing"


@blob.command("pin", examples=("mpisa blob pin CID", "mpisa blob pin CID/weights --label keep"))
@click.argument("what", metavar=WHAT)
@click.option("--direct", is_flag=True, help="Only the block itself, not what it links to.")
@click.option("--label", default="", help="A note for yourself.")
def pin(what: str, direct: bool, label: str) -> None:
    """Fetch what is missing and keep it on the node."""
    with current().client() as client:
        found = client.pin(names.place_of(client, what), recursive=not direct, name=label)
    emit(found.to_dict(), lambda: f"pinned {found.cid} ({found.kind})")


@blob.command("unpin", examples=("mpisa blob unpin CID", "mpisa blob unpin CID --reason custody"))
@click.argument("what", metavar=WHAT)
@click.option(
    "--reason",
    type=click.Choice(("user", "publish", "custody")),
    help="Only the pins for it.  [default: user and publish]",
)
def unpin(what: str, reason: str | None) -> None:
    """Let the node forget it at the next collection. Custody is a promise to others: it ends only when named."""
    with current().client() as client:
        root = client.find(names.place_of(client, what))
        client.unpin(root, reason=reason)
        left = client.pins_of(root)
    emit({"cid": root, "removed": True, "left": [pin.to_dict() for pin in left]}, f"unpinned {root}")
    if left:
        note(f"still kept for {', '.join(sorted({pin.reason for pin in left}))}")


@blob.command("pins", examples=("mpisa blob pins", "mpisa blob pins --json"))
def pins() -> None:
    """All that the node keeps, and why."""
    with current().client() as client:
        found = client.pins()
    rows = [(pin.cid, pin.kind, pin.reason, pin.name or None) for pin in found]
    emit({"pins": [pin.to_dict() for pin in found]}, lambda: table(rows, ("cid", "kind", "reason", "label")))
