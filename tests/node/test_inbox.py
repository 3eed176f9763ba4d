"""The engine's inbox: own events first, peers' within a bound."""

from __future__ import annotations

import asyncio

from consensus.events import AncestorsUnavailable, EpochAhead, PayloadWaiting, RangeEnded, TimerFired, TimerKind
from mpisa.node.inbox import Inbox
from mpisa.primitives.identifiers import AuthorityIndex, Epoch


async def test_own_events_come_before_peers() -> None:
    inbox = Inbox()
    ended = RangeEnded(AuthorityIndex(1))
    unavailable = AncestorsUnavailable((), AuthorityIndex(2))
    await inbox.offer(ended)
    inbox.post_timer(Epoch(0), TimerKind.ROUND)
    inbox.post_timer(Epoch(1), TimerKind.ROUND)
    inbox.post_timer(Epoch(0), TimerKind.ROUND)
    inbox.post_epoch_ahead()
    inbox.post_epoch_ahead()
    inbox.post_payload_waiting()
    inbox.post_payload_waiting()
    inbox.post(unavailable)
    assert len(inbox) == 6
    taken = [await inbox.take() for _ in range(6)]
    timers = [TimerFired(TimerKind.ROUND, Epoch(0)), TimerFired(TimerKind.ROUND, Epoch(1))]
    assert taken == [unavailable, PayloadWaiting(), *timers, EpochAhead(), ended]
    assert len(inbox) == 0


async def test_a_peer_waits_at_the_bound() -> None:
    inbox = Inbox(bound=2)
    events = [RangeEnded(AuthorityIndex(number)) for number in range(3)]
    await inbox.offer(events[0])
    await inbox.offer(events[1])
    blocked = asyncio.create_task(inbox.offer(events[2]))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not blocked.done()
    assert await inbox.take() == events[0]
    await blocked
    assert [await inbox.take(), await inbox.take()] == events[1:]


async def test_a_reader_wakes_when_something_comes() -> None:
    inbox = Inbox()
    reading = asyncio.create_task(inbox.take())
    await asyncio.sleep(0)
    inbox.post_payload_waiting()
    assert await reading == PayloadWaiting()
