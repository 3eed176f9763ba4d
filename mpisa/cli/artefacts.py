"""`mpisa put | get | publish | lineage | verify`: what most people come for."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mpisa.cli import names
from mpisa.cli.commands import command
from mpisa.cli.render import emit, fields, hint, is_progress_shown, note, progress, size, table
from mpisa.cli.settings import current
from mpisa.primitives.errors import NotFound

if TYPE_CHECKING:
    from mpisa.sdk.client import Client
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


def keeping(function: Callable[..., Any]) -> Callable[..., Any]:
    """The option of what to keep besides bytes and names."""
    return click.option(
        "--keep",
        multiple=True,
        type=click.Choice(("mode", "mtime")),
        help="Keep permission bits or modification times too, which gives another CID; may be repeated.",
    )(function)


def profile_name(profile: str | None, keep: tuple[str, ...]) -> str | None:
    """The profile with what it is to keep."""
    return ",".join((profile or PROFILES[0], *sorted(set(keep)))) if keep else profile


def ignoring(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of what to leave out of a directory."""
    function = click.option(
        "--ignore",
        multiple=True,
        metavar="PATTERN",
        help="Leave out what fits, as in a .gitignore; may be repeated. '.*' leaves out hidden files.",
    )(function)
    return click.option(
        "--ignore-file/--no-ignore-file",
        default=True,
        help="Whether to follow the patterns in the directory's .mpisaignore.  [default: yes]",
    )(function)


@command(
    "put",
    examples=(
        "mpisa put ./model",
        "mpisa put ./model --ignore '*.tmp' --ignore /cache",
        "curl -s https://example.org/data.csv | mpisa put - --json",
    ),
)
@click.argument("path")
@click.option("--profile", type=click.Choice(PROFILES), help="How bytes become blocks.  [default: unixfs-v1-2025]")
@keeping
@ignoring
def put(path: str, profile: str | None, keep: tuple[str, ...], ignore: tuple[str, ...], ignore_file: bool) -> None:
    """Store a file or a directory on the node, pin it, and print its CID.

    Only what the node lacks is sent: a put that was interrupted goes on when it is typed again.
    """
    if path != "-" and not Path(path).exists():
        raise NotFound(f"no such file or directory: {path}", hint="check the path; `-` reads stdin")
    given = sys.stdin.buffer if path == "-" else Path(path)
    name = "stdin" if path == "-" else Path(path).name
    chosen = profile_name(profile, keep)
    with current().client() as client, progress(f"put {name}", None) as advance:
        result = client.put(given, profile=chosen, ignore=ignore, ignore_file=ignore_file, progress=advance)
    emit({"cid": result.cid, "size": result.size, "blocks": result.blocks, "sent": result.sent}, result.cid)
    note(
        f"{size(result.size)} in {result.blocks} blocks, hashed here and durable on the node; "
        f"{size(result.sent)} of them were new to it"
    )


@command(
    "get",
    examples=(
        "mpisa get CID -o model",
        "mpisa get alice/demo@v1/weights/model.bin",
        "mpisa get CID/data.csv --range 0-1023 -o -",
        "mpisa get CID --tar -o - | tar tv",
    ),
)
@click.argument("what", metavar="CID|NAME[/PATH]")
@click.option("--output", "-o", help="Where to write; `-` is stdout.  [default: ./ and the last part of what is asked]")
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
@click.option("--range", "span", metavar="RANGE", help="Only these bytes of a file: FIRST-LAST, FIRST- or -COUNT.")
@click.option("--tar", is_flag=True, help="As a tar archive.")
@click.option("--discard", is_flag=True, help="Begin anew instead of going on with what an interrupted get left.")
def get(what: str, output: str | None, overwrite: bool, span: str | None, tar: bool, discard: bool) -> None:
    """Fetch an artefact or a part of it through the node; every block is hashed here before it is kept.

    A get that was interrupted goes on when it is typed again: what lies there is hashed first.
    """
    with current().client() as client:
        place = names.place_of(client, what)
        name = place.rpartition("/")[2]
        cid = client.find(place)
        target = Path(output) if output else Path(f"{name}.tar" if tar else name)
        total = None if span or not is_progress_shown() else _total(client, cid)
        with progress(f"get {name}", total) as advance:
            result = client.get(
                cid,
                sys.stdout.buffer if output == "-" else target,
                overwrite=overwrite,
                span=span,
                tar=name if tar else None,
                discard=discard,
                progress=advance,
            )
    if output == "-":
        sys.stdout.buffer.flush()
        return
    data = {
        "cid": result.cid,
        "path": str(target),
        "size": result.size,
        "blocks": result.blocks,
        "files": result.files,
        "reused": result.reused,
    }
    emit(data, str(target))
    kept = f"; {size(result.reused)} of it were here already" if result.reused else ""
    note(f"{size(result.size)} in {result.files} files, {result.blocks} blocks, each hashed here{kept}")


def _total(client: Client, cid: str) -> int:
    """Bytes that will come: a file's own, and what a directory says of all below it."""
    found = client.stat(cid)
    return found.size if found.kind == "file" else found.dag_size


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
@keeping
@ignoring
def publish(
    path: str,
    kind: str | None,
    licence: str | None,
    inputs: tuple[str, ...],
    account: str | None,
    key_file: Path | None,
    media_type: str | None,
    profile: str | None,
    keep: tuple[str, ...],
    **options: Any,
) -> None:
    """Store an artefact and register its provenance record; returns when a quorum has certified it."""
    from mpisa.provenance.draft import draft_record

    with (
        source(path) as given,
        current().client() as client,
        progress(f"publish {given.name}", None) as advance,
    ):
        drafted = draft_record(given)
        result = client.publish(
            given,
            key=names.key_choice(account, key_file),
            kind=kind or (drafted.kind.value if drafted.kind else "model"),
            license=licence or drafted.license,
            media_type=media_type or drafted.media_type,
            inputs=[names.parse_input(text) for text in inputs],
            profile=profile_name(profile, keep),
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
