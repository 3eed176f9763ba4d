"""Who may hold a CID: what gossip said is kept here, the DHT and connected peers come in a `session`. All of it hints.

A put or a completed retrieval is announced on one gossip topic as the CID's bytes; announcements of others are kept
in a bounded table, newest last. Non-goals: trust; a provider counts once its block has hashed right.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

import structlog

from mpisa.node.sessions import ProviderSession
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import Rejection

if TYPE_CHECKING:
    from mpisa.network.ports import GossipSubscription, Network, PeerId

TOPIC_PREFIX = "mpisa/blocks/1/"
MAX_HINTED_CIDS = 8_192
MAX_HINTS_PER_CID = 8
log = structlog.get_logger(__name__)


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

    def session(self, cid: Cid) -> ProviderSession:
        """Whom to ask for the DAG under this CID, from now on; in the loop. Close it."""
        return ProviderSession(self._network, self._hinted, cid)

    def _hinted(self, cid: Cid) -> list[PeerId]:
        """Who claimed to hold it, latest first."""
        return list(reversed(self._hints.get(cid.digest, {})))
