"""Whom a session names: connected peers at once, hinted ones first, those of the DHT when it answers."""

from __future__ import annotations

import asyncio

import pytest

from mpisa.network.ports import PeerAddress, PeerId, PeerInfo
from mpisa.node import sessions
from mpisa.node.sessions import ProviderSession
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import Unreachable

ROOT = Cid.of(b"root")
OWN, ANN, BOB, EVE = (PeerAddress(PeerId(name), (), f"https://{name}:1") for name in ("own", "ann", "bob", "eve"))


class Surroundings:
    """What a session asks of the network: connected peers, and a DHT that answers when it is told to."""

    def __init__(self, *connected: PeerAddress) -> None:
        self.connected = list(connected)
        self.peer_id = OWN.peer_id
        self.lookups: list[Cid] = []
        self.answer: asyncio.Future[list[PeerAddress]] = asyncio.get_running_loop().create_future()

    def peers(self) -> list[PeerInfo]:
        return [PeerInfo(address.peer_id, address, True) for address in self.connected]

    async def find_providers(self, cid: Cid, *, limit: int = 8, timeout: float = 10.0) -> list[PeerAddress]:
        self.lookups.append(cid)
        return await asyncio.shield(self.answer)


def names(session: ProviderSession) -> list[str]:
    return [str(address.peer_id) for address in session.known()]


async def test_connected_peers_are_known_at_once_and_hinted_ones_come_first() -> None:
    network = Surroundings(ANN, BOB)
    with ProviderSession(network, lambda cid: [BOB.peer_id, EVE.peer_id], ROOT) as session:  # type: ignore[arg-type]
        assert names(session) == ["bob", "ann"]
        assert (session.is_named(BOB.peer_id), session.is_named(ANN.peer_id)) == (True, False)
        assert session.sources == "dht: 0, gossip: 1, connected: 2"
        assert network.lookups == []


async def test_the_dht_is_asked_when_nobody_is_left_and_its_answer_is_waited_for() -> None:
    network = Surroundings(ANN)
    with ProviderSession(network, lambda cid: [], ROOT) as session:  # type: ignore[arg-type]
        waiting = asyncio.create_task(session.more({ANN.peer_id}))
        await asyncio.sleep(0.01)
        assert (waiting.done(), network.lookups) == (False, [ROOT])
        network.answer.set_result([ANN, OWN, EVE])
        assert await waiting
        assert names(session) == ["ann", "eve"]
        assert session.is_named(EVE.peer_id)
        assert not await session.more({ANN.peer_id, EVE.peer_id})


async def test_a_dht_that_fails_ends_the_waiting() -> None:
    network = Surroundings()
    network.answer.set_exception(Unreachable("no DHT"))
    with ProviderSession(network, lambda cid: [], ROOT) as session:  # type: ignore[arg-type]
        assert not await session.more(set())
        session.look_again(Cid.of(b"leaf"))
        assert not await session.more(set())
    assert network.lookups == [ROOT, Cid.of(b"leaf")]


async def test_a_slow_transfer_asks_the_dht_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "HEAD_START_S", 0.0)
    network = Surroundings(ANN)
    network.answer.set_result([BOB])
    with ProviderSession(network, lambda cid: [], ROOT) as session:  # type: ignore[arg-type]
        async with asyncio.timeout(10):
            assert await session.more({ANN.peer_id})
        assert names(session) == ["bob", "ann"]


async def test_closing_ends_a_lookup() -> None:
    network = Surroundings()
    session = ProviderSession(network, lambda cid: [], ROOT)  # type: ignore[arg-type]
    waiting = asyncio.create_task(session.more(set()))
    await asyncio.sleep(0.01)
    session.close()
    assert not await waiting
