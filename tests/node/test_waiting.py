"""Who waits is told once, in the right order, and the bound holds."""

from __future__ import annotations

import pytest

from mpisa.node.views import TransactionState, TransactionStatus, WaitFor
from mpisa.node.waiting import Waiting
from mpisa.primitives.errors import MpisaError, NotReady, Rejection, RejectionReason

ORDERED, CERTIFIED = TransactionState.ORDERED, TransactionState.CERTIFIED


class Recorder:
    def __init__(self) -> None:
        self.heard: list[tuple[int, object]] = []

    def reached(self, token: int, status: TransactionStatus) -> None:
        self.heard.append((token, status.status))

    def failed(self, token: int, error: MpisaError) -> None:
        self.heard.append((token, error.message))


def test_ordered_then_certified() -> None:
    waiting, who = Waiting(), Recorder()
    waiting.add(b"x", WaitFor.CERTIFIED, who, 0, None)
    waiting.add(b"x", WaitFor.ORDERED, who, 1, None)
    waiting.ordered(TransactionStatus(b"x", ORDERED, 5, 0))
    assert who.heard == [(0, ORDERED), (1, ORDERED)]
    assert len(waiting) == 1
    waiting.certified(4)
    waiting.certified(6)
    assert who.heard[2:] == [(0, CERTIFIED)]
    assert len(waiting) == 0


def test_what_is_ordered_already_waits_for_its_certificate() -> None:
    waiting, who = Waiting(), Recorder()
    waiting.add(b"x", WaitFor.CERTIFIED, who, 0, TransactionStatus(b"x", ORDERED, 5, 0))
    assert not waiting.is_waited_for(b"x")
    waiting.certified(5)
    assert who.heard == [(0, CERTIFIED)]


def test_who_was_forgotten_hears_nothing() -> None:
    waiting, who = Waiting(), Recorder()
    pooled = waiting.add(b"x", WaitFor.CERTIFIED, who, 0, None)
    ordered = waiting.add(b"y", WaitFor.CERTIFIED, who, 1, TransactionStatus(b"y", ORDERED, 5, 0))
    for entry in (pooled, ordered, pooled):
        waiting.forget(entry)
    assert len(waiting) == 0
    assert not waiting.is_waited_for(b"x")
    waiting.certified(5)
    assert who.heard == []


def test_failures_and_the_end_are_told() -> None:
    waiting, who = Waiting(), Recorder()
    waiting.add(b"x", WaitFor.CERTIFIED, who, 0, None)
    waiting.add(b"y", WaitFor.ORDERED, who, 1, None)
    waiting.add(b"z", WaitFor.CERTIFIED, who, 2, TransactionStatus(b"z", ORDERED, 5, 0))
    waiting.failed(b"x", Rejection(RejectionReason.EXPIRED, "late"))
    waiting.close()
    assert who.heard == [(0, "expired: late"), (1, "the node is stopping"), (2, "the node is stopping")]
    assert len(waiting) == 0


def test_the_bound_holds() -> None:
    waiting, who = Waiting(bound=1), Recorder()
    waiting.add(b"x", WaitFor.CERTIFIED, who, 0, None)
    with pytest.raises(NotReady) as caught:
        waiting.add(b"y", WaitFor.CERTIFIED, who, 1, None)
    assert str(caught.value) == "transaction 79 is accepted, but 1 others are waited for already"
