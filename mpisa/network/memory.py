"""The in-memory twin of the network: many nodes in one loop, no sockets, no threads, the same Protocols and bounds.

`MemoryHub` is the wire: it knows who runs, who is cut from whom, and who provides what. Frames are delivered by one
task a receiver, in the order sent; a node that was stopped, or whose link was `cut`, is unreachable. Non-goals: delays
and reordering (the consensus simulator has a clock of its own).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from mpisa.network.exchange import BatchAnswer, BlockExchange
from mpisa.network.gate import DelayLine, Gate
from mpisa.network.gossip import validate_message
from mpisa.network.ports import (
    BlockSource,
    FrameHandler,
    GossipMessage,
    GossipSubscription,
    LinkRule,
    NetworkConfig,
    NetworkLimits,
    NetworkStats,
    PeerAddress,
    PeerId,
    PeerInfo,
    PeerObserver,
    RequestHandler,
)
from mpisa.network.subscriptions import SubscriptionTable
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import NotFound, Rejection, RejectionReason, TimedOut, Unreachable


class MemoryHub:
    """The wire between the nodes that were made with it."""

    def __init__(self) -> None:
        self._running: dict[PeerId, MemoryNetwork] = {}
        self._cuts: set[frozenset[PeerId]] = set()
        self.providers: dict[bytes, list[PeerId]] = {}

    def join(self, node: MemoryNetwork) -> None:
        self._running[node.peer_id] = node
        self._tell(node, True)

    def leave(self, node: MemoryNetwork) -> None:
        if self._running.pop(node.peer_id, None) is not None:
            self._tell(node, False)

    def cut(self, one: PeerId, other: PeerId) -> None:
        self._cuts.add(frozenset((one, other)))

    def heal(self, one: PeerId, other: PeerId) -> None:
        self._cuts.discard(frozenset((one, other)))
        self.came_up(one, other)

    def came_up(self, one: PeerId, other: PeerId) -> None:
        """Tells both ends of a link that is up again."""
        for near, far in ((one, other), (other, one)):
            node = self._running.get(near)
            if node is not None and far in node.authorities.linked():
                node.authorities.tell_up(far)

    def reach(self, one: PeerId, other: PeerId) -> MemoryNetwork:
        """The other node. Raises Unreachable."""
        node = self._running.get(other)
        if node is None or one not in self._running or self._is_cut(one, other):
            raise Unreachable(f"{other} isn't reachable")
        return node

    def reachable(self, one: PeerId) -> list[MemoryNetwork]:
        """All nodes of the same chain that can be reached, in the order of their peer ids."""
        own = self._running.get(one)
        return [
            node
            for peer, node in sorted(self._running.items())
            if own is not None and peer != one and not self._is_cut(one, peer) and node.chain_hash == own.chain_hash
        ]

    def _is_cut(self, one: PeerId, other: PeerId) -> bool:
        if frozenset((one, other)) in self._cuts:
            return True
        return any(
            node is not None and node.gate.is_cut(peer)
            for node, peer in ((self._running.get(one), other), (self._running.get(other), one))
        )

    def _tell(self, node: MemoryNetwork, connected: bool) -> None:
        for other in list(self._running.values()):
            if other is not node and other.chain_hash == node.chain_hash:
                other.observe(node, connected)
                if connected:
                    node.observe(other, True)


class MemoryNetwork:
    """Network within one process. `config.identity_seed` gives the peer id."""

    def __init__(self, hub: MemoryHub, config: NetworkConfig, source: BlockSource) -> None:
        from mpisa.network.peer_id import HostKey

        self._hub = hub
        self._config = config
        self._peer_id = HostKey(config.identity_seed).peer_id
        self._observer: PeerObserver | None = None
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="memory-network")
        self.chain_hash = config.chain_hash
        self.source = source
        self.stats = NetworkStats()
        limits = config.limits
        self.gate = Gate()
        self.authorities = MemoryLinks(hub, self._peer_id, limits, self.stats, self.gate)
        self.exchange = BlockExchange(_MemoryBlocks(hub, self._peer_id), self._executor, limits, self.stats)
        self.gossip = MemoryGossip(hub, self._peer_id, limits, self.stats)
        self.discovery = MemoryDiscovery(hub, self._peer_id, self.stats)

    @property
    def peer_id(self) -> PeerId:
        return self._peer_id

    @property
    def address(self) -> PeerAddress:
        return PeerAddress(self._peer_id, (f"/memory/{self._peer_id}",), f"https://{_short(self._peer_id)}.memory:443")

    async def start(self) -> None:
        self._hub.join(self)
        self.authorities.start()

    async def stop(self) -> None:
        self._hub.leave(self)
        await self.authorities.stop()
        await self.gossip.close()
        self._executor.shutdown(wait=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    def set_peer_observer(self, observer: PeerObserver) -> None:
        self._observer = observer

    def link_rules(self) -> Mapping[PeerId, LinkRule]:
        return self.gate.rules

    async def set_link_rules(self, rules: Mapping[PeerId, LinkRule]) -> None:
        _, healed = self.gate.set(rules)
        for peer in healed:
            self._hub.came_up(self._peer_id, peer)

    def observe(self, other: MemoryNetwork, connected: bool) -> None:
        if self._observer is not None:
            self._observer(self._info(other, connected))

    def peers(self) -> list[PeerInfo]:
        return [self._info(node, True) for node in self._hub.reachable(self._peer_id)]

    async def connect(self, address: PeerAddress) -> PeerInfo:
        node = self._hub.reach(self._peer_id, address.peer_id)
        if node.chain_hash != self.chain_hash:
            self.stats.peers_wrong_chain += 1
            raise Rejection(RejectionReason.WRONG_CHAIN, f"{address.peer_id} belongs to another chain")
        return self._info(node, True)

    async def provide(self, cid: Cid) -> None:
        await self.discovery.provide(cid)

    async def find_providers(self, cid: Cid, *, limit: int = 8, timeout: float = 10.0) -> list[PeerAddress]:
        return await self.discovery.find_providers(cid, limit=limit, timeout=timeout)

    async def publish(self, topic: str, data: bytes) -> None:
        await self.gossip.publish(topic, data)

    async def subscribe(self, topic: str) -> GossipSubscription:
        return await self.gossip.subscribe(topic)

    def snapshot(self) -> NetworkStats:
        return self.stats

    def failure(self) -> str | None:
        return None

    def _info(self, other: MemoryNetwork, connected: bool) -> PeerInfo:
        link = "tls" if other.peer_id in self.authorities.linked() else None
        return PeerInfo(other.peer_id, other.address, connected, other._config.version, link)


class MemoryGossip:
    """Gossip: each message reaches every subscriber that can be reached, once."""

    def __init__(self, hub: MemoryHub, own: PeerId, limits: NetworkLimits, stats: NetworkStats) -> None:
        self._hub = hub
        self._own = own
        self._limits = limits
        self._stats = stats
        self.table = SubscriptionTable(limits.gossip_queue, stats)

    async def publish(self, topic: str, data: bytes) -> None:
        validate_message(data, self._limits, self._stats)
        self._stats.gossip_published += 1
        for node in self._hub.reachable(self._own):
            if topic in node.gossip.table.topics():
                node.gossip.table.deliver(GossipMessage(self._own, topic, data))

    async def subscribe(self, topic: str) -> GossipSubscription:
        return self.table.open(topic)

    async def close(self) -> None:
        await self.table.close()


class MemoryDiscovery:
    """Discovery: one table in the hub, without expiry."""

    def __init__(self, hub: MemoryHub, own: PeerId, stats: NetworkStats) -> None:
        self._hub = hub
        self._own = own
        self._stats = stats

    async def provide(self, cid: Cid) -> None:
        providers = self._hub.providers.setdefault(cid.multihash, [])
        if self._own not in providers:
            providers.append(self._own)
        self._stats.provides += 1

    async def provide_many(self, cids: Iterable[Cid]) -> None:
        for cid in cids:
            await self.provide(cid)

    async def unprovide(self, cid: Cid) -> None:
        providers = self._hub.providers.get(cid.multihash, [])
        if self._own in providers:
            providers.remove(self._own)

    async def find_providers(self, cid: Cid, *, limit: int = 8, timeout: float = 10.0) -> list[PeerAddress]:
        self._stats.provider_lookups += 1
        claims = self._hub.providers.get(cid.multihash, ())
        return [node.address for node in self._hub.reachable(self._own) if node.peer_id in claims][:limit]


class MemoryLinks:
    """AuthorityLinks: a bounded queue of arrivals and one delivering task; a link is up when both named each other."""

    def __init__(self, hub: MemoryHub, own: PeerId, limits: NetworkLimits, stats: NetworkStats, gate: Gate) -> None:
        self._hub = hub
        self._own = own
        self._limits = limits
        self._stats = stats
        self._gate = gate
        self._lines: dict[PeerId, DelayLine] = {}
        self._handler: FrameHandler | None = None
        self._observer: Callable[[PeerId], None] | None = None
        self._handlers: dict[str, RequestHandler] = {}
        self._authorities: dict[PeerId, PeerAddress] = {}
        self._arrivals: deque[tuple[PeerId, bytes]] = deque()
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._deliver(), name="memory frames")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        for line in self._lines.values():
            line.clear()

    def set_handler(self, handler: FrameHandler) -> None:
        self._handler = handler

    def set_authorities(self, addresses: Iterable[PeerAddress]) -> None:
        self._authorities = {address.peer_id: address for address in addresses if address.peer_id != self._own}

    def set_link_observer(self, observer: Callable[[PeerId], None]) -> None:
        self._observer = observer

    def tell_up(self, peer: PeerId) -> None:
        if self._observer is not None:
            self._observer(peer)

    def linked(self) -> frozenset[PeerId]:
        up = (node for node in self._hub.reachable(self._own) if self._own in node.authorities._authorities)
        return frozenset(node.peer_id for node in up if node.peer_id in self._authorities)

    async def send(self, peer: PeerId, frame: bytes) -> bool:
        if len(frame) > self._limits.max_frame_bytes:
            limit = self._limits.max_frame_bytes
            raise Rejection(RejectionReason.TOO_LARGE, f"frame, expected at most {limit} bytes, got {len(frame)}")
        if peer not in self.linked():
            self._stats.frames_dropped += 1
            return False
        line = self._lines.get(peer)
        if line is None:
            line = DelayLine(self._gate, peer, self._limits, self._stats, lambda held: self._send_now(peer, held))
            self._lines[peer] = line
        if not line.takes(frame):
            self._send_now(peer, frame)
        return True

    def _send_now(self, peer: PeerId, frame: bytes) -> None:
        try:
            other = self._hub.reach(self._own, peer)
        except Unreachable:
            self._stats.frames_dropped += 1
            return
        other.authorities._arrive(self._own, frame)
        self._stats.frames_sent += 1
        self._stats.frame_bytes_sent += len(frame)

    async def broadcast(self, frame: bytes) -> int:
        return sum([await self.send(peer, frame) for peer in sorted(self._authorities)])

    def set_request_handler(self, kind: str, handler: RequestHandler) -> None:
        self._handlers[kind] = handler

    async def request(self, peer: PeerId, kind: str, body: bytes, *, timeout: float = 5.0) -> bytes:
        if len(body) > self._limits.max_request_bytes:
            raise Rejection(RejectionReason.TOO_LARGE, f"request, at most {self._limits.max_request_bytes} bytes")
        self._stats.requests_sent += 1
        other = self._hub.reach(self._own, peer).authorities
        handler = other._handlers.get(kind)
        if handler is None:
            raise NotFound(f"no requests of kind {kind!r} are answered at {peer}")
        try:
            async with asyncio.timeout(timeout), self._gate.passage(peer, timeout):
                answer = await handler(self._own, body)
                await other._gate.hold_answer(self._own)
        except TimeoutError as error:
            raise TimedOut(f"{peer} didn't answer within {timeout} s") from error
        except Exception as error:
            if self._hub.reach(self._own, peer).authorities is not other:
                raise Unreachable(f"{peer} stopped before it answered") from error
            raise
        other._stats.requests_served += 1
        return answer

    def _arrive(self, sender: PeerId, frame: bytes) -> None:
        if len(self._arrivals) >= self._limits.authority_queue_frames:
            self._arrivals.popleft()
            self._stats.frames_dropped += 1
        self._arrivals.append((sender, frame))
        self._ready.set()

    async def _deliver(self) -> None:
        while True:
            await self._ready.wait()
            self._ready.clear()
            while self._arrivals:
                sender, frame = self._arrivals.popleft()
                self._stats.frames_received += 1
                self._stats.frame_bytes_received += len(frame)
                if self._handler is None:
                    continue
                try:
                    await self._handler(sender, frame)
                except Rejection:
                    self._stats.peers_disconnected_garbage += 1


class _MemoryBlocks:
    """BlockTransport through the hub."""

    def __init__(self, hub: MemoryHub, own: PeerId) -> None:
        self._hub = hub
        self._own = own

    async def get_block(self, provider: PeerAddress, cid: Cid, *, timeout: float) -> bytes:
        await asyncio.sleep(0)
        data = self._hub.reach(self._own, provider.peer_id).source.get(cid)
        if data is None:
            raise NotFound(f"block {cid} isn't at {provider.peer_id}")
        return data

    async def get_blocks(self, provider: PeerAddress, cids: Sequence[Cid], *, timeout: float) -> BatchAnswer:
        await asyncio.sleep(0)
        source = self._hub.reach(self._own, provider.peer_id).source
        return BatchAnswer(tuple(source.get(cid) for cid in cids))


def _short(peer: PeerId) -> str:
    return hashlib.sha256(peer.encode()).hexdigest()[:16]
