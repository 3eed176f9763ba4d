"""`mpisa blob`: content by CID. `blob cid` needs no node."""

from __future__ import annotations

from typing import Any

import click

from mpisa.cli import names
from mpisa.cli.artefacts import PROFILES, source
from mpisa.cli.commands import group
from mpisa.cli.render import emit, fields, size, table
from mpisa.cli.settings import current


@group("blob", examples=("mpisa blob cid ./model", "mpisa blob ls CID"))
def blob() -> None:
    """Content by CID."""


@blob.command(
    "cid",
    examples=(
        "mpisa blob cid ./model",
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
def cid(path: str, profile: str, cid_version: str | None, **overrides: Any) -> None:
    """The CID a file or a directory would get; computed here, stored nowhere."""
    from storage.importer import cid_of_path
    from storage.profiles import profile_by_name

    chosen = profile_by_name(profile).replace(
        cid_version=None if cid_version is None else int(cid_version), **overrides
    )
    with source(path) as given:
        found = str(cid_of_path(given, chosen))
    emit({"cid": found}, found)


@blob.command("ls", examples=("mpisa blob ls CID", "mpisa blob ls alice/demo@v1 --json"))
@click.argument("what", metavar="CID|NAME")
def ls(what: str) -> None:
    """What a directory holds."""
    with current().client() as client:
        root = names.cid_of(client, what)
        entries = client.ls(root)
    data = {"cid": root, "entries": [entry.to_dict() for entry in entries]}
    rows = [(entry.name, entry.kind, size(entry.size), entry.cid) for entry in entries]
    emit(data, lambda: table(rows, ("name", "kind", "size", "cid")))


@blob.command("stat", examples=("mpisa blob stat CID", "mpisa blob stat CID --json"))
@click.argument("what", metavar="CID|NAME")
def stat(what: str) -> None:
    """Kind and sizes of what a CID names."""
    with current().client() as client:
        found = client.stat(names.cid_of(client, what))
    emit(found.to_dict(), lambda: fields(found.to_dict()))


@blob.command("pin", examples=("mpisa blob pin CID", "mpisa blob pin CID --label keep"))
@click.argument("what", metavar="CID|NAME")
@click.option("--direct", is_flag=True, help="Only the block itself, not what it links to.")
@click.option("--label", default="", help="A note for yourself.")
def pin(what: str, direct: bool, label: str) -> None:
    """Fetch what is missing and keep it on the node."""
    with current().client() as client:
        found = client.pin(names.cid_of(client, what), recursive=not direct, name=label)
    emit(found.to_dict(), lambda: f"pinned {found.cid} ({found.kind})")


@blob.command("unpin", examples=("mpisa blob unpin CID",))
@click.argument("what", metavar="CID|NAME")
def unpin(what: str) -> None:
    """Let the node forget it at the next collection."""
    with current().client() as client:
        root = names.cid_of(client, what)
        client.unpin(root)
    emit({"cid": root, "removed": True}, f"unpinned {root}")
