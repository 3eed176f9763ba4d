import asyncio

from mpisa.network.ports import GossipMessage, NetworkStats, PeerId
from mpisa.network.subscriptions import SubscriptionTable


def message(number: int, topic: str = "t") -> GossipMessage:
    return GossipMessage(PeerId("p"), topic, b"%d" % number)


async def test_a_full_queue_drops_the_oldest_and_counts():
    stats = NetworkStats()
    table = SubscriptionTable(3, stats)
    subscription = table.open("t")
    for number in range(5):
        table.deliver(message(number))
    assert [(await anext(subscription)).data for _ in range(3)] == [b"2", b"3", b"4"]
    assert (subscription.dropped, stats.gossip_dropped_queue, stats.gossip_received) == (2, 2, 5)


async def test_each_subscriber_has_its_own_queue_and_closing_ends_it():
    left: list[str] = []
    table = SubscriptionTable(3, NetworkStats(), left.append)
    one, other = table.open("t"), table.open("t")
    table.deliver(message(1))
    table.deliver(message(2, "elsewhere"))
    assert (await anext(one)).data == (await anext(other)).data == b"1"
    waiting = asyncio.ensure_future(anext(one, None))
    await one.close()
    assert await waiting is None
    assert left == []
    await other.close()
    await other.close()
    assert (left, table.topics()) == (["t"], ())
