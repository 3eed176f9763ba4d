import asyncio

import pytest
import trio

from mpisa.network.libp2p_host.portal import Portal
from mpisa.primitives.errors import NotFound, Unreachable


@pytest.fixture
async def portal():
    async def main(portal):
        portal.ready()
        await portal.wait_stop()

    made = Portal(asyncio.get_running_loop(), main)
    await made.start()
    yield made
    await made.stop()


async def test_calls_cross_with_their_results_and_errors(portal):
    async def divide(one, other):
        await trio.sleep(0)
        return one // other

    assert await portal.call(divide, 9, 3) == 3
    with pytest.raises(ZeroDivisionError):
        await portal.call(divide, 9, 0)
    assert await asyncio.gather(*(portal.call(divide, number, 1) for number in range(50))) == list(range(50))


async def test_a_cancelled_call_is_cancelled_in_trio(portal):
    cancelled = asyncio.Event()

    async def forever():
        try:
            await trio.sleep_forever()
        finally:
            portal.notify(cancelled.set)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await portal.call(forever)
    await asyncio.wait_for(cancelled.wait(), 10)


async def test_trio_asks_asyncio(portal):
    async def answer(word):
        await asyncio.sleep(0)
        if word == "no":
            raise NotFound("nothing")
        return word.upper()

    async def ask(word):
        return await portal.ask(answer, word)

    assert await portal.call(ask, "yes") == "YES"
    with pytest.raises(NotFound, match=r"^nothing$"):
        await portal.call(ask, "no")


async def test_a_question_whose_asker_is_cancelled_is_cancelled(portal):
    cancelled = asyncio.Event()

    async def stall():
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def ask():
        with trio.move_on_after(0.01):
            await portal.ask(stall)
        return "moved on"

    assert await portal.call(ask) == "moved on"
    await asyncio.wait_for(cancelled.wait(), 10)


async def test_after_stop_calls_are_unreachable_and_open_ones_end(portal):
    waiting = asyncio.ensure_future(portal.call(trio.sleep_forever))
    await portal.call(trio.sleep, 0)
    await portal.stop()
    with pytest.raises(Unreachable, match="the libp2p host has ended"):
        await waiting
    with pytest.raises(Unreachable):
        await portal.call(trio.sleep, 0)


async def test_a_main_that_fails_says_why_at_start():
    async def main(portal):
        raise OSError("no such address")

    made = Portal(asyncio.get_running_loop(), main)
    with pytest.raises(OSError, match=r"^no such address$"):
        await made.start()
    await made.stop()
