"""Events: order, bounds, gaps, ends."""

from __future__ import annotations

import pytest

from mpisa.node.events import MAX_SUBSCRIBERS, EventHub
from mpisa.node.views import Event, EventKind
from mpisa.primitives.errors import NotReady


async def test_a_subscriber_sees_what_comes_after_it_in_order() -> None:
    hub = EventHub()
    hub.publish(EventKind.BLOCK, {"height": 1})
    subscription = hub.subscribe()
    hub.publish(EventKind.BLOCK, {"height": 2})
    hub.publish(EventKind.CERTIFIED, {"height": 2})
    hub.close()
    assert [event async for event in subscription] == [
        Event(2, EventKind.BLOCK, {"height": 2}),
        Event(3, EventKind.CERTIFIED, {"height": 2}),
    ]


async def test_a_slow_subscriber_loses_the_oldest_and_is_told_how_many() -> None:
    hub = EventHub(queue_bound=3)
    subscription = hub.subscribe()
    for height in range(5):
        hub.publish(EventKind.BLOCK, {"height": height})
    hub.close()
    assert [(event.kind, event.data) async for event in subscription] == [
        (EventKind.GAP, {"lost": 2}),
        (EventKind.BLOCK, {"height": 2}),
        (EventKind.BLOCK, {"height": 3}),
        (EventKind.BLOCK, {"height": 4}),
    ]


async def test_a_group_is_told_event_by_event_and_loses_its_oldest_like_any_other() -> None:
    hub = EventHub(queue_bound=4)
    subscription = hub.subscribe()
    hub.publish(EventKind.BLOCK, {"height": 1})
    hub.publish_all(EventKind.TRANSACTION, "abcdef", lambda place, item: {"index": place, "hash": item})
    hub.publish_all(EventKind.TRANSACTION, (), lambda place, item: {})
    hub.publish(EventKind.CERTIFIED, {"height": 1})
    hub.close()
    assert [event async for event in subscription] == [
        Event(4, EventKind.GAP, {"lost": 4}),
        *(Event(5 + at, EventKind.TRANSACTION, {"index": 3 + at, "hash": name}) for at, name in enumerate("def")),
        Event(8, EventKind.CERTIFIED, {"height": 1}),
    ]


async def test_there_is_a_most_number_of_subscribers() -> None:
    hub = EventHub()
    subscriptions = [hub.subscribe() for _ in range(MAX_SUBSCRIBERS)]
    with pytest.raises(NotReady, match=f"{MAX_SUBSCRIBERS} subscribers listen already"):
        hub.subscribe()
    await subscriptions[0].aclose()
    hub.subscribe()
    assert [event async for event in subscriptions[0]] == []


async def test_a_closed_hub_ends_new_subscriptions_at_once() -> None:
    hub = EventHub()
    hub.close()
    assert [event async for event in hub.subscribe()] == []
