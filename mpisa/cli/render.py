"""Output: JSON for machines, aligned text for people, progress for those who wait.

Data goes to stdout, everything else to stderr. Progress shows only when stderr is a terminal and neither --quiet nor
--json asked for silence.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click

from mpisa.cli.settings import current

Progress = Callable[[int, int | None], None]
"""Called with what is done, and the total where it is known."""


def emit(data: Any, text: str | Callable[[], str] | None = None) -> None:
    """Print a result: `data` as JSON under --json, else `text`, else `data` laid out as lines."""
    if current().json:
        print(json.dumps(data, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False))
        return
    if text is None:
        print(fields(data) if isinstance(data, Mapping) else data)
        return
    print(text() if callable(text) else text)


def emit_line(data: Any, text: str) -> None:
    """One element of a stream: a line of JSON or a line of text, flushed at once."""
    print(json.dumps(data, ensure_ascii=False) if current().json else text, flush=True)


def note(message: str) -> None:
    """Something worth knowing, on stderr; silent under --quiet and --json."""
    settings = current()
    if not settings.quiet and not settings.json:
        print(message, file=sys.stderr, flush=True)


def is_coloured() -> bool:
    """Whether what goes to stdout may have colours."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def hint(message: str) -> None:
    """What to type next."""
    note(click.style(message, dim=True) if sys.stderr.isatty() and "NO_COLOR" not in os.environ else message)


def fields(data: Mapping[str, Any], indent: str = "") -> str:
    """A mapping as aligned `name  value` lines."""
    width = max((len(name) for name in data), default=0)
    return "\n".join(f"{indent}{name.ljust(width)}  {plain(value)}" for name, value in data.items())


def table(rows: Sequence[Sequence[Any]], headers: Sequence[str]) -> str:
    """Rows as aligned columns."""
    cells = [list(headers), *([plain(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]
    return "\n".join("  ".join(cell.ljust(widths[at]) for at, cell in enumerate(row)).rstrip() for row in cells)


def plain(value: Any) -> str:
    """One value as a person reads it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def moment(time_ms: int) -> str:
    """A time in ms since 1970 as a person reads it."""
    whole = datetime.fromtimestamp(time_ms // 1000, UTC)
    return f"{whole:%Y-%m-%d %H:%M:%S} UTC"


def size(count: int) -> str:
    """Bytes with a binary unit."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def is_progress_shown() -> bool:
    """Whether anybody sees it: on a terminal, unless silence was asked for."""
    settings = current()
    return not settings.quiet and not settings.json and sys.stderr.isatty()


@contextmanager
def progress(label: str, total: int | None) -> Iterator[Progress]:
    """A bar with rate and remaining time while bytes move; yields the function that advances it."""
    if not is_progress_shown():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda done, whole: bar.update(task, completed=done, total=whole or total)
