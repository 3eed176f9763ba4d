"""Cures of libp2p.kad_dht: streams that end cleanly, provider answers that are distinct and not our own, provides
that don't look up what is known.
"""

from __future__ import annotations

from typing import Any

import trio
from libp2p.io.exceptions import IncompleteReadError
from libp2p.kad_dht import kad_dht, provider_store
from libp2p.kad_dht.common import ALPHA, BUCKET_SIZE
from libp2p.kad_dht.utils import sort_peer_ids_by_distance
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.peer.peerinfo import PeerInfo
from libp2p.utils.varint import read_varint_prefixed_bytes_limited

from mpisa.network.libp2p_host.replacing import replace

MAX_PROVIDED_KEYS = 100_000
"""Keys with provider records kept for others; the one longest in the store goes first."""

ASK_SECONDS = 5.0
TELL_SECONDS = 5.0
GRACE_SECONDS = 0.05
"""How long a lookup goes on for more answers once it has one."""


def end_streams_cleanly() -> None:
    """The DHT's reader expects one exception for the end of a stream, and the stream raises another."""

    async def read_message(stream: Any, limit: int) -> bytes:
        try:
            return await read_varint_prefixed_bytes_limited(stream, limit)
        except StreamEOF as error:
            raise IncompleteReadError("stream ended", expected_bytes=1, received_bytes=0) from error

    replace(kad_dht, "read_varint_prefixed_bytes_limited", read_message)


def distinct_providers() -> None:
    """One answer a provider, nothing kept of what others say, and no more than `MAX_PROVIDED_KEYS` keys kept for
    them.
    """
    add = provider_store.ProviderStore.add_provider

    def add_bounded(self: Any, key: bytes, provider: Any) -> None:
        if key not in self.providers and len(self.providers) >= MAX_PROVIDED_KEYS:
            oldest = next((other for other in self.providers if other not in self.providing_keys), None)
            if oldest is None:
                return
            del self.providers[oldest]
        add(self, key, provider)

    replace(provider_store.ProviderStore, "add_provider", add_bounded)
    replace(provider_store.ProviderStore, "find_providers", find_providers)


async def find_providers(self: Any, key: bytes, count: int = 20) -> list[Any]:
    """Asks ever closer peers until `count` providers are known, or nobody is left, or one is and a moment has passed.

    The answer to "who provides" also names closer peers, so there is no separate lookup before it.
    """
    found = {info.peer_id: info for info in self.get_providers(key) if info.peer_id != self.local_peer_id}
    if found:
        return list(found.values())[:count]
    candidates = _known_peers(self, key)
    asked = {self.local_peer_id}

    async def ask(peer: Any, scope: trio.CancelScope) -> None:
        with trio.move_on_after(ASK_SECONDS):
            providers, closer = await self._get_providers_from_peer_with_closers(peer, key)
            for info in providers:
                known = found.get(info.peer_id)
                if info.peer_id != self.local_peer_id and (known is None or (info.addrs and not known.addrs)):
                    found[info.peer_id] = info
            candidates.extend(other for other in closer if other not in asked and other not in candidates)
        if len(found) >= count:
            scope.cancel()
        elif found:
            scope.deadline = min(scope.deadline, trio.current_time() + GRACE_SECONDS)

    while candidates and not found:
        batch = [peer for peer in sort_peer_ids_by_distance(key, candidates) if peer not in asked][:ALPHA]
        if not batch or len(asked) > BUCKET_SIZE * 4:
            break
        candidates[:] = [peer for peer in candidates if peer not in batch]
        asked.update(batch)
        async with trio.open_nursery() as nursery:
            for peer in batch:
                nursery.start_soon(ask, peer, nursery.cancel_scope)
    return list(found.values())[:count]


def provide_to_known_peers() -> None:
    """A lookup before each provide costs a stream to every peer; with fewer peers than a bucket holds, all are known
    already.
    """
    provide_by_lookup = provider_store.ProviderStore.provide

    async def provide(self: Any, key: bytes) -> bool:
        peers = _known_peers(self, key)
        if len(peers) >= BUCKET_SIZE:
            return bool(await provide_by_lookup(self, key))
        self.providing_keys.add(key)
        self.add_provider(key, PeerInfo(self.host.get_id(), list(self.host.get_addrs())))
        told: list[Any] = []

        async def tell(peer: Any) -> None:
            with trio.move_on_after(TELL_SECONDS):
                if await self._send_add_provider(peer, key):
                    told.append(peer)

        async with trio.open_nursery() as nursery:
            for peer in peers:
                nursery.start_soon(tell, peer)
        return bool(told)

    replace(provider_store.ProviderStore, "provide", provide)


def _known_peers(store: Any, key: bytes) -> list[Any]:
    """The peers closest to the key that this node knows itself: its routing table, and whoever is connected."""
    table = store.peer_routing.routing_table.find_local_closest_peers(key, BUCKET_SIZE)
    if len(table) < BUCKET_SIZE:
        table = [*table, *store.host.get_connected_peers()]
    distinct = [peer for peer in dict.fromkeys(table) if peer != store.local_peer_id]
    return list(sort_peer_ids_by_distance(key, distinct))[:BUCKET_SIZE]
