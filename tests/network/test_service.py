"""The real thing: libp2p hosts and peer ports of several nodes, on loopback, in one process."""

import asyncio
import threading
from dataclasses import replace

import pytest

from mpisa.network.peer_id import HostKey
from mpisa.network.ports import GossipMessage, PeerAddress
from mpisa.network.service import PeerNetwork
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import NotFound, Rejection, RejectionReason, TimedOut, Unreachable
from tests.network.support import DictBlocks, Frames, config, eventually, limits


def make(number: int, *bootstrap: PeerNetwork, **changes) -> PeerNetwork:
    addresses = tuple(f"{node.address.multiaddrs[0]}/p2p/{node.peer_id}" for node in bootstrap)
    network = PeerNetwork(config(number, bootstrap=addresses, **changes), DictBlocks())
    network.blocks = network._server._source
    return network


@pytest.fixture
async def trio_of_nodes():
    """Three nodes that know each other by the first."""
    nodes = [make(1)]
    await nodes[0].start()
    for number in (2, 3):
        nodes.append(make(number, *nodes))
        await nodes[-1].start()
    await eventually(lambda: all(len(node.peers()) == 2 for node in nodes))
    yield nodes
    await asyncio.gather(*(node.stop() for node in nodes))


async def test_nodes_meet_and_part(trio_of_nodes):
    one, two, three = trio_of_nodes
    assert one.peer_id == HostKey(bytes([1]) * 32).peer_id
    info = one.peers()[0]
    assert (info.connected, info.version, info.authority_link) == (True, "test/1", None)
    known = {info.peer_id: info.address for info in one.peers()}
    assert known == {two.peer_id: two.address, three.peer_id: three.address}
    gone = []
    one.set_peer_observer(lambda info: gone.append((info.peer_id, info.connected)))
    await three.stop()
    await eventually(lambda: gone == [(three.peer_id, False)])
    with pytest.raises(Unreachable):
        await three.publish("t", b"stopped")


async def test_a_provided_block_is_found_and_fetched_with_its_peer_port(trio_of_nodes):
    one, _, three = trio_of_nodes
    cid = one.blocks.add(b"weights" * 100_000)
    assert await three.find_providers(cid) == []
    await one.provide(cid)
    assert (one.stats.provides, one.stats.provides_failed) == (1, 0)
    providers = await three.find_providers(cid)
    assert providers == [one.address]
    assert await three.exchange.fetch(cid, providers) == b"weights" * 100_000
    assert await one.find_providers(cid) == [], "never ourselves"
    with pytest.raises(NotFound):
        await three.exchange.fetch(Cid.of(b"other"), providers)


async def test_a_peer_that_only_the_dht_names_is_asked_for_its_port(trio_of_nodes):
    one, _, three = trio_of_nodes
    newcomer = make(4, one)
    async with newcomer:
        cid = newcomer.blocks.add(b"rare")
        await eventually(lambda: newcomer.peers() != [])
        await newcomer.provide(cid)
        providers = await three.find_providers(cid)
        assert providers == [newcomer.address]
        assert newcomer.peer_id in {info.peer_id for info in three.peers()}


async def test_gossip_in_a_burst_reaches_everybody(trio_of_nodes):
    one, two, three = trio_of_nodes
    heard = [await node.subscribe("news") for node in (two, three)]
    own = await one.subscribe("news")
    await _until_heard(one, heard)
    for number in range(300):
        await one.publish("news", b"%d" % number + bytes(500))
    for subscription in heard:
        numbers = set()
        async with asyncio.timeout(20):
            while len(numbers) < 300:
                message = await anext(subscription)
                assert (message.peer, message.topic) == (one.peer_id, "news")
                if message.data != b"warm":
                    numbers.add(message.data.rstrip(b"\0"))
        assert numbers == {b"%d" % number for number in range(300)}
    assert len(own) == 0, "what we said ourselves isn't news"


async def test_gossip_bounds(trio_of_nodes):
    one, *_ = trio_of_nodes
    with pytest.raises(Rejection, match="announcement, expected at most 65536 bytes, got 65537"):
        await one.publish("news", bytes(65537))
    listener = make(5, one, limits=limits(gossip_rate=0.0, gossip_burst=5, max_gossip_bytes=100))
    async with listener:
        await eventually(lambda: listener.peers() != [])
        subscription = await listener.subscribe("flood")
        await one.subscribe("flood")
        await _until_heard(one, [subscription], "flood")
        await one.publish("flood", bytes(101))
        for number in range(20):
            await one.publish("flood", b"%d" % number)
        await eventually(lambda: listener.snapshot().gossip_dropped_rate >= 15)
        assert listener.snapshot().gossip_oversized >= 1
        assert listener.stats.gossip_received <= 5


async def _until_heard(sender: PeerNetwork, subscriptions, topic: str = "news") -> None:
    """Publishes until each subscription hears it: the mesh has formed."""
    for subscription in subscriptions:
        async with asyncio.timeout(20):
            waiting = asyncio.ensure_future(anext(subscription))
            while not waiting.done():
                await sender.publish(topic, b"warm")
                await asyncio.wait([waiting], timeout=0.1)
        while len(subscription):
            await anext(subscription)


async def test_another_chain_is_told_and_disconnected(trio_of_nodes):
    one, *_ = trio_of_nodes
    foreign = make(6, chain_hash=b"x" * 32)
    async with foreign:
        address = PeerAddress(one.peer_id, one.address.multiaddrs)
        with pytest.raises(Rejection, match=r"^wrong-chain: .*expected chain 7878.*, got 6363") as caught:
            await foreign.connect(address)
        assert caught.value.reason is RejectionReason.WRONG_CHAIN
        await eventually(lambda: one.stats.peers_wrong_chain == 1)
        assert foreign.peer_id not in {info.peer_id for info in one.peers()}
        await eventually(lambda: foreign._host._engine._connected == set())


async def test_authority_frames_and_requests_fall_back_to_libp2p(trio_of_nodes):
    one, two, _ = trio_of_nodes
    frames = Frames()
    two.authorities.set_handler(frames)

    async def echo(peer, body):
        if body == b"refuse":
            raise Rejection(RejectionReason.WRONG_EPOCH, "no")
        return peer.encode() + body

    two.authorities.set_request_handler("echo", echo)
    for node in (one, two):
        node.authorities.set_authorities([one.address, two.address])
    await eventually(lambda: one.authorities.carrier(two.peer_id) == "tls")
    await two._server.stop()
    await eventually(lambda: one.authorities.carrier(two.peer_id) == "libp2p")
    for number in range(50):
        assert await one.authorities.send(two.peer_id, b"%d" % number + bytes(5000))
    assert [frame.rstrip(b"\0") for _, frame in await frames.until(50)] == [b"%d" % number for number in range(50)]
    assert await one.authorities.request(two.peer_id, "echo", b"!") == one.peer_id.encode() + b"!"
    with pytest.raises(Rejection, match=r"^wrong-epoch: no$"):
        await one.authorities.request(two.peer_id, "echo", b"refuse")
    with pytest.raises(NotFound, match="no requests of kind 'other'"):
        await one.authorities.request(two.peer_id, "other", b"")


async def test_a_node_that_comes_back_is_met_again_from_the_peer_store(trio_of_nodes, tmp_path):
    one, *_ = trio_of_nodes
    path = tmp_path / "peers.json"
    first = make(7, one, peer_store=path)
    async with first:
        await eventually(lambda: len(first.peers()) >= 1)
    assert path.exists()
    again = make(7, peer_store=path)
    async with again:
        await eventually(lambda: one.peer_id in {info.peer_id for info in again.peers()})


async def test_a_node_that_nobody_hears_announces_once_it_is_heard():
    lonely = make(8)
    async with lonely:
        cid = lonely.blocks.add(b"lonely block")
        await lonely.provide(cid)
        assert (lonely.stats.provides, lonely.stats.provides_failed) == (0, 1)
        assert lonely.discovery.lag == 0.0
        async with make(9, lonely) as company:
            await eventually(lambda: lonely.stats.provides == 1)
            assert await company.find_providers(cid) == [lonely.address]
            await lonely.discovery.unprovide(cid)


async def test_a_private_network_keeps_others_out():
    key = bytes(range(32))
    inside = make(10, pre_shared_key=key)
    async with inside:
        async with make(11, inside, pre_shared_key=key) as member:
            await eventually(lambda: member.peers() != [] and inside.peers() != [])
        async with make(12, limits=limits(connect_timeout=0.5)) as outsider:
            with pytest.raises((Unreachable, TimedOut)):
                await outsider.connect(inside.address)


async def test_stopping_leaves_no_thread_and_no_task():
    before = set(threading.enumerate())
    node = make(13)
    async with node, make(14, node) as other:
        await eventually(lambda: other.peers() != [] and node.peers() != [])
        await node.subscribe("t")
    await node.stop()
    left = {
        thread for thread in threading.enumerate() if thread not in before and not thread.name.startswith("asyncio")
    }
    assert left == set()
    tasks = {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}
    assert tasks == set()


async def test_a_taken_port_is_said_and_leaves_nothing_running():
    async with make(15) as node:
        port = int(node.address.peer_url.rpartition(":")[2])
        second = PeerNetwork(replace(config(16), peer_port=port), DictBlocks())
        with pytest.raises(OSError, match="address already in use"):
            await second.start()
        libp2p_port = int(node.address.multiaddrs[0].rpartition("/")[2])
        third = PeerNetwork(replace(config(17), libp2p_port=libp2p_port), DictBlocks())
        with pytest.raises(OSError, match="the libp2p host can't listen"):
            await third.start()


def test_messages_are_what_they_say():
    assert GossipMessage(HostKey(bytes([1]) * 32).peer_id, "t", b"d").data == b"d"
