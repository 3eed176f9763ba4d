"""A heap whose entries may die unseen: what the pool needs to find the best, the worst and the next to expire.

Removing from the middle of a heap is slow, so dead entries stay until they come to the top, or until they outnumber
the living: then all of them are thrown out at once, and of one name's entries all but the first. So it never holds much
more than what lives.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Generic, TypeVar

SLACK = 256
"""Entries held before dead ones are looked for."""

Order = TypeVar("Order", int, tuple[int, int])


class LazyHeap(Generic[Order]):
    """Names in ascending order, for as long as `is_live(order, name)` holds."""

    def __init__(self, is_live: Callable[[Order, bytes], bool]) -> None:
        self._is_live: Callable[[Order, bytes], bool] = is_live
        self._entries: list[tuple[Order, bytes]] = []
        self._bound = SLACK

    def __len__(self) -> int:
        return len(self._entries)

    def push(self, order: Order, name: bytes) -> None:
        """Adds an entry; the same name may be there in several orders."""
        heapq.heappush(self._entries, (order, name))
        if len(self._entries) > self._bound:
            first: dict[bytes, Order] = {}
            for order_of, name_of in sorted(self._entries):
                if name_of not in first and self._is_live(order_of, name_of):
                    first[name_of] = order_of
            self._entries = [(order_of, name_of) for name_of, order_of in first.items()]
            self._bound = 2 * len(self._entries) + SLACK

    def first(self) -> tuple[Order, bytes] | None:
        """The lowest live entry, or None."""
        while self._entries:
            entry = self._entries[0]
            if self._is_live(*entry):
                return entry
            heapq.heappop(self._entries)
        return None

    def pop(self) -> None:
        """Removes the entry that `first` gave."""
        heapq.heappop(self._entries)
