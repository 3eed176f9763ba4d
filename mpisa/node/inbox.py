"""The one queue in front of the engine: what peers send waits within a bound, what the node itself knows goes first.

Own events are bounded by construction: one timer a kind, one mark for a waiting payload, and one answer a request in
flight.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from consensus.events import PayloadWaiting, TimerFired

if TYPE_CHECKING:
    from consensus.events import Event, TimerKind

INBOX_EVENTS = 1_024


class Inbox:
    """See the module. Many writers in one loop, one reader."""

    def __init__(self, bound: int = INBOX_EVENTS) -> None:
        self._bound = bound
        self._peers: deque[Event] = deque()
        self._own: deque[Event] = deque()
        self._timers: dict[TimerKind, None] = {}
        self._payload_waiting = False
        self._filled = asyncio.Event()
        self._space = asyncio.Event()

    def __len__(self) -> int:
        return len(self._peers) + len(self._own) + len(self._timers) + self._payload_waiting

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

    def post_timer(self, kind: TimerKind) -> None:
        """A timer is due; twice before it is read is once."""
        self._timers[kind] = None
        self._filled.set()

    def post_payload_waiting(self) -> None:
        """The pool became non-empty; twice before it is read is once."""
        self._payload_waiting = True
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
            kind = next(iter(self._timers))
            del self._timers[kind]
            return TimerFired(kind)
        event = self._peers.popleft()
        self._space.set()
        return event
