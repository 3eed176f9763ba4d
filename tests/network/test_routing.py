"""When announcements are made, over a host that only writes down what it is told."""

import asyncio
from itertools import pairwise

import pytest

from mpisa.network import routing
from mpisa.network.peer_id import HostKey
from mpisa.network.ports import NetworkStats, PeerAddress
from mpisa.network.routing import Libp2pDiscovery
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import Rejection, Unreachable
from tests.network.support import eventually

OWN, ANN, BOB = (HostKey(bytes([number]) * 32).peer_id for number in (1, 2, 3))


class Notebook:
    """What a Libp2pHost offers to discovery."""

    def __init__(self) -> None:
        self.told: list[bytes] = []
        self.claims: list = []
        self.heard = True
        self.gate = asyncio.Event()
        self.gate.set()

    async def provide(self, key):
        await self.gate.wait()
        if self.heard is None:
            raise Unreachable("the libp2p host has ended")
        self.told.append(key)
        return self.heard

    async def unprovide(self, key):
        self.told.append(b"not " + key)

    async def find_providers(self, key, *, limit, timeout):
        return self.claims


@pytest.fixture
async def make():
    made = []

    def build(interval: float = 1000.0, known=lambda peer: None, hello=None):
        host, stats = Notebook(), NetworkStats()

        async def refuse(claim):
            raise Unreachable("not today")

        discovery = Libp2pDiscovery(OWN, host, known, hello or refuse, interval, stats)
        discovery.start()
        made.append(discovery)
        return discovery, host, stats

    yield build
    for discovery in made:
        await discovery.stop()


def cids(count: int) -> list[Cid]:
    return [Cid.of(b"%d" % number) for number in range(count)]


async def test_a_provided_cid_is_announced_now_and_again(make):
    discovery, host, stats = make(interval=0.02)
    (cid,) = cids(1)
    await discovery.provide(cid)
    assert host.told == [cid.multihash]
    await eventually(lambda: len(host.told) >= 3)
    await discovery.unprovide(cid)
    assert host.told[-1] == b"not " + cid.multihash
    assert stats.provides >= 3


async def test_many_are_spread_over_the_interval(make):
    discovery, host, _ = make(interval=1000.0)
    await discovery.provide_many(cids(100))
    now = asyncio.get_running_loop().time()
    delays = sorted(due - now for due in discovery._due.values())
    assert len(delays) == 100
    assert -1.0 < delays[0] < 10.0
    assert 980.0 < delays[-1] < 1000.0
    assert max(later - earlier for earlier, later in pairwise(delays)) < 11.0
    await eventually(lambda: host.told == [cids(1)[0].multihash])


async def test_falling_behind_shows_as_lag(make):
    discovery, host, _ = make(interval=0.05)
    assert discovery.lag == 0.0
    await discovery.provide_many(cids(20))
    host.gate.clear()
    await eventually(lambda: discovery.lag > 0.0)
    host.gate.set()
    await eventually(lambda: len(host.told) >= 20)


async def test_an_announcement_that_nobody_heard_is_repeated_when_a_peer_comes(make):
    discovery, host, stats = make()
    host.heard = None
    (cid,) = cids(1)
    await discovery.provide(cid)
    assert (host.told, stats.provides_failed) == ([], 1)
    host.heard = True
    discovery.peers_changed()
    await eventually(lambda: host.told == [cid.multihash])
    assert stats.provides == 1


async def test_the_number_of_announced_cids_is_bounded(make, monkeypatch):
    monkeypatch.setattr(routing, "MAX_PROVIDED", 3)
    discovery, *_ = make()
    await discovery.provide_many(cids(2))
    with pytest.raises(Rejection, match="announced CIDs, expected at most 3"):
        await discovery.provide_many(cids(4))
    await discovery.provide(cids(3)[2])
    with pytest.raises(Rejection, match="announced CIDs, expected at most 3"):
        await discovery.provide(cids(4)[3])


async def test_claims_are_completed_and_never_name_ourselves(make):
    known = {ANN: PeerAddress(ANN, ("/ip4/10.0.0.1/tcp/1",), "https://10.0.0.1:2")}
    discovery, host, stats = make(known=known.get)
    host.claims = [(OWN, ()), (ANN, ("/ip4/10.0.0.9/tcp/9",)), (BOB, ("/ip4/10.0.0.3/tcp/3",))]
    found = await discovery.find_providers(cids(1)[0])
    assert found == [known[ANN], PeerAddress(BOB, ("/ip4/10.0.0.3/tcp/3",))]
    assert stats.provider_lookups == 1


async def test_a_claimed_provider_that_never_answers_holds_nobody_up(make, monkeypatch):
    monkeypatch.setattr(routing, "HELLO_SECONDS", 0.01)

    async def stall(claim):
        await asyncio.Event().wait()

    discovery, host, _ = make(hello=stall)
    host.claims = [(BOB, ("/ip4/10.0.0.3/tcp/3",))]
    assert await discovery.find_providers(cids(1)[0]) == [PeerAddress(BOB, ("/ip4/10.0.0.3/tcp/3",))]
