"""How old the newest certified chain block was when its certificate came to be here: the lag of a node, in time.

For a validator that is the time it takes to order, execute and certify. A full node's figure holds the same and then
how long the block took to be fetched, checked and executed here: the difference is how far it follows behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Freshness:
    """See the module. Belongs to the loop."""

    def __init__(self, time_of: Callable[[int], int], now_ms: Callable[[], int]) -> None:
        """`time_of` a height is its chain block's time, in ms as `now_ms`."""
        self._time_of = time_of
        self._now_ms = now_ms
        self._height = 0
        self._at_ms = 0

    def certified(self, height: int) -> None:
        """A certificate of this height came to be here."""
        if height > self._height:
            self._height, self._at_ms = height, self._now_ms()

    @property
    def age_ms(self) -> int:
        """See the module; 0 before the first certificate since the start, and where clocks say less than nothing."""
        return max(0, self._at_ms - self._time_of(self._height)) if self._height else 0
