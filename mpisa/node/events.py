"""What happens in a node, told to whoever listens.

Each subscriber has its own queue of a named bound. Publishing never waits: a subscriber that is too slow loses its
oldest events and sees one event of kind gap with the number lost, so it knows to read the state again. Event ids rise
by one. A chain block's transactions are told as one group, whose events are made when somebody reads them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mpisa.node.views import Event, EventKind
from mpisa.primitives.errors import NotReady

MAX_SUBSCRIBERS = 256

Describe = Callable[[int, Any], dict[str, object]]
"""What the event about an item says, given its place among the items and the item."""


@dataclass(frozen=True, slots=True)
class EventGroup:
    """Events of one kind with ids that follow each other; the first `skipped` items' are left out."""

    first_id: int
    kind: EventKind
    items: Sequence[object]
    describe: Describe
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.items) - self.skipped

    def events(self) -> list[Event]:
        """All of them."""
        return [
            Event(self.first_id + place, self.kind, self.describe(place, self.items[place]))
            for place in range(self.skipped, len(self.items))
        ]

    def without(self, count: int) -> EventGroup:
        """The same but for its first ones."""
        return replace(self, skipped=self.skipped + count)


class GroupQueue:
    """Groups in order, of at most `bound` events in all: the oldest make room."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._groups: deque[EventGroup] = deque()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def next_id(self) -> int:
        """Of the oldest event here."""
        first = self._groups[0]
        return first.first_id + first.skipped

    def push(self, group: EventGroup) -> int:
        """Adds a group; how many events made room for it."""
        self._groups.append(group)
        self._size += len(group)
        excess = over = max(0, self._size - self._bound)
        while excess:
            oldest = self._groups.popleft()
            if len(oldest) > excess:
                self._groups.appendleft(oldest.without(excess))
            gone = min(len(oldest), excess)
            excess -= gone
            self._size -= gone
        return over

    def events(self) -> list[Event]:
        """All of them."""
        return [event for group in self._groups for event in group.events()]

    def pop(self) -> EventGroup:
        """Removes the oldest group."""
        group = self._groups.popleft()
        self._size -= len(group)
        return group


class Subscription:
    """One subscriber's events, for `async for`. Ends when closed or when the hub closes."""

    def __init__(self, hub: EventHub, bound: int) -> None:
        self._hub = hub
        self._queue = GroupQueue(bound)
        self._next: deque[Event] = deque()
        self._lost = 0
        self._wake = asyncio.Event()
        self._closed = False

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Event:
        while not self._next:
            group = await self.take()
            if group is None:
                raise StopAsyncIteration
            self._next.extend(group.events())
        return self._next.popleft()

    async def aclose(self) -> None:
        """Leaves the hub; what is queued can still be read."""
        self._hub.forget(self)
        self.end()

    async def take(self) -> EventGroup | None:
        """The oldest group that is queued; None at the end."""
        while not self._queue:
            if self._closed:
                return None
            self._wake.clear()
            await self._wake.wait()
        if self._lost:
            lost, self._lost = self._lost, 0
            return single(self._queue.next_id - 1, EventKind.GAP, {"lost": lost})
        return self._queue.pop()

    def deliver(self, group: EventGroup) -> None:
        """Queues a group; the oldest events make room."""
        self._lost += self._queue.push(group)
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
        self._deliver(single(self._next_id, kind, dict(data)))

    def publish_all(self, kind: EventKind, items: Sequence[object], describe: Describe) -> None:
        """Several of one kind; neither items nor what describes them may change from now on."""
        if items:
            self._deliver(EventGroup(self._next_id, kind, items, describe))

    def _deliver(self, group: EventGroup) -> None:
        self._next_id += len(group)
        for subscription in self._subscriptions:
            subscription.deliver(group)

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


def single(number: int, kind: EventKind, data: dict[str, object]) -> EventGroup:
    """A group of one event."""
    return EventGroup(number, kind, (data,), _as_it_is)


def _as_it_is(_place: int, data: dict[str, object]) -> dict[str, object]:
    return data
