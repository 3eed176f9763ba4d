"""Faults that a node applies to its own links: over real sockets and in memory alike."""

import asyncio

import pytest

from mpisa.network.gate import DelayLine, Gate
from mpisa.network.memory import MemoryHub, MemoryNetwork
from mpisa.network.ports import GossipMessage, LinkRule, NetworkStats
from mpisa.network.service import PeerNetwork
from mpisa.primitives.errors import TimedOut, Unreachable
from tests.network.support import DictBlocks, Frames, config, eventually, limits


async def echo(_peer, body):
    return body


def link(nodes):
    for node in nodes:
        node.authorities.set_authorities([other.address for other in nodes])
        node.authorities.set_request_handler("echo", echo)


@pytest.fixture
async def real():
    nodes = [PeerNetwork(config(1), DictBlocks())]
    await nodes[0].start()
    for number in (2, 3):
        addresses = tuple(f"{node.address.multiaddrs[0]}/p2p/{node.peer_id}" for node in nodes)
        nodes.append(PeerNetwork(config(number, bootstrap=addresses), DictBlocks()))
        await nodes[-1].start()
    link(nodes)
    await eventually(lambda: all(len(node.peers()) == 2 for node in nodes))
    await eventually(lambda: all(len(node.authorities.linked()) == 2 for node in nodes))
    yield nodes
    await asyncio.gather(*(node.stop() for node in nodes))


@pytest.fixture
async def in_memory():
    hub = MemoryHub()
    nodes = [MemoryNetwork(hub, config(number), DictBlocks()) for number in (1, 2, 3)]
    for node in nodes:
        await node.start()
    link(nodes)
    yield nodes
    for node in nodes:
        await node.stop()


@pytest.fixture(params=["real", "in_memory"])
def nodes(request):
    return request.getfixturevalue(request.param)


async def test_one_side_cuts_both_directions_and_heals(nodes):
    one, two, three = nodes
    await one.set_link_rules({two.peer_id: LinkRule(cut=True)})
    assert one.link_rules() == {two.peer_id: LinkRule(cut=True)}
    await eventually(lambda: [info.peer_id for info in one.peers()] == [three.peer_id])
    await eventually(lambda: [info.peer_id for info in two.peers()] == [three.peer_id])
    await eventually(lambda: two.authorities.linked() == one.authorities.linked() == {three.peer_id})
    assert not await two.authorities.send(one.peer_id, b"lost")
    for asker, asked in ((one, two), (two, one)):
        with pytest.raises(Unreachable):
            await asker.authorities.request(asked.peer_id, "echo", b"?", timeout=2)
    cid = two.source.add(b"kept apart") if isinstance(two, MemoryNetwork) else two._server._source.add(b"kept apart")
    with pytest.raises(Unreachable):
        await one.exchange.fetch(cid, [two.address], timeout=5)
    assert await three.exchange.fetch(cid, [two.address], timeout=5) == b"kept apart"
    await one.set_link_rules({})
    await eventually(lambda: two.peer_id in one.authorities.linked() and one.peer_id in two.authorities.linked())
    await eventually(lambda: len(one.peers()) == len(two.peers()) == 2)
    assert await two.authorities.request(one.peer_id, "echo", b"again") == b"again"


async def test_a_question_under_way_ends_when_the_link_is_cut(nodes):
    one, two, _ = nodes
    asked = asyncio.Event()

    async def never(_peer, _body):
        asked.set()
        await asyncio.Event().wait()

    two.authorities.set_request_handler("never", never)
    question = asyncio.create_task(one.authorities.request(two.peer_id, "never", b"", timeout=30))
    await asked.wait()
    await one.set_link_rules({two.peer_id: LinkRule(cut=True)})
    with pytest.raises(Unreachable):
        await asyncio.wait_for(question, 5)


async def test_delayed_frames_arrive_late_and_in_order(nodes):
    one, two, _ = nodes
    frames = Frames()
    two.authorities.set_handler(frames)
    await one.set_link_rules({two.peer_id: LinkRule(delay_ms=100, jitter_ms=50)})
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for number in range(20):
        assert await one.authorities.send(two.peer_id, b"%d" % number)
    await one.set_link_rules({})
    await one.authorities.send(two.peer_id, b"behind them")
    heard = await frames.until(21)
    assert heard == [(one.peer_id, b"%d" % number) for number in range(20)] + [(one.peer_id, b"behind them")]
    assert loop.time() - begun >= 0.1


async def test_what_is_dropped_is_gone_and_questions_time_out(nodes):
    one, two, _ = nodes
    frames = Frames()
    two.authorities.set_handler(frames)
    await one.set_link_rules({two.peer_id: LinkRule(drop_percent=100)})
    assert await one.authorities.send(two.peer_id, b"lost")
    with pytest.raises(TimedOut):
        await one.authorities.request(two.peer_id, "echo", b"?", timeout=0.1)
    with pytest.raises(TimedOut):  # the question arrives, the answer doesn't
        await two.authorities.request(one.peer_id, "echo", b"the other way", timeout=0.1)
    await two.authorities.send(one.peer_id, b"still heard")
    await one.set_link_rules({})
    await one.authorities.send(two.peer_id, b"kept")
    assert await frames.until(1) == [(one.peer_id, b"kept")]


async def test_gossip_goes_round_a_cut(real):
    one, two, three = real
    heard = await two.subscribe("news")
    await three.subscribe("news")
    await one.set_link_rules({two.peer_id: LinkRule(cut=True)})
    await eventually(lambda: [info.peer_id for info in one.peers()] == [three.peer_id])

    async def hear():
        while True:
            await one.publish("news", b"by way of three")
            try:
                return await asyncio.wait_for(anext(heard), 1)
            except TimeoutError:
                continue

    assert await asyncio.wait_for(hear(), 20) == GossipMessage(one.peer_id, "news", b"by way of three")


def test_loss_is_as_frequent_as_asked():
    gate = Gate()
    gate.set({"peer": LinkRule(drop_percent=30), "other": LinkRule()})
    assert list(gate.rules) == ["peer"]
    lost = sum(gate.loses("peer") for _ in range(10_000))
    assert 2_700 < lost < 3_300
    assert not any(gate.loses("other") for _ in range(100))


async def test_what_is_held_back_is_bounded_and_lost_with_the_link():
    gate, stats, sent = Gate(), NetworkStats(), []
    gate.set({"peer": LinkRule(delay_ms=60_000)})
    line = DelayLine(gate, "peer", limits(authority_queue_frames=3, authority_queue_bytes=25), stats, sent.append)
    for size in (1, 2, 3, 4):
        assert line.takes(b"f" * size)
    assert stats.frames_dropped == 1, "the oldest of four"
    assert line.takes(b"f" * 20)
    assert stats.frames_dropped == 3, "20 and 4 bytes fit"
    line.clear()
    assert (stats.frames_dropped, sent) == (5, [])
    gate.set({})
    assert not line.takes(b"at once")
