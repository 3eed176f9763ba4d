"""The node's events for many listeners: one subscription, a short memory, a bounded queue a listener.

Memory makes Last-Event-ID work over a short break: what is still remembered is sent again, what isn't is named by one
event of kind gap. A listener too slow for its queue loses its oldest events and is told how many by a gap as well.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from mpisa.node.events import GroupQueue
from mpisa.primitives.errors import NotReady
from mpisa.sdk.models import Event

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpisa.node.events import EventGroup
    from mpisa.node.facade import Events, Subscription
    from mpisa.node.views import Event as NodeEvent

REMEMBERED_EVENTS: Final = 1_024
MAX_QUEUED_EVENTS: Final = 512
MAX_LISTENERS: Final = 64


class Listener:
    """One client's queue."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._queue: deque[Event] = deque()
        self._lost = 0
        self._wake = asyncio.Event()
        self.ended = False

    def deliver(self, event: Event) -> None:
        """Queue an event; the oldest makes room."""
        if len(self._queue) >= self._bound:
            self._queue.popleft()
            self._lost += 1
        self._queue.append(event)
        self._wake.set()

    def end(self) -> None:
        """No more events will come."""
        self.ended = True
        self._wake.set()

    def take(self) -> list[Event]:
        """What is queued now, a gap first where some were lost."""
        taken = list(self._queue)
        self._queue.clear()
        self._wake.clear()
        if self._lost:
            taken.insert(0, Event(id=taken[0].id - 1, kind="gap", data={"lost": self._lost}))
            self._lost = 0
        return taken

    async def wait(self, timeout_s: float) -> bool:
        """Whether something came, or the feed ended, within the time."""
        if self._queue or self.ended:
            return True
        try:
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True


class EventFeed:
    """Reads the node's events once and hands them to every listener."""

    def __init__(
        self,
        events: Events,
        *,
        remembered: int = REMEMBERED_EVENTS,
        queued: int = MAX_QUEUED_EVENTS,
        listeners: int = MAX_LISTENERS,
    ) -> None:
        self._events = events
        self._memory = GroupQueue(remembered)
        self._queued = queued
        self._limit = listeners
        self._listeners: list[Listener] = []
        self._task: asyncio.Task[None] | None = None
        self._ended = False

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    def start(self) -> None:
        """Subscribe and begin to read."""
        self._task = asyncio.create_task(self._read(self._events.subscribe()), name="api-events")

    async def stop(self) -> None:
        """End every listener and the reading."""
        self._ended = True
        for listener in self._listeners:
            listener.end()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _read(self, stream: Subscription) -> None:
        try:
            while (group := await stream.take()) is not None:
                self.publish(group)
        finally:
            await stream.aclose()
        for listener in self._listeners:
            listener.end()

    def publish(self, group: EventGroup) -> None:
        """Remember events and hand them to every listener."""
        self._memory.push(group)
        for event in _told(group.events()) if self._listeners else ():
            for listener in self._listeners:
                listener.deliver(event)

    def listen(self, last_event_id: int | None) -> Listener:
        """Join, from `last_event_id` on as far as it is remembered. Raises NotReady above the limit."""
        if len(self._listeners) >= self._limit:
            raise NotReady(f"{self._limit} clients listen for events already", hint="close one, then try again")
        listener = Listener(self._queued)
        if last_event_id is not None:
            for event in self._missed(last_event_id):
                listener.deliver(event)
        if self._ended:
            listener.end()
        self._listeners.append(listener)
        return listener

    def forget(self, listener: Listener) -> None:
        """Leave."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def _missed(self, last: int) -> list[Event]:
        if not self._memory:
            return []
        memory = _told(self._memory.events())
        newest, oldest = memory[-1].id, memory[0].id
        if last > newest:
            return [Event(id=newest, kind="gap", data={"reason": "the node counts events anew since it started"})]
        missed = [event for event in memory if event.id > last]
        if last < oldest - 1:
            missed.insert(0, Event(id=oldest - 1, kind="gap", data={"lost": oldest - 1 - last}))
        return missed


def _told(events: Sequence[NodeEvent]) -> list[Event]:
    return [Event(id=event.id, kind=event.kind.value, data=event.data) for event in events]
