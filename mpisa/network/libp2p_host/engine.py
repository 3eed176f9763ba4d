"""The trio side: builds the libp2p host with gossipsub and the Kademlia DHT, and performs what `host` asks for.

Everything here runs in the trio thread. Peers are named by text outside and by the library's ID inside. What happens
is told to `HostEvents`, in the asyncio loop. Background work is little: a gossip heartbeat a second, a routing
refresh each ten minutes; the library's own auto-dialling is off, for the asyncio side decides whom to connect to.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any

import trio
from libp2p.abc import INotifee
from libp2p.custom_types import TProtocol
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.peer.peerstore import PeerStoreError
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

from mpisa.network.libp2p_host import streams
from mpisa.network.libp2p_host.authority_libp2p import AUTHORITY_PROTOCOL, receive_frames
from mpisa.network.libp2p_host.bitswap_streams import BITSWAP_PROTOCOLS, BitswapStreams
from mpisa.network.libp2p_host.build import (
    build_gossip,
    build_host,
    build_pubsub,
    check_port_is_free,
    ip_kind,
    quiet_logs,
)
from mpisa.network.libp2p_host.options import HostCounters, HostEvents, HostOptions
from mpisa.network.libp2p_host.portal import Portal
from mpisa.network.limits import KeyedLimiter
from mpisa.network.ports import PeerId
from mpisa.primitives.errors import MpisaError, TimedOut, Unreachable

ADDRESS_SECONDS = 3600
MAX_PROVIDES_IN_WINDOW = 5000
"""Provider records one peer may store with us in the library's ten-second window."""

MAX_ANSWERS_AT_ONCE = 32
"""Exchanges one peer may have open with us."""

ANSWER_SECONDS = 30.0
CLOSE_SECONDS = 1.0
MAX_GOSSIP_SENDERS = 4096
CONNECT_FAILURES: tuple[type[Exception], ...] = (*streams.STREAM_FAILURES, ValueError)


class Engine(INotifee):
    """One running host. Coroutine methods are called through the portal."""

    def __init__(self, options: HostOptions, events: HostEvents, portal: Portal) -> None:
        self._options = options
        self._events = events
        self._portal = portal
        self.counters = HostCounters()
        self.addresses: tuple[str, ...] = ()
        self.refused: frozenset[PeerId] = frozenset()
        """Peers that must not be connected; the other thread replaces it whole."""
        self._rates = KeyedLimiter(options.limits.gossip_rate, options.limits.gossip_burst, MAX_GOSSIP_SENDERS)
        self._answering: Counter[PeerId] = Counter()
        self._connected: set[PeerId] = set()
        self._bitswap = BitswapStreams(portal, events, options.limits, self.counters)
        self._drains: dict[str, trio.CancelScope] = {}
        self._nursery: trio.Nursery | None = None
        quiet_logs()
        self._host: Any = build_host(options)
        self._network: Any = self._host.get_network()
        self._gossip: Any = build_gossip()
        self._pubsub: Any = build_pubsub(self._host, self._gossip, options.limits.max_gossip_bytes)
        self._dht: Any = KadDHT(self._host, DHTMode.SERVER, enable_random_walk=False, enable_values=False)
        self._dht._provider_rate_max = MAX_PROVIDES_IN_WINDOW

    async def run(self) -> None:
        """Runs until the portal is told to stop."""
        self._network.register_notifee(self)
        for protocol, max_bytes in self._options.protocols:
            self._host.set_stream_handler(TProtocol(protocol), self._answerer(protocol, max_bytes))
        self._host.set_stream_handler(TProtocol(AUTHORITY_PROTOCOL), self._receive_frames)
        for protocol in BITSWAP_PROTOCOLS:
            self._host.set_stream_handler(TProtocol(protocol), self._receive_bitswap)
        listen = Multiaddr(f"/{ip_kind(self._options.host)}/{self._options.host}/tcp/{self._options.port}")
        check_port_is_free(self._options.host, self._options.port)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._host.run(listen_addrs=[listen]))
            if not self._network.listeners:
                raise OSError(errno.EADDRNOTAVAIL, f"the libp2p host can't listen on {listen}")
            await self._network.auto_connector.stop()
            for service in (self._pubsub, self._gossip, self._dht):
                await stack.enter_async_context(background_trio_service(service))
            await self._pubsub.wait_until_ready()
            self._nursery = await stack.enter_async_context(trio.open_nursery())
            self.addresses = tuple(_without_peer(str(address)) for address in self._host.get_addrs())
            self._portal.ready()
            await self._portal.wait_stop()
            self._nursery.cancel_scope.cancel()
            await self._close_peers()

    async def connect(self, peer: PeerId, addresses: Sequence[str]) -> None:
        """Raises Unreachable."""
        if peer in self.refused:
            raise Unreachable(f"{peer} is refused here")
        try:
            info = PeerInfo(ID.from_string(peer), [Multiaddr(address) for address in addresses])
            self._host.get_peerstore().clear_addrs(info.peer_id)
            self._network._negative_peer_cache.evict(str(info.peer_id))
            await self._host.connect(info)
        except CONNECT_FAILURES as error:
            raise Unreachable(f"{peer} can't be connected to: {error}") from error

    async def disconnect(self, peer: PeerId) -> None:
        with suppress(*streams.STREAM_FAILURES):
            await self._host.disconnect(ID.from_string(peer))

    async def ask(self, peer: PeerId, protocol: str, question: bytes, max_bytes: int, seconds: float) -> bytes:
        """One question and its answer on a stream of their own. Raises Unreachable or TimedOut."""
        with trio.move_on_after(seconds):
            stream = await self._open(peer, protocol)
            try:
                await streams.write_message(stream, question)
                answer = await streams.read_message(stream, max_bytes)
            except BaseException:
                with trio.CancelScope(deadline=trio.current_time() + CLOSE_SECONDS, shield=True):
                    await stream.reset()
                raise
            await stream.close()
            if answer is None:
                raise Unreachable(f"{peer} refused to answer on {protocol}")
            return answer
        raise TimedOut(f"{peer} didn't answer on {protocol} within {seconds} s")

    async def open_frames(self, peer: PeerId) -> Any:
        return await self._open(peer, AUTHORITY_PROTOCOL)

    async def send_bitswap(self, peer: PeerId, message: bytes) -> None:
        """Raises Unreachable."""
        await self._bitswap.send(peer, message, self._open)

    async def watch(self, stream: Any) -> None:
        """Returns when the other side ended or broke the stream on which we only write."""
        with suppress(MpisaError):
            await streams.read_message(stream, 0)

    async def join(self, topic: str) -> None:
        if topic in self._drains or self._nursery is None:
            return
        scope = self._drains[topic] = trio.CancelScope()
        self._pubsub.set_topic_validator(topic, self._validate, False)
        subscription = await self._pubsub.subscribe(topic)
        self._nursery.start_soon(self._drain, topic, subscription, scope)

    async def leave(self, topic: str) -> None:
        scope = self._drains.pop(topic, None)
        if scope is not None:
            scope.cancel()
            await self._pubsub.unsubscribe(topic)
            self._pubsub.remove_topic_validator(topic)

    async def publish(self, topic: str, data: bytes) -> None:
        await self._pubsub.publish(topic, data)

    async def provide(self, key: bytes) -> bool:
        """Tells the closest peers that we hold the key; whether any of them was told."""
        return bool(await self._dht.provider_store.provide(key))

    async def unprovide(self, key: bytes) -> None:
        store = self._dht.provider_store
        store.providing_keys.discard(key)
        store.providers.get(key, {}).pop(str(self._host.get_id()), None)

    async def find_providers(self, key: bytes, limit: int, seconds: float) -> list[tuple[PeerId, tuple[str, ...]]]:
        """What the DHT says, which may be nothing."""
        found: list[Any] = []
        with trio.move_on_after(seconds):
            found = await self._dht.provider_store.find_providers(key, limit)
        return [(PeerId(str(info.peer_id)), _addresses(info.addrs)) for info in found]

    async def learn(self, peer: PeerId, addresses: Sequence[str]) -> None:
        """Takes a peer that said where it listens into the routing table."""
        identity = ID.from_string(peer)
        listening = [Multiaddr(address) for address in addresses]
        if listening:
            self._host.get_peerstore().add_addrs(identity, listening, ADDRESS_SECONDS)
            await self._dht.routing_table.add_peer(PeerInfo(identity, listening), skip_server_mode_check=True)

    async def find_neighbours(self) -> list[tuple[PeerId, tuple[str, ...]]]:
        """Looks up our own id, so that the routing table learns who is near."""
        closest = await self._dht.peer_routing.find_closest_peers_network(self._host.get_id().to_bytes())
        store = self._host.get_peerstore()
        found = []
        for identity in closest:
            with suppress(PeerStoreError):  # a peer without addresses
                found.append((PeerId(str(identity)), tuple(str(address) for address in store.addrs(identity))))
        return found

    async def connected(self, network: Any, conn: Any) -> None:
        peer = PeerId(str(conn.muxed_conn.peer_id))
        self.counters.connections_opened += 1
        if peer in self.refused and self._nursery is not None:
            self._nursery.start_soon(self.disconnect, peer)
        elif peer not in self._connected:
            self._connected.add(peer)
            self._portal.notify(self._events.peer_connected, peer, bool(conn.muxed_conn.is_initiator))

    async def disconnected(self, network: Any, conn: Any) -> None:
        peer = PeerId(str(conn.muxed_conn.peer_id))
        if peer in self._connected and not self._network.get_connections(conn.muxed_conn.peer_id):
            self._connected.discard(peer)
            self._bitswap.forget(peer)
            self._portal.notify(self._events.peer_disconnected, peer)

    async def opened_stream(self, network: Any, stream: Any) -> None:
        """Part of INotifee; nothing to do."""

    async def closed_stream(self, network: Any, stream: Any) -> None:
        """Part of INotifee; nothing to do."""

    async def listen(self, network: Any, multiaddr: Any) -> None:
        """Part of INotifee; nothing to do."""

    async def listen_close(self, network: Any, multiaddr: Any) -> None:
        """Part of INotifee; nothing to do."""

    async def _open(self, peer: PeerId, *protocols: str) -> Any:
        """A stream with the first of these protocols that the peer takes. Raises Unreachable."""
        identity = ID.from_string(peer)
        if not self._network.get_connections(identity):
            raise Unreachable(f"{peer} isn't connected")
        try:
            return await self._host.new_stream(identity, [TProtocol(protocol) for protocol in protocols])
        except Exception as error:
            raise Unreachable(f"{peer} doesn't take {protocols[0]}: {error}") from error

    def _answerer(self, protocol: str, max_bytes: int) -> Any:
        async def handle(stream: Any) -> None:
            peer = PeerId(str(stream.muxed_conn.peer_id))
            if peer in self.refused or self._answering[peer] >= MAX_ANSWERS_AT_ONCE:
                self.counters.streams_refused += 1
                await stream.reset()
                return
            self._answering[peer] += 1
            try:
                with trio.fail_after(ANSWER_SECONDS):
                    question = await streams.read_message(stream, max_bytes)
                    if question is not None:
                        await streams.write_message(
                            stream, await self._portal.ask(self._events.answer, peer, protocol, question)
                        )
                    await stream.close()
            except (MpisaError, trio.TooSlowError):
                await stream.reset()
            finally:
                self._answering[peer] -= 1
                if not self._answering[peer]:
                    del self._answering[peer]

        return handle

    async def _receive_frames(self, stream: Any) -> None:
        peer = PeerId(str(stream.muxed_conn.peer_id))
        if peer in self.refused:
            await stream.reset()
            return
        try:
            await receive_frames(self._portal, self._events, peer, stream)
        except MpisaError:
            await stream.reset()

    async def _receive_bitswap(self, stream: Any) -> None:
        peer = PeerId(str(stream.muxed_conn.peer_id))
        if peer in self.refused:
            await stream.reset()
        else:
            await self._bitswap.receive(peer, stream)

    def _validate(self, forwarder: Any, message: Any) -> bool:
        """Size and rate, before a message is passed on: messages a second of one forwarding peer, a topic."""
        if forwarder == self._host.get_id():
            return True
        if self.refused and str(forwarder) in self.refused:
            return False
        if len(message.data) > self._options.limits.max_gossip_bytes:
            self.counters.gossip_oversized += 1
            return False
        if not self._rates.take((forwarder, tuple(message.topicIDs)), trio.current_time()):
            self.counters.gossip_dropped_rate += 1
            return False
        return True

    async def _drain(self, topic: str, subscription: Any, scope: trio.CancelScope) -> None:
        own = self._host.get_id().to_bytes()
        with scope:
            while True:
                message = await subscription.get()
                if message.from_id != own:
                    sender = PeerId(str(ID(message.from_id)))
                    self._portal.notify(self._events.gossip, topic, sender, bytes(message.data))

    async def _close_peers(self) -> None:
        """The library leaves outbound sockets open when a host ends."""
        with trio.CancelScope(deadline=trio.current_time() + CLOSE_SECONDS, shield=True):
            async with trio.open_nursery() as nursery:
                for peer in list(self._network.connections):
                    nursery.start_soon(self._close_peer, peer)

    async def _close_peer(self, peer: Any) -> None:
        with suppress(*streams.STREAM_FAILURES):
            await self._network.close_peer(peer)


def _addresses(addresses: Sequence[Any]) -> tuple[str, ...]:
    """Each once; js-libp2p ends its own in `/p2p/ID`, others don't."""
    return tuple(dict.fromkeys(_without_peer(str(address)) for address in addresses))


def _without_peer(address: str) -> str:
    return address.partition("/p2p/")[0]
