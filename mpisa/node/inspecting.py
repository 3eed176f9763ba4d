"""Looking at a running node: all its blocks hashed again, and the facts that a diagnosis is made of.

One verification at a time, in a thread of its own, beside everything else that goes on; stopping the node ends it.
"""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mpisa.node.car_upload import is_whole
from mpisa.node.diagnosis import Facts
from mpisa.node.status import reasons_not_ready
from mpisa.primitives.errors import MpisaError, NotReady
from storage.pins import PinKind

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from mpisa.node.runtime import Runtime, Setup
    from mpisa.primitives.cid import Cid
    from storage.blockstore import BlockStore, VerifyReport
    from storage.pins import PinStore

PINS_S: Final = 5.0
"""How long a diagnosis looks through pins."""


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether one runs, how many bytes are done of about how many, and the report of the last one since the start."""

    running: bool
    done: int
    total: int
    last: VerifyReport | None


class Inspecting:
    """See the module. Belongs to the loop."""

    def __init__(self, store: BlockStore, pins: PinStore, executor: Executor) -> None:
        self._store = store
        self._pins = pins
        self._executor = executor
        self._closing = threading.Event()
        self._running = False
        self._done = 0
        self._total = 0
        self._last: VerifyReport | None = None

    @property
    def state(self) -> Verification:
        """What goes on now."""
        return Verification(self._running, self._done, self._total, self._last)

    async def verify(self) -> VerifyReport:
        """Hash every block again. Raises NotReady while another verification runs, or when the node stops."""
        if self._running:
            raise NotReady("a verification is running already", hint="wait for it")
        self._running, self._done = True, 0
        self._total = self._store.stats().bytes_used
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._executor, self._store.verify, self._progress)
        finally:
            self._running = False
        self._last = found
        return found

    def _progress(self, done: int) -> None:
        self._done = done
        if self._closing.is_set():
            raise NotReady("the node is stopping", hint="verify again later")

    async def pins(self) -> tuple[int, int, tuple[Cid, ...]]:
        """Recursive pins, how many of them were looked through within PINS_S, and those that lack blocks."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._look)

    def _look(self) -> tuple[int, int, tuple[Cid, ...]]:
        roots = list(dict.fromkeys(pin.cid for pin in self._pins.list() if pin.kind is PinKind.RECURSIVE))
        until = time.monotonic() + PINS_S
        incomplete: list[Cid] = []
        for place, root in enumerate(roots):
            if time.monotonic() > until or self._closing.is_set():
                return len(roots), place, tuple(incomplete)
            try:
                whole = is_whole(self._store, root)
            except MpisaError:
                whole = False  # damaged or malformed: not whole either
            if not whole:
                incomplete.append(root)
        return len(roots), len(roots), tuple(incomplete)

    def close(self) -> None:
        """End what runs."""
        self._closing.set()


async def facts_of(runtime: Runtime, setup: Setup) -> Facts:
    """What a diagnosis of a running node goes by."""
    pins, checked, incomplete = (0, 0, ()) if runtime.inspecting.state.running else await runtime.inspecting.pins()
    disk, stats, last = shutil.disk_usage(setup.home.path), runtime.blocks.stats(), runtime.inspecting.state.last
    return Facts(
        home=str(setup.home.path),
        halted=runtime.reactions.halt_reason,
        not_ready=tuple(reasons_not_ready(runtime)),
        disk_error=runtime.reactions.disk_error,
        disk_free=disk.free,
        disk_total=disk.total,
        store_used=stats.bytes_used,
        store_max=stats.max_bytes,
        open_files=_open_files(),
        max_files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        connected=len(runtime.network.peers()),
        expected_peers=len(setup.config.peer.peers) + len(runtime.store.epoch(runtime.helm.epoch).validators) - 1,
        reprovide_lag=runtime.network.snapshot().reprovide_lag_seconds,
        reprovide_interval=setup.config.peer.reprovide_interval_ms / 1000,
        damaged=None if last is None else last.damaged,
        first_damage=f"{last.damages[0].file}: {last.damages[0].reason}" if last and last.damages else "",
        pins=pins,
        pins_checked=checked,
        incomplete=incomplete,
    )


def _open_files() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted, not looked at
    except OSError:
        return 0
