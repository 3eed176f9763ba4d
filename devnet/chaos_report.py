"""What a chaos run showed, for people: on the terminal, and as a section of a page that keeps every run."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from devnet.chaos import Summary

TITLE = """# Chaos

Random faults between real processes under load, and what came of it: one section a run, as it was seen. Made by `make
chaos`; a seed replays the faults (`make chaos SEED=n MINUTES=30`), not what the machine does in between. Meanwhile
validators bond, unbond, change their keys, leave and come back, so that epochs end under faults; `mpisa devnet chaos
--fixed-set` leaves that out.

"Certified again" is the time from the command that healed until some node had a new certified block; "on all nodes",
until every node had one. Starting killed processes is part of it.
"""


def text(summary: Summary) -> str:
    """A few lines and a table."""
    body = summary.to_json()
    verdict = "passed" if body["passed"] else "FAILED"
    lines = [
        f"{verdict}: seed {body['seed']}, {body['minutes']} minutes, {body['nodes']} nodes, "
        f"{sum(body['faults'].values())} faults, {body['height']} blocks",
        f"{body['made']} transactions made, {body['acknowledged']} acknowledged, {body['refused']} refused, "
        f"{body['lost']} lost, {body['doubled']} doubled, {body['forks']} forks, {body['halted']} halted, "
        f"{body['astray']} in another epoch, {body['stuck']} heals after which a node stayed behind",
        _changed(body),
        f"acknowledged after (s): {_spread(body['acknowledged_after_s'])}",
        "",
        "| fault | heals | certified again, median / most (s) | within the goal of "
        f"{body['goal_s']:g} s | on all nodes, median / most (s) |",
        "|---|---|---|---|---|",
    ]
    for kind, row in body["recovered_after_s"].items():
        lines.append(
            f"| {kind} | {row['heals']} | {_spread(row['certified_again'])} | {row['within_goal']} | "
            f"{_spread(row['on_all_nodes'])} |"
        )
    lines += ["", *(f"- {finding}" for finding in body["findings"])] if body["findings"] else []
    return "\n".join(lines)


def _changed(body: dict[str, Any]) -> str:
    changes = ", ".join(f"{count} {kind}" for kind, count in body["changes"].items())
    return f"validators changed: {changes}; {body['epochs']} epochs ended" if changes else "the validator set was fixed"


def _spread(values: dict[str, Any] | None) -> str:
    return "-" if values is None else f"{values['median']:.2f} / {values['most']:.2f}"


def append(page: Path, summary: Summary) -> None:
    """Add a section; the page is begun where there is none."""
    before = page.read_text(encoding="utf-8") if page.exists() else TITLE
    when = time.strftime("%Y-%m-%d", time.gmtime())
    load = os.getloadavg()[1]
    head = f"## {when}, seed {summary.seed}\n\n{os.cpu_count()} cores, load of the machine {load:.1f} at the end."
    page.write_text(f"{before.rstrip()}\n\n{head}\n\n{text(summary)}\n", encoding="utf-8")
