"""Garbage collection in a running node: when somebody asks, when the store is nearly full, when a put finds no room.

One run at a time, in a thread of its own. A put that exceeds the limit waits in its worker thread until a run has made
room or found none; meanwhile its upload reads nothing more from its client. Where a run found nothing, puts aren't
kept waiting again for a while. See storage/gc.py for what a run does and why no live block is ever gone.
"""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog

from mpisa.primitives.errors import MpisaError, NotReady
from storage.gc import WANTED_DEAD_SHARE

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor
    from pathlib import Path

    from storage.collectable import Collectable
    from storage.gc import Collector, GcReport

LOOK_S = 60.0
"""How often the filling is looked at, and the shortest time between two runs that nobody asked for."""

FUTILE_S = 600.0
"""The same after a run that freed nothing."""

PRESSED_GRACE_S = 60.0
"""When puts wait for room, only what is younger than that is spared."""

WAIT_S = 30.0
"""A put waits so long for a run."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Counters:
    """Collections since the start, for /metrics."""

    gc_runs: int = 0
    gc_runs_failed: int = 0
    gc_bytes_freed: int = 0
    gc_bytes_rewritten: int = 0
    gc_puts_that_waited: int = 0


@dataclass(frozen=True, slots=True)
class CollectionState:
    """Whether a run is under way, what it does (mark, survey, compact) and how far it is; the last run's report."""

    running: bool
    phase: str
    done: int
    total: int
    last: GcReport | None


class Collecting:
    """See the module. Belongs to the loop; `make_room` is for worker threads."""

    def __init__(
        self,
        store: Collectable,
        collector: Collector,
        executor: Executor,
        path: Path,
        high_water_percent: int,
        let_go: Callable[[], None] = lambda: None,
    ) -> None:
        self._let_go = let_go
        self._store = store
        self._collector = collector
        self._executor = executor
        self._path = path
        self._high_water = high_water_percent / 100
        self._turn = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._closing = threading.Event()
        self._settled = threading.Condition()
        self._wanted = 0
        self._pressed_runs = 0
        self._freed_by_last = 0
        self._futile_until = 0.0
        self._quiet_until = 0.0
        self._phase = ("", 0, 0)
        self._last: GcReport | None = None
        self.counters = Counters()
        store.on_full(self.make_room)

    @property
    def state(self) -> CollectionState:
        """What goes on now."""
        return CollectionState(self._turn.locked(), *self._phase, self._last)

    async def run(self, *, dry_run: bool = False) -> GcReport:
        """Collect all that is dead now, however young; waits for a run that is under way. Cancelling it ends the run.

        Raises StoreDamaged, DiskFull, NotReady.
        """
        if not dry_run:
            self._let_go()
        return await self._collect(dry_run=dry_run, grace_s=0.0, dead_share=WANTED_DEAD_SHARE)

    async def watch(self) -> None:
        """Collects when the store is nearly full and when a put asks for room; runs until cancelled."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), LOOK_S)
            self._wake.clear()
            if self._wanted:
                await self._press()
            elif time.monotonic() >= self._quiet_until and self._is_high():
                report = await self._quietly()
                freed = 0 if report is None else report.bytes_freed
                self._quiet_until = time.monotonic() + (LOOK_S if freed > 0 else FUTILE_S)

    def close(self) -> None:
        """Ends a run that is under way, and lets nobody wait any longer."""
        self._store.on_full(None)
        self._closing.set()
        with self._settled:
            self._settled.notify_all()

    def make_room(self, size: int) -> bool:
        """Waits until a run has freed space for `size` bytes more, or some of it. For worker threads. False: none."""
        limit = self._store.stats().max_bytes
        with self._settled:
            is_futile = time.monotonic() < self._futile_until
            if self._closing.is_set() or is_futile or (limit is not None and size > limit):
                return False
            self.counters.gc_puts_that_waited += 1
            self._wanted = max(self._wanted, size)
            before = self._pressed_runs
            self._loop.call_soon_threadsafe(self._wake.set)
            self._settled.wait_for(lambda: self._pressed_runs > before or self._closing.is_set(), WAIT_S)
            return self._pressed_runs > before and self._freed_by_last > 0 and not self._closing.is_set()

    async def _press(self) -> None:
        """Free what puts wait for: first of what is old, then of what is younger."""
        wanted, self._wanted = self._wanted, 0
        freed = 0
        self._let_go()
        for grace_s in (None, PRESSED_GRACE_S):
            report = await self._quietly(wanted_bytes=wanted - freed, grace_s=grace_s)
            freed += 0 if report is None else report.bytes_freed
            if report is None or freed >= wanted:
                break
        with self._settled:
            self._pressed_runs += 1
            self._freed_by_last = freed
            if freed <= 0:
                self._futile_until = time.monotonic() + LOOK_S
            self._settled.notify_all()

    async def _quietly(self, *, wanted_bytes: int | None = None, grace_s: float | None = None) -> GcReport | None:
        """A run that nobody asked for: its failure is logged."""
        try:
            return await self._collect(wanted_bytes=wanted_bytes, grace_s=grace_s)
        except MpisaError as error:
            log.error("garbage collection failed", reason=str(error), hint=error.hint)
            return None

    async def _collect(
        self,
        *,
        dry_run: bool = False,
        wanted_bytes: int | None = None,
        grace_s: float | None = None,
        dead_share: float | None = None,
    ) -> GcReport:
        async with self._turn:
            if self._closing.is_set():
                raise NotReady("the node is stopping")
            abandoned = threading.Event()
            work = partial(
                self._collector.run,
                dry_run=dry_run,
                wanted_bytes=wanted_bytes,
                stop=lambda: abandoned.is_set() or self._closing.is_set(),
                progress=self._progress,
                grace_s=grace_s,
                dead_share=dead_share,
            )
            self._phase = ("mark", 0, 0)
            running = self._loop.run_in_executor(self._executor, work)
            try:
                return self._ended(await asyncio.shield(running))
            except asyncio.CancelledError:
                abandoned.set()
                await asyncio.wait((running,))
                running.exception()  # read, so that nothing complains of an error nobody saw
                raise
            except MpisaError:
                self.counters.gc_runs_failed += 1
                raise
            finally:
                self._phase = ("", 0, 0)

    def _progress(self, phase: str, done: int, total: int) -> None:
        self._phase = (phase, done, total)

    def _ended(self, report: GcReport) -> GcReport:
        self._last = report
        self.counters.gc_runs += 1
        self.counters.gc_bytes_freed += max(report.bytes_freed, 0)
        self.counters.gc_bytes_rewritten += report.bytes_rewritten
        log.info(
            "garbage collected",
            dry_run=report.dry_run,
            bytes_freed=report.bytes_freed,
            dead_blocks=report.dead_blocks,
            packs_removed=report.packs_removed,
            longest_hold_ms=round(report.longest_hold_ms, 1),
            seconds=round(report.seconds, 2),
            missing=len(report.missing),
        )
        return report

    def _is_high(self) -> bool:
        """Whether the store has reached its high-water mark: of its limit, or of the disk where it has none."""
        stats = self._store.stats()
        if stats.max_bytes is not None:
            return stats.bytes_used >= stats.max_bytes * self._high_water
        disk = shutil.disk_usage(self._path)
        return stats.bytes_used > 0 and disk.used >= disk.total * self._high_water
