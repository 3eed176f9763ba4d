"""The only place of the node that reads time. Everything else takes a `Clock`, so that a test can hold it still."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Wall time for what the chain records, monotonic time for measuring."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch; never goes backwards within one process."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start."""
        ...


class SystemClock:
    """The machine's clock. A step backwards is held until the wall clock has caught up: rules may rely on order."""

    def __init__(self) -> None:
        self._last_ms = 0

    def now_ms(self) -> int:
        self._last_ms = max(self._last_ms, time.time_ns() // 1_000_000)
        return self._last_ms

    def monotonic(self) -> float:
        return time.monotonic()
