"""Gossip over the libp2p host: sizes are refused before publishing, what arrives is drained at once into bounded
queues.
"""

from __future__ import annotations

import asyncio

from mpisa.network.libp2p_host.host import Libp2pHost
from mpisa.network.ports import GossipMessage, GossipSubscription, NetworkLimits, NetworkStats, PeerId
from mpisa.network.subscriptions import SubscriptionTable
from mpisa.primitives.errors import Rejection, RejectionReason, Unreachable

MAX_TOPIC_TEXT = 100


class Libp2pGossip:
    """Gossip; subscriptions made before the host runs are joined when it does."""

    def __init__(self, host: Libp2pHost, limits: NetworkLimits, stats: NetworkStats) -> None:
        self._host = host
        self._limits = limits
        self._stats = stats
        self._table = SubscriptionTable(limits.gossip_queue, stats, self._leave_soon)
        self._leaving: set[asyncio.Task[None]] = set()
        self._running = False

    async def start(self) -> None:
        self._running = True
        for topic in self._table.topics():
            await self._host.join(topic)

    async def stop(self) -> None:
        self._running = False
        await self._table.close()
        await asyncio.gather(*self._leaving, return_exceptions=True)

    async def publish(self, topic: str, data: bytes) -> None:
        validate_message(data, self._limits, self._stats)
        await self._host.publish(topic, data)
        self._stats.gossip_published += 1

    async def subscribe(self, topic: str) -> GossipSubscription:
        assert 0 < len(topic) <= MAX_TOPIC_TEXT
        subscription = self._table.open(topic)
        if self._running:
            await self._host.join(topic)
        return subscription

    def deliver(self, topic: str, peer: PeerId, data: bytes) -> None:
        self._table.deliver(GossipMessage(peer, topic, data))

    def _leave_soon(self, topic: str) -> None:
        if self._running:
            task = asyncio.create_task(self._leave(topic))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def _leave(self, topic: str) -> None:
        if topic in self._table.topics():
            return
        try:
            await self._host.leave(topic)
        except Unreachable:
            return  # the host has ended
        if topic in self._table.topics():
            await self._host.join(topic)


def validate_message(data: bytes, limits: NetworkLimits, stats: NetworkStats) -> None:
    """Raises Rejection(TOO_LARGE): the library would drop it without a word."""
    if len(data) > limits.max_gossip_bytes:
        stats.gossip_refused_size += 1
        raise Rejection(
            RejectionReason.TOO_LARGE,
            f"announcement, expected at most {limits.max_gossip_bytes} bytes, got {len(data)}",
        )
