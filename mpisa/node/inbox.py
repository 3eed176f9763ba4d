"""The one queue in front of the engine: what peers send waits within a bound, what the node itself knows goes first.

Own events are bounded by construction: one timer an epoch and kind, one mark each for a waiting payload and for peers
that are epochs ahead, and one answer a request in flight.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from consensus.events import EpochAhead, PayloadWaiting, TimerFired

if TYPE_CHECKING:
    from consensus.events import Event, TimerKind
    from mpisa.primitives.identifiers import Epoch

INBOX_EVENTS = 1_024


class Inbox:
    """See the module. Many writers in one loop, one reader."""

    def __init__(self, bound: int = INBOX_EVENTS) -> None:
        self._bound = bound
        self._peers: deque[Event] = deque()
        self._own: deque[Event] = deque()
        self._timers: dict[tuple[Epoch, TimerKind], None] = {}
        self._payload_waiting = False
        self._is_epoch_ahead = False
        self._filled = asyncio.Event()
        self._space = asyncio.Event()

    def __len__(self) -> int:
        marks = self._payload_waiting + self._is_epoch_ahead
        return len(self._peers) + len(self._own) + len(self._timers) + marks

    async def offer(self, event: Event) -> None:
        """Queues what a peer sent; waits while the bound is reached, and so does that peer."""
        while len(self._peers) >= self._bound:
            self._space.clear()
            await self._space.wait()
        self._peers.append(event)
        self._filled.set()

    def post(self, event: Event) -> None:
        """Queues an event of our own."""
        self._own.append(event)
        self._filled.set()

    def post_timer(self, epoch: Epoch, kind: TimerKind) -> None:
        """A timer is due; twice before it is read is once."""
        self._timers[epoch, kind] = None
        self._filled.set()

    def post_payload_waiting(self) -> None:
        """The pool became non-empty; twice before it is read is once."""
        self._payload_waiting = True
        self._filled.set()

    def post_epoch_ahead(self) -> None:
        """Somebody speaks of an epoch that isn't open here; twice before it is read is once."""
        self._is_epoch_ahead = True
        self._filled.set()

    async def take(self) -> Event:
        """The next event: our own first, then timers, then peers'."""
        while not len(self):
            self._filled.clear()
            await self._filled.wait()
        if self._own:
            return self._own.popleft()
        if self._payload_waiting:
            self._payload_waiting = False
            return PayloadWaiting()
        if self._timers:
            epoch, kind = next(iter(self._timers))
            del self._timers[epoch, kind]
            return TimerFired(kind, epoch)
        if self._is_epoch_ahead:
            self._is_epoch_ahead = False
            return EpochAhead()
        event = self._peers.popleft()
        self._space.set()
        return event
