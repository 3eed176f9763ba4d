"""Whom to ask for the blocks of one DAG, while it is being fetched: peers that are connected at once, those that gossip
named first among them, and whoever the DHT names as it names them.

The DHT is asked only when the first blocks don't come by themselves: after HEAD_START_S, or as soon as nobody known is
left to ask. What it said stays for the session. All of it hints. Non-goals: trust, standings (`network.exchange`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from mpisa.primitives.errors import MpisaError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence, Set

    from mpisa.network.ports import Network, PeerAddress, PeerId
    from mpisa.primitives.cid import Cid

MAX_ASKED = 16
FIND_TIMEOUT_S = 10.0
HEAD_START_S = 0.1
FRESH_S = 0.25
"""For so long the list of connected peers is believed."""


class ProviderSession:
    """A `ProviderFeed`. Close it, or use it as a context manager: a lookup may be running."""

    def __init__(self, network: Network, hinted: Callable[[Cid], Sequence[PeerId]], cid: Cid) -> None:
        self._network = network
        self._hinted = hinted
        self._cid = cid
        self._found: dict[PeerId, PeerAddress] = {}
        self._named: set[PeerId] = set()
        self._known: tuple[PeerAddress, ...] = ()
        self._known_until = -1.0
        self._counts = (0, 0)
        self._news = asyncio.Event()
        self._lookup: asyncio.Task[None] | None = None
        self._closed = False
        self._timer = asyncio.get_running_loop().call_later(HEAD_START_S, self._look)

    def known(self) -> Sequence[PeerAddress]:
        """See ProviderFeed: hinted ones, then those the DHT named, then others that are connected."""
        now = asyncio.get_running_loop().time()
        if now >= self._known_until:
            self._known = self._gather()
            self._known_until = now + FRESH_S
        return self._known

    def _gather(self) -> tuple[PeerAddress, ...]:
        connected = {info.peer_id: info.address for info in self._network.peers()}
        hinted = [connected[peer] for peer in self._hinted(self._cid) if peer in connected]
        self._counts = (len(hinted), len(connected))
        self._named.update(address.peer_id for address in hinted)
        ordered: dict[PeerId, PeerAddress] = {}
        for address in [*hinted, *self._found.values(), *connected.values()]:
            reached = connected.get(address.peer_id)
            ordered.setdefault(address.peer_id, address if address.peer_url or reached is None else reached)
        ordered.pop(self._network.peer_id, None)
        return tuple(ordered.values())[:MAX_ASKED]

    def is_named(self, peer: PeerId) -> bool:
        return peer in self._named

    async def more(self, seen: Set[PeerId]) -> bool:
        """See ProviderFeed. Waits for the DHT, FIND_TIMEOUT_S at most."""
        while True:
            self._look()
            if any(address.peer_id not in seen for address in self.known()):
                return True
            if self._lookup is None or self._lookup.done():
                return False
            self._news.clear()
            await self._news.wait()

    def look_again(self, cid: Cid) -> None:
        """Asks the DHT anew, for a block that nobody known delivered."""
        self._stop()
        self._cid = cid
        self._look()

    @property
    def sources(self) -> str:
        """In words, where the peers came from."""
        self.known()
        hinted, connected = self._counts
        return f"dht: {len(self._found)}, gossip: {hinted}, connected: {connected}"

    def close(self) -> None:
        """Ends the lookup; whoever waits for more hears that there are none."""
        self._closed = True
        self._stop()
        self._news.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _stop(self) -> None:
        self._timer.cancel()
        if self._lookup is not None:
            self._lookup.cancel()
            self._lookup = None

    def _look(self) -> None:
        """Starts the lookup, once."""
        self._timer.cancel()
        if self._lookup is None and not self._closed:
            self._lookup = asyncio.create_task(self._ask_dht(self._cid), name=f"find {self._cid}")
            self._lookup.add_done_callback(lambda _: self._news.set())

    async def _ask_dht(self, cid: Cid) -> None:
        try:
            async with asyncio.timeout(FIND_TIMEOUT_S):
                for address in await self._network.find_providers(cid, timeout=FIND_TIMEOUT_S):
                    self._add(address)
        except (MpisaError, TimeoutError):
            return

    def _add(self, address: PeerAddress) -> None:
        if len(self._found) < MAX_ASKED:
            self._found[address.peer_id] = address
            self._named.add(address.peer_id)
            self._known_until = -1.0
            self._news.set()
