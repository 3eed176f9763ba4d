"""How a follower learns what the authorities say: it has no links to them, so it asks for new rounds again and again.

Each answer is a range of vertices; the engine judges and orders them as everywhere else. A full answer is followed by
the next question at once, an answer without news by a pause, after a failure another peer is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import structlog

from mpisa.primitives.identifiers import AuthorityIndex, Round

if TYPE_CHECKING:
    from mpisa.network.ports import Network, PeerId
    from mpisa.node.links import Links

PAUSE_S = 0.25
OVERLAP_ROUNDS = 2
"""Rounds asked for again, since some of their vertices may not have been there yet."""

log = structlog.get_logger(__name__)


async def follow(
    network: Network, links: Links, authorities: Sequence[PeerId], highest_round: Callable[[], int]
) -> None:
    """Runs until cancelled."""
    turn = 0
    while True:
        connected = {info.peer_id for info in network.peers()}
        usable = [index for index, peer in enumerate(authorities) if peer in connected]
        news = False
        if usable:
            asked = usable[turn % len(usable)]
            before = highest_round()
            first = Round(max(1, before - OVERLAP_ROUNDS))
            news = await links.fetch_range(AuthorityIndex(asked), first) and highest_round() > before
        if not news:
            turn += 1
            await asyncio.sleep(PAUSE_S)
