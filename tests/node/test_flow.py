"""Batches and streams at a desk whose chain the test moves: who hears what, when a sender is slowed down."""

from __future__ import annotations

import asyncio

from mpisa.node.flow import Batch, Flow
from mpisa.node.views import StreamAnswer, TransactionState, TransactionStatus, WaitFor
from mpisa.node.waiting import Entry, Listener, Waiting
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.receipt import Receipt, ReceiptStatus

ACCEPTED, ORDERED, CERTIFIED = TransactionState.ACCEPTED, TransactionState.ORDERED, TransactionState.CERTIFIED


class Desk:
    """Takes everything but b"bad"; `order` and `certify` are the chain."""

    def __init__(self) -> None:
        self.waiting = Waiting()

    async def hand_in(
        self, raw: bytes, until: WaitFor, listener: Listener, token: int
    ) -> tuple[TransactionStatus, Entry | None]:
        if raw == b"bad":
            raise Rejection(RejectionReason.MALFORMED, "bad")
        status = TransactionStatus(raw, ACCEPTED)
        return status, None if until is WaitFor.ACCEPTED else self.waiting.add(raw, until, listener, token, None)

    def forget(self, entry: Entry) -> None:
        self.waiting.forget(entry)

    def order(self, *raws: bytes, height: int = 1, receipt: Receipt | None = None) -> None:
        state = ORDERED if receipt is None else TransactionState.REJECTED
        for index, raw in enumerate(raws):
            self.waiting.ordered(TransactionStatus(raw, state, height, index, receipt))


async def test_a_stream_groups_what_happens_by_state_and_block() -> None:
    desk = Desk()
    flow = Flow(desk, WaitFor.CERTIFIED)
    for raw in (b"a", b"b", b"bad", b"c"):
        await flow.offer(raw)
    desk.order(b"a", b"c", height=7)
    answers = await flow.answers(1.0)
    assert answers is not None
    assert answers[:2] == [StreamAnswer((0, 1, 3), ACCEPTED), StreamAnswer((0, 3), ORDERED, 7)]
    assert [(answer.transactions, str(answer.error)) for answer in answers[2:]] == [((2,), "malformed: bad")]
    desk.order(b"b", height=8)
    desk.waiting.certified(8)
    assert await flow.answers(1.0) == [
        StreamAnswer((1,), ORDERED, 8),
        StreamAnswer((0, 3), CERTIFIED, 7),
        StreamAnswer((1,), CERTIFIED, 8),
    ]
    flow.finish()
    assert await flow.answers(1.0) is None
    assert len(desk.waiting) == 0


async def test_a_rejected_one_is_told_once_it_is_final() -> None:
    desk = Desk()
    flow = Flow(desk, WaitFor.CERTIFIED)
    await flow.offer(b"a")
    assert await flow.answers(1.0) == [StreamAnswer((0,), ACCEPTED)]
    receipt = Receipt(b"a", ReceiptStatus.REJECTED, RejectionReason.EXPIRED)
    desk.order(b"a", height=3, receipt=receipt)
    assert await flow.answers(0.0) == []
    desk.waiting.certified(3)
    assert await flow.answers(1.0) == [StreamAnswer((0,), TransactionState.REJECTED, 3, receipt)]


async def test_a_sender_is_slowed_down_by_what_is_unanswered() -> None:
    desk = Desk()
    flow = Flow(desk, WaitFor.ORDERED, window=2)
    await flow.offer(b"a")
    await flow.offer(b"b")
    third = asyncio.create_task(flow.offer(b"c"))
    await asyncio.sleep(0)
    assert (third.done(), flow.unanswered) == (False, 2)
    desk.order(b"a")
    await third
    assert flow.unanswered == 2


async def test_a_sender_that_reads_no_answers_is_slowed_down(monkeypatch: object) -> None:
    from mpisa.node import flow as module

    desk = Desk()
    flow = Flow(desk, WaitFor.ACCEPTED)
    for _ in range(module.MAX_GATHERED):
        await flow.offer(b"bad")
    waiting = asyncio.create_task(flow.offer(b"a"))
    await asyncio.sleep(0)
    assert not waiting.done()
    taken = await flow.answers(1.0)
    assert taken is not None
    assert len(taken) == module.MAX_GATHERED
    await waiting


async def test_a_stream_ends_when_all_is_answered_and_one_that_is_closed_waits_for_nothing() -> None:
    desk = Desk()
    flow = Flow(desk, WaitFor.CERTIFIED)
    await flow.offer(b"a")
    flow.finish()
    assert await flow.answers(1.0) == [StreamAnswer((0,), ACCEPTED)]
    assert await flow.answers(0.0) == []
    flow.close()
    assert await flow.answers(1.0) is None
    assert len(desk.waiting) == 0


async def test_what_is_dropped_from_the_pool_has_its_reason() -> None:
    desk = Desk()
    flow = Flow(desk, WaitFor.CERTIFIED)
    await flow.offer(b"a")
    await flow.answers(1.0)
    reason = Rejection(RejectionReason.EXPIRED, "too late")
    desk.waiting.failed(b"a", reason)
    assert await flow.answers(1.0) == [StreamAnswer((0,), error=reason)]
    flow.finish()
    assert await flow.answers(1.0) is None


async def test_a_batch_is_answered_whole_and_in_order() -> None:
    desk = Desk()
    batch = Batch(desk, 3, WaitFor.CERTIFIED)
    running = asyncio.create_task(batch.run([b"a", b"bad", b"b"], 10.0))
    await asyncio.sleep(0)
    desk.order(b"a", b"b", height=2)
    await asyncio.sleep(0)
    assert not running.done()
    desk.waiting.certified(2)
    await running
    assert batch.results[0] == TransactionStatus(b"a", CERTIFIED, 2, 0)
    assert str(batch.results[1]) == "malformed: bad"
    assert batch.results[2] == TransactionStatus(b"b", CERTIFIED, 2, 1)


async def test_a_batch_that_runs_out_of_time_leaves_no_waiters() -> None:
    desk = Desk()
    batch = Batch(desk, 2, WaitFor.ORDERED)
    running = asyncio.create_task(batch.run([b"a", b"b"], 0.01))
    await asyncio.sleep(0)
    desk.order(b"b")
    await running
    assert batch.results == [None, TransactionStatus(b"b", ORDERED, 1, 0)]
    assert len(desk.waiting) == 0
