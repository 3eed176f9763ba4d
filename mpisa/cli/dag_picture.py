"""The recent DAG drawn for a terminal: a line a round, newest first, a column an authority.

A cell says what the authority's vertex carries and whether it is ordered; an equivocation stands out. Leader slots have
brackets; the verdicts stand behind the round, in order of slots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from mpisa.sdk.models import Dag, DagRound, DagSlot, DagVertex

LEGEND: Final = (
    "* ordered vertex, o not ordered yet, . none; 1.5k: bytes of payload; 2!: so many vertices by one author in the "
    "round (equivocation)\n"
    "[ ] leader slot; verdicts by slot: commit, skip, or undecided (?); in brackets: decided, but a slot before isn't"
)
_COLOURS: Final = {"commit": "green", "skip": "red", "undecided": "yellow"}


def picture(dag: Dag, *, coloured: bool) -> str:
    """The whole drawing with its legend."""
    heads = [item.name[:12] for item in dag.authorities]
    rows = [_row(dag, item) for item in reversed(dag.rounds)]
    cells = [[cell for cell, _ in row] for _, row, _ in rows]
    widths = [
        max([len(head), *(len(row[place]) for row in cells)]) if cells else len(head)
        for place, head in enumerate(heads)
    ]
    number_width = max([5, *(len(number) for number, _, _ in rows)])
    lines = [
        "  ".join(["round".rjust(number_width), *(h.ljust(w) for h, w in zip(heads, widths, strict=True)), "verdicts"])
    ]
    for number, row, verdicts in rows:
        drawn = [
            click.style(cell.ljust(width), fg=colour) if colour and coloured else cell.ljust(width)
            for (cell, colour), width in zip(row, widths, strict=True)
        ]
        lines.append("  ".join([number.rjust(number_width), *drawn, verdicts]).rstrip())
    return "\n".join([*lines, "", LEGEND])


def _row(dag: Dag, item: DagRound) -> tuple[str, list[tuple[str, str | None]], str]:
    leads = {slot.authority: slot for slot in item.slots}
    cells = []
    for authority in dag.authorities:
        mine = [vertex for vertex in item.vertices if vertex.author == authority.index]
        slot = leads.get(authority.index)
        text = _cell(mine)
        colour = "magenta" if len(mine) > 1 else None if slot is None else _COLOURS[slot.verdict]
        cells.append((f"[{text}]" if slot is not None else f" {text} ", colour))
    words = " ".join(f"{dag.authorities[slot.authority].name[:12]}:{_word(slot)}" for slot in item.slots)
    return str(item.round), cells, words


def _word(slot: DagSlot) -> str:
    if slot.verdict == "undecided":
        return "?"
    return slot.verdict if slot.final else f"({slot.verdict})"


def _cell(vertices: list[DagVertex]) -> str:
    if not vertices:
        return "."
    size = max(vertex.payload_bytes for vertex in vertices)
    marks = f"{len(vertices)}!" if len(vertices) > 1 else ""
    sign = "*" if any(vertex.committed for vertex in vertices) else "o"
    return f"{marks}{sign}{bytes_text(size) if size else ''}"


def bytes_text(size: int) -> str:
    """1536 as 1.5k."""
    if size < 1_000:
        return str(size)
    return f"{size / 1024:.1f}k" if size < 1_000_000 else f"{size / 1048576:.1f}M"
