"""`mpisa node gc`: giving space back, at a running node or in the home of a stopped one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from mpisa.cli.commands import command
from mpisa.cli.failures import repairable
from mpisa.cli.render import emit, hint, note, size
from mpisa.cli.settings import current
from mpisa.primitives.errors import StoreDamaged

if TYPE_CHECKING:
    from storage.gc import GcReport

_WORDS = {"mark": "marking what pins keep", "survey": "looking for dead blocks", "compact": "compacting"}

Tell = Callable[[str, int, int], None]


@command("gc", examples=("mpisa node gc", "mpisa node gc --dry-run --json", "mpisa node gc --home ./node --offline"))
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--offline", is_flag=True, help="Collect in the home of a node that doesn't run.")
def gc(dry_run: bool, offline: bool) -> None:
    """Forget what no pin keeps and give its space back; reads and writes go on meanwhile.

    Whatever an upload or a download under way needs stays. Blocks that share a file with live ones go when at least a
    twentieth of that file is dead.
    """
    with _phases() as tell:
        found = _collect_offline(dry_run, tell) if offline else _collect(dry_run, tell)
    emit(found, lambda: _line(found))
    if found["hidden_links"]:
        note("nothing was collected: a pinned DAG lacks a block that links to others, so nobody knows what it keeps")
        hint(f"fetch it again: mpisa blob pin {found['missing'][0]}, or unpin that DAG")
    elif found["stopped"]:
        note("something was left for the next collection")
    elif not dry_run and found["dead_bytes"] > 0 and not found["packs_removed"]:
        note("what is dead is still held by work under way, or too little of its file is dead")


def _collect(dry_run: bool, tell: Tell) -> dict[str, Any]:
    with current().client() as client:
        result = client.collect(dry_run=dry_run, progress=lambda state: tell(state.phase, state.done, state.total))
    return result.to_dict()


def _collect_offline(dry_run: bool, tell: Tell) -> dict[str, Any]:
    import time

    from mpisa.cli.node import stopped_node
    from storage.gc import WANTED_DEAD_SHARE, Collector
    from storage.packs import DiskBlockStore
    from storage.pins import PinStore

    with stopped_node() as setup:
        try:
            store = DiskBlockStore.open(setup.home.blocks, max_bytes=setup.config.limits.store_bytes or None)
            try:
                pins = PinStore(setup.home.pins)
                try:
                    collector = Collector(store, pins, clock=time.time, scratch=setup.home.marks)
                    report = collector.run(dry_run=dry_run, progress=tell, grace_s=0.0, dead_share=WANTED_DEAD_SHARE)
                finally:
                    pins.close()
            finally:
                store.close()
        except StoreDamaged as error:
            raise repairable(error, setup.home.path) from None
    return _as_data(report)


def _as_data(report: GcReport) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(report) | {"missing": [str(cid) for cid in report.missing]}


def _line(found: dict[str, Any]) -> str:
    if found["dry_run"]:
        return f"{found['dead_blocks']} blocks, {size(found['dead_bytes'])}, would go"
    freed = f"{size(max(found['bytes_freed'], 0))} freed, {found['packs_removed']} packs gone"
    return f"{freed}; writes waited {found['longest_hold_ms']:.1f} ms at most"


@contextmanager
def _phases() -> Iterator[Tell]:
    """What is being done, on a terminal."""
    settings = current()
    if settings.quiet or settings.json or not sys.stderr.isatty():
        yield lambda _phase, _done, _total: None
        return
    from rich.console import Console

    with Console(stderr=True).status("garbage collection") as status:
        yield lambda phase, done, total: status.update(
            f"{_WORDS.get(phase, phase)}: {done:,}" + (f" of {total:,}" if total else "")
        )
