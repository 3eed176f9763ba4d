"""The receiving end of gossip: one bounded queue a subscriber, oldest message dropped first.

Gossip is a hint, so the newest announcement is worth more than the oldest; what was dropped is counted, and asked for
by other means.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from mpisa.network.ports import GossipMessage, NetworkStats


class QueueSubscription:
    """A GossipSubscription over a deque of at most `bound` messages."""

    def __init__(self, bound: int, stats: NetworkStats, on_close: Callable[[QueueSubscription], None]) -> None:
        self._messages: deque[GossipMessage] = deque()
        self._bound = bound
        self._stats = stats
        self._on_close = on_close
        self._wake = asyncio.Event()
        self._closed = False
        self.dropped = 0

    def deliver(self, message: GossipMessage) -> None:
        """Queues a message; drops the oldest when full."""
        if self._closed:
            return
        if len(self._messages) >= self._bound:
            self._messages.popleft()
            self.dropped += 1
            self._stats.gossip_dropped_queue += 1
        self._messages.append(message)
        self._wake.set()

    def __aiter__(self) -> QueueSubscription:
        return self

    async def __anext__(self) -> GossipMessage:
        while not self._messages:
            if self._closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return self._messages.popleft()

    def __len__(self) -> int:
        return len(self._messages)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._messages.clear()
            self._wake.set()
            self._on_close(self)


class SubscriptionTable:
    """All subscriptions of one node, by topic. `on_empty` hears of a topic that lost its last subscriber."""

    def __init__(self, bound: int, stats: NetworkStats, on_empty: Callable[[str], None] | None = None) -> None:
        self._bound = bound
        self._stats = stats
        self._on_empty = on_empty
        self._by_topic: dict[str, list[QueueSubscription]] = {}

    def topics(self) -> tuple[str, ...]:
        return tuple(self._by_topic)

    def open(self, topic: str) -> QueueSubscription:
        def forget(subscription: QueueSubscription) -> None:
            remaining = self._by_topic.get(topic, [])
            if subscription in remaining:
                remaining.remove(subscription)
            if not remaining and self._by_topic.pop(topic, None) is not None and self._on_empty is not None:
                self._on_empty(topic)

        subscription = QueueSubscription(self._bound, self._stats, forget)
        self._by_topic.setdefault(topic, []).append(subscription)
        return subscription

    def deliver(self, message: GossipMessage) -> None:
        for subscription in self._by_topic.get(message.topic, ()):
            subscription.deliver(message)
        self._stats.gossip_received += 1

    async def close(self) -> None:
        for subscriptions in list(self._by_topic.values()):
            for subscription in list(subscriptions):
                await subscription.close()
