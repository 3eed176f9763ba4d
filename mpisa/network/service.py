"""The real network: libp2p for who and where, the peer port for the bytes, under one start and stop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from mpisa.network import messages
from mpisa.network.authority import PeerAuthorityLinks
from mpisa.network.bitswap.service import Bitswap
from mpisa.network.exchange import BlockExchange
from mpisa.network.fallback import Libp2pFallback
from mpisa.network.gate import Gate
from mpisa.network.gossip import Libp2pGossip
from mpisa.network.libp2p_host.host import Libp2pHost
from mpisa.network.libp2p_host.options import HostOptions
from mpisa.network.messages import HELLO_PROTOCOL, REQUEST_PROTOCOL, Hello
from mpisa.network.peer_client import PeerClient
from mpisa.network.peer_id import HostKey
from mpisa.network.peer_server import PeerServer
from mpisa.network.peering import Peering
from mpisa.network.ports import (
    BlockSource,
    GossipSubscription,
    LinkRule,
    NetworkConfig,
    NetworkStats,
    PeerAddress,
    PeerId,
    PeerInfo,
    PeerObserver,
)
from mpisa.network.routing import Libp2pDiscovery
from mpisa.network.transports import RoutedTransport
from mpisa.primitives.cid import Cid

WORKER_THREADS = 2
"""They hash and read blocks: both let go of the interpreter's lock."""


class PeerNetwork:
    """Network, as `ports` states it. `source` serves our blocks to others."""

    def __init__(self, config: NetworkConfig, source: BlockSource) -> None:
        self._config = config
        limits = config.limits
        stats = self.stats = NetworkStats()
        self._key = HostKey(config.identity_seed)
        own = self._key.peer_id
        self._executor = ThreadPoolExecutor(WORKER_THREADS, thread_name_prefix="network")
        self._running = False
        self._address = PeerAddress(own)
        self._host = Libp2pHost()
        self._gate = Gate()
        self._client = PeerClient(self._key, limits, stats, self._gate)
        self._peering = Peering(own, config, self._host, stats, self._peer_arrived)
        self._server = PeerServer(self._key, source, self._executor, limits, stats, self._gate)
        self._fallback = Libp2pFallback(self._host, self._server.handlers, limits, stats, self._gate)
        links = PeerAuthorityLinks(own, self._client, self._server, self._peering.find, limits, stats, self._gate)
        links.fallback = self._fallback
        self._server.open_stream = links.accept
        self.authorities = links
        self.bitswap = Bitswap(self._host, source, self._executor, limits, stats, self._peering.reach, self._gate)
        self.exchange = BlockExchange(RoutedTransport(self._client, self.bitswap), self._executor, limits, stats)
        self.gossip = Libp2pGossip(self._host, limits, stats)
        self.discovery = Libp2pDiscovery(
            own, self._host, self._peering.find, self._peering.introduce, config.reprovide_interval, stats
        )

    @property
    def peer_id(self) -> PeerId:
        return self._key.peer_id

    @property
    def address(self) -> PeerAddress:
        return self._address

    async def start(self) -> None:
        """Opens both listeners. Raises OSError or NotReady; nothing is left running then."""
        self._running = True
        try:
            port = await self._server.start(self._config.host, self._config.peer_port)
            await self._client.start()
            events = _Events(self._peering, self.gossip, self.authorities, self._fallback, self.bitswap)
            await self._host.start(self._host_options(), events)
            await self._announce(port)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        if not self._running:
            return
        self._running = False
        await self.discovery.stop()
        await self._peering.stop()
        await self.authorities.stop()
        await self.gossip.stop()
        await self.bitswap.stop()
        await asyncio.gather(self._client.stop(), self._server.stop(), self._host.stop())
        self._executor.shutdown(wait=True, cancel_futures=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    def set_peer_observer(self, observer: PeerObserver) -> None:
        self._peering.observer = observer

    def link_rules(self) -> Mapping[PeerId, LinkRule]:
        return self._gate.rules

    async def set_link_rules(self, rules: Mapping[PeerId, LinkRule]) -> None:
        cut, healed = self._gate.set(rules)
        self.authorities.sever(cut)
        self._server.sever(cut)
        await self._host.refuse(self._gate.cut())
        if healed:
            self._peering.call_again()
        for peer in healed:
            self.authorities.wake(peer)

    def peers(self) -> list[PeerInfo]:
        carrier = self.authorities.carrier
        return [
            PeerInfo(info.peer_id, info.address, True, info.version, carrier(info.peer_id))
            for info in self._peering.peers()
        ]

    async def connect(self, address: PeerAddress) -> PeerInfo:
        return await self._peering.connect(address)

    async def provide(self, cid: Cid) -> None:
        await self.discovery.provide(cid)

    async def find_providers(self, cid: Cid, *, limit: int = 8, timeout: float = 10.0) -> list[PeerAddress]:
        return await self.discovery.find_providers(cid, limit=limit, timeout=timeout)

    async def publish(self, topic: str, data: bytes) -> None:
        await self.gossip.publish(topic, data)

    async def subscribe(self, topic: str) -> GossipSubscription:
        return await self.gossip.subscribe(topic)

    def snapshot(self) -> NetworkStats:
        """The counters, those of the libp2p thread among them."""
        counters = self._host.counters
        if counters is not None:
            self.stats.gossip_dropped_rate = counters.gossip_dropped_rate
            self.stats.gossip_oversized = counters.gossip_oversized
            self.stats.streams_refused = counters.streams_refused
            self.stats.bitswap_messages_refused = counters.bitswap_messages_refused
        return self.stats

    def failure(self) -> str | None:
        return self._host.failure if self._running else None

    def _peer_arrived(self, peer: PeerId) -> None:
        self.authorities.wake(peer)
        self.discovery.peers_changed()

    async def _announce(self, port: int) -> None:
        """Both ports are known: say hello to the world."""
        host = self._config.announce_host or self._config.host
        peer_port = messages.peer_port_of(host, port)
        addresses = self._host.addresses[: messages.MAX_ADDRESSES]
        self._address = PeerAddress(self.peer_id, addresses, messages.url_of(peer_port))
        self.authorities.start()
        await self.gossip.start()
        self.discovery.start()
        self._peering.start(Hello(self._config.chain_hash, self._config.version, addresses, peer_port))

    def _host_options(self) -> HostOptions:
        config = self._config
        return HostOptions(
            seed=config.identity_seed,
            host=config.host,
            port=config.libp2p_port,
            announce_host=config.announce_host,
            pre_shared_key=config.pre_shared_key,
            limits=config.limits,
            protocols=(
                (HELLO_PROTOCOL, messages.MAX_HELLO_BYTES),
                (REQUEST_PROTOCOL, config.limits.max_request_bytes + messages.REQUEST_OVERHEAD),
            ),
        )


class _Events:
    """HostEvents: hands what the libp2p host tells to whom it concerns."""

    def __init__(
        self,
        peering: Peering,
        gossip: Libp2pGossip,
        links: PeerAuthorityLinks,
        fallback: Libp2pFallback,
        bitswap: Bitswap,
    ) -> None:
        self.peer_connected = peering.peer_connected
        self._bitswap = bitswap
        self.bitswap = bitswap.receive
        self.gossip = gossip.deliver
        self.frames = links.receive
        self._peering = peering
        self._fallback = fallback

    def peer_disconnected(self, peer: PeerId) -> None:
        self._bitswap.peer_disconnected(peer)
        self._peering.peer_disconnected(peer)

    async def answer(self, peer: PeerId, protocol: str, question: bytes) -> bytes:
        if protocol == HELLO_PROTOCOL:
            return await self._peering.answer_hello(peer, question)
        return await self._fallback.answer(peer, question)
