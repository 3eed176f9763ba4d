"""How an authority that sits its epoch out, isn't level with the others yet, or serves an epoch after which it has no
seat, learns what the others say: it asks for new rounds again and again. (A node without any seat follows certified
blocks instead, see keeping_up.)

Each answer is a range of vertices; the engine judges and orders them as everywhere else. A full answer is followed by
the next question at once, an answer without news by a pause, after a failure another peer is asked. Where nobody has
news for long, the epoch may be over elsewhere: consensus is told so.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mpisa.primitives.identifiers import AuthorityIndex, Round

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpisa.network.ports import Network
    from mpisa.node.helm import Helm
    from mpisa.node.inbox import Inbox
    from mpisa.node.links import Links

PAUSE_S = 0.25
OVERLAP_ROUNDS = 2
"""Rounds asked for again, since some of their vertices may not have been there yet."""

QUIET_POLLS = 8
"""After so many questions without news the rest of the epoch, or what ends it, is looked for."""


async def follow(network: Network, links: Links, helm: Helm, inbox: Inbox, rests: Callable[[], bool]) -> None:
    """Runs until cancelled; asks nobody while `rests` says so."""
    turn = quiet = 0
    while True:
        if rests():
            quiet = 0
            await asyncio.sleep(PAUSE_S)
            continue
        epoch, before = helm.epoch, helm.status().highest_accepted_round
        connected = {info.peer_id for info in network.peers()}
        usable = [index for index, peer in enumerate(links.peers_of(epoch)) if peer in connected and index != helm.own]
        news = False
        if usable:
            asked = AuthorityIndex(usable[turn % len(usable)])
            first = Round(max(1, before - OVERLAP_ROUNDS))
            found = await links.fetch_range(asked, first, epoch)
            news = found and (helm.epoch, helm.status().highest_accepted_round) > (epoch, before)
        if news:
            quiet = 0
            continue
        turn += 1
        quiet += 1
        if quiet % QUIET_POLLS == 0:
            inbox.post_epoch_ahead()
        await asyncio.sleep(PAUSE_S)
