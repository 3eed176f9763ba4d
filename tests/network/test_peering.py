"""Who counts as a peer, without a network: what matters here is the order in which things come in."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from mpisa.network import messages
from mpisa.network.libp2p_host.host import Libp2pHost
from mpisa.network.messages import Hello
from mpisa.network.peering import Peering
from mpisa.network.ports import NetworkStats, PeerAddress, PeerId
from mpisa.primitives.errors import Unreachable
from tests.network.support import CHAIN, config

OWN, OTHER = PeerId("12D3KooWOwn"), PeerId("12D3KooWOther")
HELLO = Hello(CHAIN, "test/1", (), None)


class Wire:
    """The host's part, with an answer that comes when the test says so."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def connect(self, *_: Any, **__: Any) -> None:
        """It is connected already."""

    async def learn(self, *_: Any) -> None:
        """Nothing to learn."""

    async def find_neighbours(self) -> list[Any]:
        return []

    async def ask(self, *_: Any, **__: Any) -> bytes:
        self.asked.set()
        await self.may_answer.wait()
        return messages.encode_hello(HELLO)


@pytest.mark.parametrize("leaves", [True, False])
async def test_who_leaves_while_it_is_greeted_is_no_peer(leaves: bool) -> None:
    wire = Wire()
    peering = Peering(OWN, config(1), cast(Libp2pHost, wire), NetworkStats(), lambda peer: None)
    peering.start(HELLO)
    try:
        peering.peer_connected(OTHER, outbound=True)
        calling = asyncio.create_task(peering.connect(PeerAddress(OTHER, ())))
        await wire.asked.wait()
        if leaves:
            peering.peer_disconnected(OTHER)
        wire.may_answer.set()
        if leaves:
            with pytest.raises(Unreachable, match="left while it was greeted"):
                await calling
        else:
            assert (await calling).address.peer_id == OTHER
        assert [info.address.peer_id for info in peering.peers()] == ([] if leaves else [OTHER])
    finally:
        await peering.stop()
