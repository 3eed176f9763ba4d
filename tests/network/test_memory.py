import asyncio

import pytest

from mpisa.network.memory import MemoryHub, MemoryNetwork
from mpisa.network.ports import GossipMessage, Network, PeerAddress
from mpisa.primitives.errors import NotFound, Rejection, TimedOut, Unreachable
from tests.network.support import DictBlocks, Frames, config, limits


@pytest.fixture
async def nodes():
    hub = MemoryHub()
    made = [MemoryNetwork(hub, config(number), DictBlocks()) for number in (1, 2, 3)]
    for node in made:
        await node.start()
    yield hub, made
    for node in made:
        await node.stop()


def test_the_twin_is_a_network():
    async def make() -> Network:
        return MemoryNetwork(MemoryHub(), config(1), DictBlocks())

    assert asyncio.run(make()).peer_id.startswith("12D3KooW")


async def test_peers_see_each_other_come_and_go(nodes):
    _, (one, two, three) = nodes
    seen = []
    one.set_peer_observer(lambda info: seen.append((info.peer_id, info.connected)))
    assert {info.peer_id for info in one.peers()} == {two.peer_id, three.peer_id}
    await three.stop()
    assert seen == [(three.peer_id, False)]
    with pytest.raises(Unreachable):
        await one.connect(three.address)


async def test_a_node_that_stops_breaks_the_questions_it_has_not_answered(nodes):
    """Its handler fails for want of what was closed meanwhile; that isn't the asker's failure."""
    hub, (one, two, _) = nodes
    asked, stopped = asyncio.Event(), asyncio.Event()

    async def fails_once_stopped(peer, body):
        asked.set()
        await stopped.wait()
        raise RuntimeError("cannot schedule new futures after shutdown")

    two.authorities.set_request_handler("late", fails_once_stopped)
    answer = asyncio.create_task(one.authorities.request(two.peer_id, "late", b""))
    await asked.wait()
    await two.stop()
    async with MemoryNetwork(hub, config(2), DictBlocks()) as again:
        assert again.peer_id == two.peer_id
        stopped.set()
        with pytest.raises(Unreachable, match="stopped before it answered"):
            await answer


async def test_another_chain_is_refused(nodes):
    hub, (one, *_) = nodes
    async with MemoryNetwork(hub, config(9, chain_hash=b"x" * 32), DictBlocks()) as foreign:
        assert foreign.peers() == []
        with pytest.raises(Rejection, match="wrong-chain"):
            await one.connect(foreign.address)


async def test_frames_arrive_in_order_until_the_link_is_cut(nodes):
    hub, (one, two, three) = nodes
    frames = Frames()
    two.authorities.set_handler(frames)
    for node in (one, two):
        node.authorities.set_authorities([one.address, two.address])
    assert one.authorities.linked() == {two.peer_id}
    for number in range(10):
        assert await one.authorities.send(two.peer_id, b"%d" % number)
    assert await frames.until(10) == [(one.peer_id, b"%d" % number) for number in range(10)]
    hub.cut(one.peer_id, two.peer_id)
    assert not await one.authorities.send(two.peer_id, b"lost")
    assert await one.authorities.broadcast(b"lost") == 0
    hub.heal(one.peer_id, two.peer_id)
    assert await one.authorities.broadcast(b"again") == 1
    assert await frames.until(11)
    assert not await one.authorities.send(three.peer_id, b"no authority")


async def test_a_flooded_receiver_keeps_the_newest(nodes):
    hub, (one, *_) = nodes
    tight = MemoryNetwork(hub, config(7, limits=limits(authority_queue_frames=4)), DictBlocks())
    async with tight:
        frames = Frames()
        tight.authorities.set_handler(frames)
        for node in (one, tight):
            node.authorities.set_authorities([one.address, tight.address])
        for number in range(10):
            await one.authorities.send(tight.peer_id, b"%d" % number)
        assert [frame for _, frame in await frames.until(4)] == [b"6", b"7", b"8", b"9"]
        assert tight.stats.frames_dropped == 6


async def test_oversize_is_refused(nodes):
    _, (one, two, _) = nodes
    with pytest.raises(Rejection, match="frame, expected at most 4194304 bytes"):
        await one.authorities.send(two.peer_id, bytes((4 << 20) + 1))
    with pytest.raises(Rejection, match="announcement, expected at most 65536 bytes"):
        await one.publish("t", bytes(65537))
    assert one.stats.gossip_refused_size == 1


async def test_requests(nodes):
    _, (one, two, _) = nodes

    async def shout(peer, body):
        return peer.encode() + body.upper()

    async def stall(peer, body):
        await asyncio.Event().wait()

    two.authorities.set_request_handler("shout", shout)
    two.authorities.set_request_handler("stall", stall)
    assert await one.authorities.request(two.peer_id, "shout", b"hi") == one.peer_id.encode() + b"HI"
    with pytest.raises(NotFound, match="no requests of kind 'sing'"):
        await one.authorities.request(two.peer_id, "sing", b"")
    with pytest.raises(TimedOut):
        await one.authorities.request(two.peer_id, "stall", b"", timeout=0.01)


async def test_gossip_reaches_all_but_the_sender(nodes):
    _, (one, two, three) = nodes
    own, theirs, other = [await node.subscribe("t") for node in (one, two, three)]
    await one.publish("t", b"news")
    expected = GossipMessage(one.peer_id, "t", b"news")
    assert [await anext(theirs), await anext(other)] == [expected, expected]
    assert one.stats.gossip_received == 0
    await own.close()
    assert [message async for message in own] == []


async def test_a_block_is_found_and_fetched(nodes):
    _, (one, two, _) = nodes
    cid = two.source.add(b"weights" * 1000)
    assert await one.find_providers(cid) == []
    await two.provide(cid)
    providers = await one.find_providers(cid)
    assert providers == [two.address]
    assert await one.exchange.fetch(cid, providers) == b"weights" * 1000
    await two.discovery.unprovide(cid)
    assert await one.find_providers(cid) == []
    with pytest.raises(Unreachable):
        await one.exchange.fetch(cid, [PeerAddress(config_peer())])


def config_peer():
    from mpisa.network.peer_id import HostKey

    return HostKey(bytes([99]) * 32).peer_id
