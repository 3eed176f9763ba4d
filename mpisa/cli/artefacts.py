"""`mpisa put | get | publish | lineage | verify`: what most people come for."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mpisa.cli import names
from mpisa.cli.commands import command
from mpisa.cli.render import emit, fields, hint, note, progress, size, table
from mpisa.cli.settings import current
from mpisa.primitives.errors import NotFound

if TYPE_CHECKING:
    from mpisa.sdk.models import Lineage, VerifyResult

PROFILES = ("unixfs-v1-2025", "unixfs-v0-2015")
KINDS = ("model", "dataset", "code", "evaluation")


@contextmanager
def source(path: str) -> Iterator[Path]:
    """The path to read; `-` is stdin, spooled to a temporary file since its length must be known to be shown."""
    if path != "-":
        given = Path(path)
        if not given.exists():
            raise NotFound(f"no such file or directory: {path}", hint="check the path; `-` reads stdin")
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="mpisa-") as directory:
        spooled = Path(directory) / "stdin"
        with spooled.open("wb") as stream:
            shutil.copyfileobj(sys.stdin.buffer, stream, 1 << 20)
        yield spooled


def total_bytes(path: Path) -> int:
    """Bytes of all regular files under a path."""
    if path.is_dir():
        return sum(item.lstat().st_size for item in path.rglob("*") if item.is_file() and not item.is_symlink())
    return path.stat().st_size


@command("put", examples=("mpisa put ./model", "curl -s https://example.org/data.csv | mpisa put - --json"))
@click.argument("path")
@click.option("--profile", type=click.Choice(PROFILES), help="How bytes become blocks.  [default: unixfs-v1-2025]")
def put(path: str, profile: str | None) -> None:
    """Store a file or a directory on the node, pin it, and print its CID."""
    with (
        source(path) as given,
        current().client() as client,
        progress(f"put {given.name}", total_bytes(given)) as advance,
    ):
        result = client.put(given, profile=profile, progress=advance)
    emit({"cid": result.cid, "size": result.size, "blocks": result.blocks}, result.cid)
    note(f"{size(result.size)} in {result.blocks} blocks, durable on the node")


@command(
    "get",
    examples=(
        "mpisa get CID -o model",
        "mpisa get alice/demo@v1 -o model",
        "mpisa get CID -o - | sha256sum",
    ),
)
@click.argument("what", metavar="CID|NAME")
@click.option("--output", "-o", help="Where to write; `-` is stdout (files only).  [default: ./CID]")
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
def get(what: str, output: str | None, overwrite: bool) -> None:
    """Fetch an artefact through the node; every block is hashed here before it is kept."""
    with current().client() as client:
        cid = names.cid_of(client, what)
        if output == "-":
            with progress(f"get {cid}", None) as advance:
                client.get(cid, sys.stdout.buffer, progress=advance)
            sys.stdout.buffer.flush()
            return
        target = Path(output) if output else Path(cid)
        with progress(f"get {cid}", None) as advance:
            result = client.get(cid, target, overwrite=overwrite, progress=advance)
    data = {
        "cid": result.cid,
        "path": str(target),
        "size": result.size,
        "blocks": result.blocks,
        "files": result.files,
    }
    emit(data, str(target))
    note(f"{size(result.size)} in {result.files} files, {result.blocks} blocks, each hashed here")


@command(
    "publish",
    examples=(
        "mpisa publish ./model --name alice/demo@v1",
        "mpisa publish ./model --license Apache-2.0 --input dataset:CID --json",
        "mpisa publish ./model --supersedes CID --account bob",
    ),
)
@click.argument("path")
@click.option("--kind", type=click.Choice(KINDS), help="What it is.  [default: from its card, else model]")
@click.option("--license", "licence", help="SPDX expression.  [default: from its card]")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="ROLE:CID",
    help="What it was made from: base-model, dataset, code, ...; may be repeated.",
)
@click.option("--supersedes", metavar="CID", help="The version it replaces.")
@click.option("--name", metavar="OWNER/MODEL@TAG", help="Also point this name at it.")
@click.option("--media-type", help="MIME type of the subject.")
@click.option("--account", help="Which account signs.  [default: the first]")
@click.option("--key", "key_file", type=click.Path(path_type=Path), help="Key file of the account that signs.")
@click.option("--profile", type=click.Choice(PROFILES), help="How bytes become blocks.  [default: unixfs-v1-2025]")
@click.option("--timeout", type=float, help="Seconds to wait for the certificate.")
def publish(
    path: str,
    kind: str | None,
    licence: str | None,
    inputs: tuple[str, ...],
    account: str | None,
    key_file: Path | None,
    media_type: str | None,
    **options: Any,
) -> None:
    """Store an artefact and register its provenance record; returns when a quorum has certified it."""
    from mpisa.provenance.draft import draft_record

    with (
        source(path) as given,
        current().client() as client,
        progress(f"publish {given.name}", total_bytes(given)) as advance,
    ):
        drafted = draft_record(given)
        result = client.publish(
            given,
            key=names.key_choice(account, key_file),
            kind=kind or (drafted.kind.value if drafted.kind else "model"),
            license=licence or drafted.license,
            media_type=media_type or drafted.media_type,
            inputs=[names.parse_input(text) for text in inputs],
            progress=advance,
            **options,
        )
    data = {"cid": result.cid, "tx": result.tx, "height": result.height, "certified": result.certified}
    emit(data, lambda: fields(data))
    hint(f"fetch it: mpisa get {result.cid} -o COPY · check it: mpisa verify {result.cid}")


@command("lineage", examples=("mpisa lineage CID", "mpisa lineage alice/demo@v1 --json"))
@click.argument("what", metavar="CID|NAME")
def lineage(what: str) -> None:
    """What an artefact was made from, as far back as the ledger knows."""
    with current().client() as client:
        found = client.lineage(names.cid_of(client, what))
    emit(found.to_dict(), lambda: _lineage_text(found))


def _lineage_text(found: Lineage) -> str:
    records = {record.cid: record for record in found.artefacts}
    below: dict[str, list[tuple[str, str]]] = {}
    for edge in found.edges:
        below.setdefault(edge.target, []).append((f"{edge.role} ({edge.relation})", edge.source))
    lines: list[str] = []
    seen: set[str] = set()
    stack = [(0, "", found.cid)]
    while stack:
        depth, label, cid = stack.pop()
        record = records.get(cid)
        about = f"  {record.kind}, {record.license or 'no licence'}, {record.publisher}" if record else "  (not here)"
        again = cid in seen
        lines.append(f"{'  ' * depth}{label}{': ' if label else ''}{cid}{'  (above)' if again else about}")
        if not again:
            seen.add(cid)
            stack.extend((depth + 1, role, source) for role, source in reversed(below.get(cid, [])))
    if found.truncated:
        lines.append("... cut off: the graph is larger than the node shows at once")
    return "\n".join(lines)


@command("verify", examples=("mpisa verify CID", "mpisa verify CID --genesis genesis.json --json"))
@click.argument("what", metavar="CID|NAME")
@click.option("--publisher", metavar="ADDRESS", help="Whose record, where several published the same bytes.")
@click.option(
    "--genesis",
    metavar="FILE|HASH",
    help="Genesis document to trust.  [default: the home's, else the node's]",
)
@click.option("--trust", "trusted", metavar="HEIGHT:HASH", help="A later header to trust and to begin with.")
def verify(what: str, publisher: str | None, genesis: str | None, trusted: str | None) -> None:
    """Check here, not on the node, that a quorum certified an artefact's record: headers, certificates, state proof."""
    with current().client() as client:
        result = client.verify(names.cid_of(client, what), publisher=publisher, genesis=genesis, trusted=trusted)
    emit(result.to_dict(), lambda: _verification_text(result))


def _verification_text(result: VerifyResult) -> str:
    rows = [("ok", check.name, check.detail) for check in result.checks]
    facts = {
        "cid": result.cid,
        "publisher": result.publisher,
        "height": result.height,
        "kind": result.record.kind,
        "licence": result.record.license,
        "trust": result.trust,
    }
    return f"{table(rows, ('', 'check', 'found'))}\n\n{fields(facts)}"
