"""Who can hand this node what it lacks: connected peers, what each claims to have, and who was found lying.

A claim is a hint: it decides whom to ask, nothing else. A peer whose bytes fail a check is named in the log and not
asked again for a long while; one that couldn't be reached or had nothing rests for a short one, and one that didn't
answer in time is asked last afterwards (`mpisa.node.patience`). If all rest, the caller waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import structlog

from mpisa.node.patience import NODE_PACE, Patience
from mpisa.primitives.errors import MpisaError, Rejection, RejectionReason, TimedOut

if TYPE_CHECKING:
    from mpisa.network.ports import Network, PeerId

DROPPED_S = 600.0
"""How long a peer that lied isn't asked."""

REST_S = 2.0
"""How long one that didn't deliver isn't."""

REQUEST_TIMEOUT_S = 10.0
MAX_NAMED = 256
"""Peers whose claims are known, and those remembered as dropped or resting."""

_T = TypeVar("_T")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a peer claims to be able to serve: heights from `lowest` to `certified`."""

    certified: int
    lowest: int


class Sources:
    """See the module. Belongs to the loop; answers are decoded and checked in `checker`, one thread."""

    def __init__(self, network: Network, checker: Executor) -> None:
        self._network = network
        self._checker = checker
        self._until: dict[PeerId, float] = {}
        self._turn = 0
        self.patience: Patience[PeerId] = Patience(NODE_PACE)
        self.claims: dict[PeerId, Bounds] = {}
        self.liars_dropped = 0

    def usable(self) -> list[PeerId]:
        """Connected peers that may be asked now."""
        now = asyncio.get_running_loop().time()
        return [info.peer_id for info in self._network.peers() if self._until.get(info.peer_id, 0.0) <= now]

    def next_of(self, peers: list[PeerId]) -> PeerId:
        """One after the other."""
        self._turn += 1
        return peers[self._turn % len(peers)]

    def claim(self, peer: PeerId, bounds: Bounds) -> None:
        """What the peer said last. Those who have gone make room: else passers-by could fill the table for good."""
        if peer not in self.claims and len(self.claims) >= MAX_NAMED:
            connected = {info.peer_id for info in self._network.peers()}
            self.claims = {name: claimed for name, claimed in self.claims.items() if name in connected}
        if peer in self.claims or len(self.claims) < MAX_NAMED:
            self.claims[peer] = bounds

    def able(self, first: int, last: int) -> list[PeerId]:
        """Usable peers that claim to have all these heights."""
        found = []
        for peer in self.usable():
            bounds = self.claims.get(peer)
            if bounds is not None and bounds.lowest <= first and bounds.certified >= last:
                found.append(peer)
        return found

    def claimed(self) -> dict[PeerId, int]:
        """The highest height that each usable peer claims."""
        return {peer: self.claims[peer].certified for peer in self.usable() if peer in self.claims}

    def highest(self) -> int:
        """The highest height that a usable peer claims."""
        return max(self.claimed().values(), default=0)

    async def ask(self, peer: PeerId, kind: str, body: bytes, *, timeout: float = REQUEST_TIMEOUT_S) -> bytes:
        """Raises what the network raises."""
        return await self._network.authorities.request(peer, kind, body, timeout=timeout)

    async def check(self, work: Callable[[], _T]) -> _T:
        """Runs what costs time beside the loop."""
        return await asyncio.get_running_loop().run_in_executor(self._checker, work)

    def judge(self, peer: PeerId, what: str, error: MpisaError) -> None:
        """What it costs a peer that a question for something checked ended so. A refusal that it sent because too much
        is asked of it isn't a lie; what its bytes earned here is.
        """
        if isinstance(error, Rejection) and error.reason is not RejectionReason.RATE_LIMITED:
            self.drop(peer, what, error)
            return
        if isinstance(error, TimedOut):
            self.patience.was_slow(peer, asyncio.get_running_loop().time())
        self.rest(peer, what, error)

    def drop(self, peer: PeerId, what: str, error: Rejection) -> None:
        """Its bytes failed a check."""
        self.liars_dropped += 1
        log.warning("a peer is dropped as a source", peer=peer, what=what, error=str(error))
        self._rest(peer, DROPPED_S)

    def rest(self, peer: PeerId, what: str, error: MpisaError | None = None) -> None:
        """It couldn't deliver."""
        log.info("a source rests", peer=peer, what=what, error=None if error is None else str(error))
        self._rest(peer, REST_S)

    def _rest(self, peer: PeerId, seconds: float) -> None:
        until = asyncio.get_running_loop().time() + seconds
        if peer not in self._until and len(self._until) >= MAX_NAMED:
            del self._until[min(self._until, key=lambda name: self._until[name])]
        self._until[peer] = max(until, self._until.get(peer, 0.0))
        self.claims.pop(peer, None)
