"""What we want of peers: who waits for which block of whom. Pure but for the futures that the asyncio side hands in.

A want belongs to the peer that was asked. A block is handed to whoever asked that very peer for it; a block nobody
asked that peer for is dropped. Several askers may want the same block of one peer: it is asked for once.
"""

from __future__ import annotations

import asyncio

from mpisa.network.ports import PeerId
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import MpisaError, NotFound, Unreachable

Waiter = asyncio.Future[bytes]


class Wants:
    """Waiters by peer and CID."""

    def __init__(self) -> None:
        self._waiting: dict[PeerId, dict[Cid, list[Waiter]]] = {}

    def __len__(self) -> int:
        """Blocks that are waited for."""
        return sum(len(wants) for wants in self._waiting.values())

    def add(self, peer: PeerId, cid: Cid, waiter: Waiter) -> bool:
        """Whether the peer has to be asked: nobody waits for this block of this peer yet."""
        waiters = self._waiting.setdefault(peer, {}).setdefault(cid, [])
        waiters.append(waiter)
        return len(waiters) == 1

    def drop(self, peer: PeerId, cid: Cid, waiter: Waiter) -> bool:
        """A waiter gave up; whether the want should be cancelled, since nobody is left."""
        waiters = self._waiting.get(peer, {}).get(cid, [])
        if waiter not in waiters:
            return False
        waiters.remove(waiter)
        if waiters:
            return False
        self._remove(peer, cid)
        return True

    def wanted(self, peer: PeerId) -> bool:
        """Whether anything is wanted of the peer."""
        return peer in self._waiting

    def arrived(self, peer: PeerId, cid: Cid, data: bytes) -> bool:
        """Whether somebody waited for it."""
        waiters = self._remove(peer, cid)
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(data)
        return bool(waiters)

    def absent(self, peer: PeerId, cid: Cid) -> None:
        """The peer says that it lacks the block."""
        self._fail(self._remove(peer, cid), NotFound(f"block {cid} isn't at {peer}"))

    def gone(self, peer: PeerId, error: MpisaError | None = None) -> None:
        """The peer has disconnected, or can't be written to."""
        for waiters in self._waiting.pop(peer, {}).values():
            self._fail(waiters, error or Unreachable(f"{peer} has gone"))

    def _remove(self, peer: PeerId, cid: Cid) -> list[Waiter]:
        wants = self._waiting.get(peer)
        if wants is None:
            return []
        waiters = wants.pop(cid, [])
        if not wants:
            del self._waiting[peer]
        return waiters

    @staticmethod
    def _fail(waiters: list[Waiter], error: MpisaError) -> None:
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(error)
