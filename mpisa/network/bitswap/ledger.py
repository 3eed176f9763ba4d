"""What peers want of us and haven't been answered yet: pure, bounded, one list a peer.

A want is answered once, as things are when its turn comes, and then forgotten; one that isn't answered (we lack the
block and the peer didn't ask to be told) is forgotten too, for peers ask again. So a list only holds what is about to
be answered, whatever a peer sends, and a peer that goes away leaves nothing. Non-goals: telling peers later of blocks
that arrive here meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mpisa.network.bitswap.messages import Entry
from mpisa.network.ports import PeerId
from mpisa.primitives.cid import Cid


class Ledger:
    """The wants of all peers: at most `wants_per_peer` each, of at most `peers` of them."""

    def __init__(self, wants_per_peer: int, peers: int) -> None:
        self._wants_per_peer = wants_per_peer
        self._peers = peers
        self._wants: dict[PeerId, dict[Cid, Entry]] = {}

    def __len__(self) -> int:
        """Peers with wants that wait for an answer."""
        return len(self._wants)

    def receive(self, peer: PeerId, entries: Iterable[Entry], *, full: bool) -> int:
        """Notes wants and cancellations; returns how many wants found no room. A peer asks for those again."""
        wants = self._wants.get(peer)
        if wants is None:
            wants = {}
        elif full:
            wants.clear()
        refused = 0
        room = self._wants_per_peer if peer in self._wants or len(self._wants) < self._peers else 0
        for entry in entries:
            if entry.cancel:
                wants.pop(entry.cid, None)
            elif len(wants) < room or entry.cid in wants:
                wants[entry.cid] = entry
            else:
                refused += 1
        if wants:
            self._wants[peer] = wants
        else:
            self._wants.pop(peer, None)
        return refused

    def next(self, peer: PeerId, count: int) -> list[Entry]:
        """The peer's most urgent wants, at most `count`; they stay until `answered`."""
        wants = self._wants.get(peer, {})
        return sorted(wants.values(), key=lambda entry: -entry.priority)[:count]

    def answered(self, peer: PeerId, entries: Sequence[Entry]) -> None:
        """Forgets these wants, unless they were asked for anew meanwhile, in another way."""
        wants = self._wants.get(peer)
        if wants is None:
            return
        for entry in entries:
            if wants.get(entry.cid) == entry:
                del wants[entry.cid]
        if not wants:
            del self._wants[peer]

    def forget(self, peer: PeerId) -> None:
        self._wants.pop(peer, None)
