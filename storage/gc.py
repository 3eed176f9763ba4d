"""Garbage collection: give back the space of blocks that no pin keeps and no lease protects, beside reads and writes.

A run marks what the pins keep, asks every pack that is old enough how much of it is dead, and retires those that are
dead enough, the emptiest first (compaction.py). It holds a lease itself, so that all that is put or read while it runs
stays. A pin that is set meanwhile is marked before anything more is forgotten: whoever pins holds a lease until the pin
is durable, so that one of the two always sees the other.

A young pack is left alone: what was fetched a moment ago may be asked for again. Nothing at all is collected while a
pinned DAG lacks a block that links to others, for nobody can tell what lies below it.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import NotReady, StoreDamaged
from storage.blockstore import QuotaExceeded
from storage.collectable import Collectable, PackInfo, Retired
from storage.marking import Marked, Marks, mark
from storage.pins import PinStore

__all__ = ["Collectable", "Collector", "GcReport", "PackInfo", "Retired"]

DEAD_SHARE = 0.3
"""A pack is written again when that much of it is dead."""

WANTED_DEAD_SHARE = 0.05
"""The same when space is wanted at once, or by somebody who asked for a collection."""

WORK_S = 0.0003
"""A run rests as long as it worked each time that it has worked so long, in seconds: Python runs one thread at a time,
and a read that waits for a busy one waits 5 ms.
"""

MAX_REST_S = 0.01

MAX_REMARKS = 100
"""Pins that are set during a run make it mark again; after so many times the rest waits for the next run."""

GcProgress = Callable[[str, int, int], None]
"""Called with what is being done (mark, survey, compact), how much of it is done, and of how much (0: unknown)."""


@dataclass(frozen=True, slots=True)
class GcReport:
    """What a run found and did. Sizes in bytes; dead ones are those in the packs that were old enough to be looked at.

    `missing` are blocks that pins name and that aren't here (the first of them); with `hidden_links` some of these
    hide what lies below them, so that nothing was collected. `stopped` says that something was left undone.
    """

    marked: int
    dead_blocks: int
    dead_bytes: int
    packs_rewritten: int
    packs_removed: int
    bytes_freed: int
    bytes_rewritten: int
    longest_hold_ms: float
    seconds: float
    stopped: bool
    missing: tuple[Cid, ...]
    hidden_links: int = 0
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class _Candidate:
    pack: int
    size: int
    live_bytes: int
    dead_blocks: int

    @property
    def dead_bytes(self) -> int:
        return self.size - self.live_bytes

    @property
    def dead_share(self) -> float:
        return self.dead_bytes / self.size


@dataclass(slots=True)
class _Totals:
    dead_blocks: int = 0
    dead_bytes: int = 0
    packs_rewritten: int = 0
    packs_removed: int = 0
    bytes_freed: int = 0
    bytes_rewritten: int = 0
    longest_hold_ms: float = 0.0
    stopped: bool = False

    def add(self, retired: Retired) -> None:
        self.bytes_freed += retired.bytes_freed - retired.bytes_rewritten
        self.bytes_rewritten += retired.bytes_rewritten
        self.longest_hold_ms = max(self.longest_hold_ms, retired.longest_hold_ms)
        self.packs_removed += retired.complete
        self.packs_rewritten += retired.complete and retired.blocks_kept > 0


class _Run:
    """One run: its marks, and when it has to stop or to mark again."""

    def __init__(
        self,
        store: Collectable,
        pins: PinStore,
        marks: Marks,
        stop: Callable[[], bool],
        progress: GcProgress,
        in_a_hurry: bool,
    ) -> None:
        self.store = store
        self.marks = marks
        self.marked = Marked()
        self.progress = progress
        self._pins = pins
        self._seen = -1
        self._stop = stop
        self._in_a_hurry = in_a_hurry
        self._since = time.monotonic()
        self._ticks = 0

    def mark(self) -> None:
        """Mark what the pins keep; all of it is marked when this returns.

        Raises _Stopped, also when a pin hides what it keeps, and StoreDamaged.
        """
        while self.is_stale():
            if self._stop():
                raise _Stopped
            seen, fresh = self._pins.set_since(self._seen)
            pins = self._pins.list() if fresh is None else fresh
            mark(self.store, pins, self.marks, self.marked, self._mark_tick)
            self._seen = seen
        if self.marked.hidden:
            raise _Stopped

    def is_stale(self) -> bool:
        """Whether pins were set that aren't marked."""
        return self._seen != self._pins.changes

    def must_stop(self) -> bool:
        """Whether nothing more may be forgotten for now."""
        return self.is_stale() or self._stop()

    def keeps(self, cid: Cid) -> bool:
        """Whether a pin keeps the block, also one that was set a moment ago. Raises what `mark` does."""
        self.tick()
        if self.must_stop():
            self.mark()
            if self._stop():
                raise _Stopped
        return cid.multihash in self.marks

    def tick(self) -> None:
        """One small piece of work is done: let others have the processor now and then."""
        if self._in_a_hurry:
            return
        worked = time.monotonic() - self._since
        if worked >= WORK_S:
            time.sleep(min(worked, MAX_REST_S))
            self._since = time.monotonic()

    def _mark_tick(self) -> None:
        self.tick()
        self._ticks += 1
        if self._ticks % 1024 == 0:
            self.progress("mark", self.marks.blocks, 0)
            if self._stop():
                raise _Stopped


class _Stopped(Exception):
    """The run has to end: it was asked to, or it can't tell what a pin keeps."""


class Collector:
    """Collects from one store, one run at a time; see the module. `clock` is the wall clock in seconds."""

    def __init__(
        self,
        store: Collectable,
        pins: PinStore,
        *,
        clock: Callable[[], float],
        grace_s: float = 3600.0,
        scratch: Path | None = None,
    ) -> None:
        self._store = store
        self._pins = pins
        self._clock = clock
        self._grace_s = grace_s
        self._scratch = scratch
        self._running = threading.Lock()

    def run(
        self,
        *,
        dry_run: bool = False,
        wanted_bytes: int | None = None,
        stop: Callable[[], bool] = lambda: False,
        progress: GcProgress | None = None,
        grace_s: float | None = None,
        dead_share: float | None = None,
    ) -> GcReport:
        """Blocking; for a worker thread. Ends early once `wanted_bytes` are free, or when `stop` says so.

        Raises NotReady while another run goes on, StoreDamaged and DiskFull; whatever it raises, no live block is gone.
        """
        if not self._running.acquire(blocking=False):
            raise NotReady("a collection is under way already", hint="wait for its end")
        started = time.monotonic()
        try:
            with self._store.lease("collection"), Marks(self._scratch) as marks:
                run = _Run(self._store, self._pins, marks, stop, progress or _quiet, wanted_bytes is not None)
                totals = _Totals()
                try:
                    self._collect(run, totals, dry_run, wanted_bytes, grace_s, dead_share)
                except _Stopped:
                    totals.stopped = True
                return _report(run, totals, time.monotonic() - started, dry_run)
        finally:
            self._running.release()

    def _collect(
        self,
        run: _Run,
        totals: _Totals,
        dry_run: bool,
        wanted_bytes: int | None,
        grace_s: float | None,
        dead_share: float | None,
    ) -> None:
        grace = self._grace_s if grace_s is None else grace_s
        generations = self._store.generations()
        run.mark()
        now = self._clock()
        old = [info for info in generations if grace <= 0 or abs(now - info.sealed_at) >= grace]
        candidates = self._survey(run, old, totals)
        if dry_run:
            return
        share = dead_share if dead_share is not None else DEAD_SHARE if wanted_bytes is None else WANTED_DEAD_SHARE
        newest = max((info.number for info in generations), default=0)
        chosen = sorted(
            (item for item in candidates if item.dead_share >= share or item.live_bytes == 0),
            # the newest first, for it may be the one that is written to: else copies would go there and move again
            key=lambda item: (item.live_bytes > 0, item.pack != newest, -item.dead_share, item.pack),
        )
        self._retire_all(run, chosen, totals, wanted_bytes)

    def _survey(self, run: _Run, packs: list[PackInfo], totals: _Totals) -> list[_Candidate]:
        """How much of each pack is dead, as far as the pins say; damaged packs are left out."""
        found: list[_Candidate] = []
        for number, info in enumerate(packs):
            live_bytes = dead_blocks = 0
            run.progress("survey", number, len(packs))
            try:
                for cid, size in self._store.records_of(info.number):
                    if run.keeps(cid):
                        live_bytes += size
                    else:
                        dead_blocks += 1
            except StoreDamaged:
                totals.stopped = True  # the damaged pack stays for a repair
                continue
            candidate = _Candidate(info.number, info.bytes, live_bytes, dead_blocks)
            found.append(candidate)
            totals.dead_blocks += dead_blocks
            totals.dead_bytes += candidate.dead_bytes
        return found

    def _retire_all(self, run: _Run, chosen: list[_Candidate], totals: _Totals, wanted_bytes: int | None) -> None:
        damage: StoreDamaged | None = None
        for number, candidate in enumerate(chosen):
            run.progress("compact", number, len(chosen))
            if wanted_bytes is not None and totals.bytes_freed >= wanted_bytes:
                break
            if not self._has_room(candidate.live_bytes):
                totals.stopped = True
                continue
            try:
                self._retire(run, candidate, totals)
            except StoreDamaged as error:
                damage = error
            except QuotaExceeded:
                totals.stopped = True
        run.progress("compact", len(chosen), len(chosen))
        if damage is not None:
            raise damage

    def _retire(self, run: _Run, candidate: _Candidate, totals: _Totals) -> None:
        for _ in range(MAX_REMARKS):
            retired = self._store.retire(candidate.pack, run.keeps, run.must_stop)
            totals.add(retired)
            if retired.complete:
                return
            run.mark()
        totals.stopped = True

    def _has_room(self, size: int) -> bool:
        stats = self._store.stats()
        return stats.max_bytes is None or stats.bytes_used + size <= stats.max_bytes


def _quiet(_what: str, _done: int, _total: int) -> None:
    """Progress that nobody wants to know."""


def _report(run: _Run, totals: _Totals, seconds: float, dry_run: bool) -> GcReport:
    return GcReport(
        marked=run.marks.blocks,
        dead_blocks=totals.dead_blocks,
        dead_bytes=totals.dead_bytes,
        packs_rewritten=totals.packs_rewritten,
        packs_removed=totals.packs_removed,
        bytes_freed=totals.bytes_freed,
        bytes_rewritten=totals.bytes_rewritten,
        longest_hold_ms=totals.longest_hold_ms,
        seconds=seconds,
        stopped=totals.stopped,
        missing=tuple(run.marked.missing),
        hidden_links=run.marked.hidden,
        dry_run=dry_run,
    )
