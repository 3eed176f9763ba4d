"""Getting one thing from several peers over real connections: others step in for those who withhold or lie."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from mpisa.network.ports import PeerId
from mpisa.network.service import PeerNetwork
from mpisa.node.pursuit import MAX_FAILURES, Pursuit
from mpisa.node.sources import REQUEST_TIMEOUT_S, Sources
from mpisa.primitives.errors import Rejection, RejectionReason
from tests.network.support import DictBlocks, config, eventually

KIND = "thing"
THING = b"true" * 1_000


@dataclass
class Wire:
    """One that asks and three that answer, each by its way."""

    sources: Sources
    peers: list[PeerNetwork]
    asked: list[PeerId] = field(default_factory=list)

    def answer(self, number: int, *, withholds: bool = False, says: bytes = THING) -> None:
        """How a peer answers from now on."""
        network = self.peers[number]

        async def handle(_: PeerId, body: bytes) -> bytes:
            self.asked.append(network.peer_id)
            if withholds:
                await asyncio.Event().wait()
            return says

        network.authorities.set_request_handler(KIND, handle)

    async def get(self, *numbers: int) -> bytes | None:
        names = [self.peers[number].peer_id for number in numbers]
        pursuit = Pursuit("a thing", self.sources, lambda: [p for p in names if p in self.sources.usable()], self._ask)
        return await pursuit.take(self._verify)

    async def _ask(self, peer: PeerId) -> bytes:
        return await self.sources.ask(peer, KIND, b"")

    async def _verify(self, raw: bytes) -> bytes | None:
        if raw and raw != THING:
            raise Rejection(RejectionReason.HASH_MISMATCH, "another thing")
        return raw or None


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    asker = PeerNetwork(config(1), DictBlocks())
    await asker.start()
    known = (f"{asker.address.multiaddrs[0]}/p2p/{asker.peer_id}",)
    peers = [PeerNetwork(config(number, bootstrap=known), DictBlocks()) for number in (2, 3, 4)]
    try:
        await asyncio.gather(*(peer.start() for peer in peers))
        await eventually(lambda: len(asker.peers()) == 3)
        with ThreadPoolExecutor(1) as checker:
            yield Wire(Sources(asker, checker), peers)
    finally:
        await asyncio.gather(*(network.stop() for network in (asker, *peers)))


async def test_peers_that_withhold_are_stepped_in_for_and_can_be_asked_again_over_the_same_connection(
    wire: Wire,
) -> None:
    for number in (0, 1):
        wire.answer(number, withholds=True)
    wire.answer(2)
    for _ in range(6):
        async with asyncio.timeout(REQUEST_TIMEOUT_S - 1):
            assert await wire.get(0, 1, 2) == THING
    withholding = [wire.peers[number].peer_id for number in (0, 1)]
    assert all(wire.asked.count(peer) <= 1 for peer in withholding)
    slow = [peer for peer in withholding if wire.asked.count(peer)]
    assert slow
    now = asyncio.get_running_loop().time()
    assert all(wire.sources.patience.is_demoted(peer, now) for peer in slow)
    assert wire.sources.liars_dropped == 0
    for number in (0, 1):
        wire.answer(number)
        assert await wire.get(number) == THING
    assert not any(wire.sources.patience.is_demoted(peer, now) for peer in slow), "it has delivered"


async def test_lies_and_nothing_cost_no_wait_and_a_liar_is_dropped(wire: Wire) -> None:
    wire.answer(0, says=b"lie")
    wire.answer(1, says=b"")
    wire.answer(2)
    async with asyncio.timeout(REQUEST_TIMEOUT_S / 2):
        for _ in range(4):
            assert await wire.get(0, 1, 2) == THING
    assert wire.asked.count(wire.peers[0].peer_id) == wire.sources.liars_dropped == 1
    now = asyncio.get_running_loop().time()
    assert not any(wire.sources.patience.is_demoted(peer.peer_id, now) for peer in wire.peers), "nobody was slow"


async def test_where_nobody_has_it_the_caller_is_told(wire: Wire) -> None:
    for number in range(3):
        wire.answer(number, says=b"")
    assert await wire.get(0, 1, 2) is None
    assert 3 <= len(wire.asked) <= MAX_FAILURES
    assert await wire.get() is None
