"""Who may hold a CID: what gossip said, what the DHT says, and at last the peers we are connected to. All of it hints.

A put or a completed retrieval is announced on one gossip topic as the CID's bytes; announcements of others are kept
in a bounded table, newest last. Non-goals: trust; a provider counts once its block has hashed right.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import MpisaError, Rejection

if TYPE_CHECKING:
    from mpisa.network.ports import GossipSubscription, Network, PeerAddress, PeerId

TOPIC_PREFIX = "mpisa/blocks/1/"
MAX_HINTED_CIDS = 8_192
MAX_HINTS_PER_CID = 8
MAX_ASKED = 16
FIND_TIMEOUT_S = 10.0
HEAD_START_S = 0.1
"""How long the DHT is waited for while there are gossip hints already."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Candidates:
    """Peers to ask, best first, and in words where they came from."""

    peers: tuple[PeerAddress, ...]
    sources: tuple[str, ...]


class Providers:
    """See the module."""

    def __init__(self, network: Network, chain_hash: bytes) -> None:
        self._network = network
        self._topic = TOPIC_PREFIX + chain_hash.hex()[:16]
        self._hints: OrderedDict[bytes, OrderedDict[PeerId, None]] = OrderedDict()

    async def announce(self, cid: Cid) -> None:
        """Tells the DHT and whoever listens that the DAG under this CID is here. A failure is logged: it is a hint."""
        results = await asyncio.gather(
            self._network.publish(self._topic, cid.to_bytes()), self._network.provide(cid), return_exceptions=True
        )
        for result in results:
            if isinstance(result, Exception):
                log.warning("announcement failed", cid=str(cid), error=repr(result))
            elif isinstance(result, BaseException):
                raise result

    async def subscribe(self) -> GossipSubscription:
        """Joins the topic; hand the subscription to `listen`."""
        return await self._network.subscribe(self._topic)

    async def listen(self, subscription: GossipSubscription) -> None:
        """Keeps hints from gossip; runs until cancelled."""
        async for message in subscription:
            try:
                cid = Cid.from_bytes(message.data)
            except Rejection as rejection:
                log.info("bad announcement", peer=message.peer, error=str(rejection))
                continue
            self.hint(cid, message.peer)

    def hint(self, cid: Cid, peer: PeerId) -> None:
        """Remembers that a peer claims to hold a CID; the oldest make room."""
        peers = self._hints.setdefault(cid.digest, OrderedDict())
        self._hints.move_to_end(cid.digest)
        peers[peer] = None
        peers.move_to_end(peer)
        if len(peers) > MAX_HINTS_PER_CID:
            peers.popitem(last=False)
        if len(self._hints) > MAX_HINTED_CIDS:
            self._hints.popitem(last=False)

    async def find(self, cid: Cid) -> Candidates:
        """Peers to ask. Waits for the DHT at most HEAD_START_S when gossip named some, FIND_TIMEOUT_S else."""
        connected = {info.peer_id: info.address for info in self._network.peers()}
        hinted = [connected[peer] for peer in reversed(self._hints.get(cid.digest, {})) if peer in connected]
        timeout = HEAD_START_S if hinted else FIND_TIMEOUT_S
        try:
            async with asyncio.timeout(timeout):
                found = await self._network.find_providers(cid, timeout=timeout)
        except (MpisaError, TimeoutError):
            found = []
        ordered: dict[PeerId, PeerAddress] = {}
        for address in [*found, *hinted, *connected.values()]:
            known = connected.get(address.peer_id)
            ordered.setdefault(address.peer_id, address if address.peer_url or known is None else known)
        ordered.pop(self._network.peer_id, None)
        sources = (f"dht: {len(found)}", f"gossip: {len(hinted)}", f"connected: {len(connected)}")
        return Candidates(tuple(ordered.values())[:MAX_ASKED], sources)
