"""What happens in a node, told to whoever listens.

Each subscriber has its own queue of a named bound. Publishing never waits: a subscriber that is too slow loses its
oldest events and sees one event of kind gap with the number lost, so it knows to read the state again. Event ids rise
by one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from mpisa.node.views import Event, EventKind
from mpisa.primitives.errors import NotReady

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_SUBSCRIBERS = 256


class Subscription:
    """One subscriber's events, for `async for`. Ends when closed or when the hub closes."""

    def __init__(self, hub: EventHub, bound: int) -> None:
        self._hub = hub
        self._bound = bound
        self._events: deque[Event] = deque()
        self._lost = 0
        self._wake = asyncio.Event()
        self._closed = False

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            if self._closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        if self._lost:
            lost, self._lost = self._lost, 0
            return Event(self._events[0].id - 1, EventKind.GAP, {"lost": lost})
        return self._events.popleft()

    async def aclose(self) -> None:
        """Leaves the hub; what is queued can still be read."""
        self._hub.forget(self)
        self.end()

    async def take(self) -> list[Event]:
        """Everything that is queued, at least one event; none at the end."""
        while not self._events and not self._closed:
            self._wake.clear()
            await self._wake.wait()
        taken = list(self._events)
        self._events.clear()
        if self._lost:
            lost, self._lost = self._lost, 0
            taken.insert(0, Event(taken[0].id - 1, EventKind.GAP, {"lost": lost}))
        return taken

    def deliver(self, events: Sequence[Event]) -> None:
        """Queues events; the oldest make room."""
        self._events.extend(events)
        while len(self._events) > self._bound:
            self._events.popleft()
            self._lost += 1
        self._wake.set()

    def end(self) -> None:
        """No more events will come."""
        self._closed = True
        self._wake.set()


class EventHub:
    """Hands each event to every subscriber."""

    def __init__(self, queue_bound: int = 1024, first_id: int = 1) -> None:
        self._queue_bound = queue_bound
        self._next_id = first_id
        self._subscriptions: list[Subscription] = []
        self._closed = False

    def publish(self, kind: EventKind, data: Mapping[str, object]) -> None:
        """Never blocks and never raises."""
        self.publish_all(kind, (dict(data),))

    def publish_all(self, kind: EventKind, items: Sequence[dict[str, object]]) -> None:
        """Several of one kind; what each says is the hub's from now on."""
        first = self._next_id
        self._next_id += len(items)
        if self._subscriptions:
            events = [Event(first + at, kind, data) for at, data in enumerate(items)]
            for subscription in self._subscriptions:
                subscription.deliver(events)

    def subscribe(self) -> Subscription:
        """Events from now on. Raises NotReady above MAX_SUBSCRIBERS."""
        if len(self._subscriptions) >= MAX_SUBSCRIBERS:
            raise NotReady(f"{MAX_SUBSCRIBERS} subscribers listen already", hint="close one, then try again")
        subscription = Subscription(self, self._queue_bound)
        if self._closed:
            subscription.end()
        else:
            self._subscriptions.append(subscription)
        return subscription

    def forget(self, subscription: Subscription) -> None:
        """Stops delivering to this subscriber."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)

    def close(self) -> None:
        """Ends every subscription."""
        self._closed = True
        for subscription in self._subscriptions:
            subscription.end()
        self._subscriptions.clear()
