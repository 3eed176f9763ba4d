"""`mpisa node doctor`, `mpisa doctor`: what is wrong with a node, and what to type."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mpisa.cli.commands import command
from mpisa.cli.render import emit, note
from mpisa.cli.settings import current
from mpisa.primitives.errors import MpisaError, StoreBusy, Unreachable

if TYPE_CHECKING:
    from mpisa.sdk.models import Finding


@command("doctor", examples=("mpisa node doctor", "mpisa node doctor --home ~/.mpisa/node1 --json"))
def doctor() -> None:
    """Say what is wrong with a node, why that matters, and what to type. Exit code 1 when something is.

    A running node is asked; of one that doesn't run the home is looked at.
    """
    pins: dict[str, int] = {}
    try:
        with current().client() as client:
            found = client.diagnose()
        findings, endpoint = list(found.findings), client.endpoint
        pins = {"pins": found.pins, "pins_checked": found.pins_checked}
    except Unreachable as error:
        findings, endpoint = _stopped(error), None
    data = {"endpoint": endpoint, "findings": [finding.to_dict() for finding in findings]} | pins
    emit(data, lambda: "\n\n".join(map(_text, findings)) or f"nothing is wrong with the node at {endpoint}")
    if pins and pins["pins_checked"] < pins["pins"]:
        note(f"{pins['pins_checked']} of {pins['pins']} pins were looked through; `mpisa blob verify CID` checks one")
    if findings:
        click.get_current_context().exit(1)


def _text(finding: Finding) -> str:
    return f"{finding.what}\n  why  {finding.why}\n  do   {finding.do}"


def _stopped(error: Unreachable) -> list[Finding]:
    """What the home of a node that doesn't answer tells."""
    import shutil

    from mpisa.node.diagnosis import LOW_DISK_BYTES
    from mpisa.node.home import Home, HomeLock
    from mpisa.sdk.models import Finding

    path = current().home_or_default()
    home = Home(path)
    if not home.config_file.exists():
        return [Finding(what=error.message, why=f"there is no node in {path}", do=error.hint or "mpisa devnet up")]
    found: list[Finding] = []
    try:
        home.read_config()
        home.read_genesis_text()
    except MpisaError as broken:
        found.append(
            Finding(
                what=broken.message, why="the node doesn't start with it", do=broken.hint or "mend the file it names"
            )
        )
    try:
        with HomeLock(home):
            found.append(Finding(what="the node isn't running", why=error.message, do=f"mpisa node run --home {path}"))
    except StoreBusy as busy:
        found.append(
            Finding(
                what=f"a node runs on this home but doesn't answer: {busy.message}",
                why=error.message,
                do="read its log; is it starting still, or does it serve at another --endpoint?",
            )
        )
    free = shutil.disk_usage(path).free
    if free < LOW_DISK_BYTES:
        found.append(
            Finding(what=f"{free >> 20} MiB are free on the disk of {path}", why="it may not start", do="make room")
        )
    return found
