"""What peers want of us: bounded a peer and in all, urgent wants first, nothing left behind."""

import asyncio

import pytest

from mpisa.network.bitswap.ledger import Ledger
from mpisa.network.bitswap.messages import Entry, WantType
from mpisa.network.bitswap.wants import Wants
from mpisa.network.ports import PeerId
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import NotFound, Unreachable

ANN, BOB, EVE = map(PeerId, ("ann", "bob", "eve"))
CIDS = [Cid.of(bytes([number])) for number in range(20)]


def test_urgent_wants_come_first_and_stay_until_they_are_answered():
    ledger = Ledger(10, 2)
    entries = [Entry(cid, priority) for cid, priority in zip(CIDS[:4], (1, 9, 5, 9), strict=True)]
    assert ledger.receive(ANN, entries, full=False) == 0
    assert ledger.next(ANN, 3) == [entries[1], entries[3], entries[2]]
    ledger.answered(ANN, ledger.next(ANN, 3))
    assert ledger.next(ANN, 3) == [entries[0]]
    ledger.answered(ANN, entries)
    assert len(ledger) == 0


def test_a_want_that_was_changed_while_it_was_answered_stays():
    ledger = Ledger(10, 2)
    have, block = Entry(CIDS[0], want=WantType.HAVE), Entry(CIDS[0])
    ledger.receive(ANN, [have], full=False)
    ledger.receive(ANN, [block], full=False)
    ledger.answered(ANN, [have])
    assert ledger.next(ANN, 5) == [block]


def test_cancelling_and_full_lists():
    ledger = Ledger(10, 2)
    ledger.receive(ANN, map(Entry, CIDS[:3]), full=False)
    ledger.receive(ANN, [Entry(CIDS[1], cancel=True), Entry(CIDS[9], cancel=True)], full=False)
    assert ledger.next(ANN, 9) == [Entry(CIDS[0]), Entry(CIDS[2])]
    ledger.receive(ANN, [Entry(CIDS[5])], full=True)
    assert ledger.next(ANN, 9) == [Entry(CIDS[5])]
    ledger.receive(ANN, [], full=True)
    assert (ledger.next(ANN, 9), len(ledger)) == ([], 0)


def test_wants_are_bounded_a_peer_and_peers_in_all():
    ledger = Ledger(4, 2)
    assert ledger.receive(ANN, map(Entry, CIDS), full=False) == 16
    assert ledger.receive(ANN, map(Entry, CIDS[:4]), full=False) == 0
    assert ledger.receive(BOB, map(Entry, CIDS[:2]), full=False) == 0
    assert ledger.receive(EVE, map(Entry, CIDS[:2]), full=False) == 2
    assert (ledger.next(EVE, 9), len(ledger)) == ([], 2)
    ledger.forget(ANN)
    assert ledger.receive(EVE, map(Entry, CIDS[:2]), full=False) == 0
    ledger.forget(BOB)
    ledger.forget(EVE)
    assert len(ledger) == 0


async def test_a_block_goes_to_all_who_asked_that_peer_for_it_and_to_nobody_else():
    wants, loop = Wants(), asyncio.get_running_loop()
    first, second, other = loop.create_future(), loop.create_future(), loop.create_future()
    assert wants.add(ANN, CIDS[0], first)
    assert not wants.add(ANN, CIDS[0], second)
    assert wants.add(BOB, CIDS[0], other)
    assert not wants.arrived(EVE, CIDS[0], b"x")
    assert not wants.arrived(ANN, CIDS[1], b"x")
    assert wants.arrived(ANN, CIDS[0], b"x")
    assert (first.result(), second.result(), other.done()) == (b"x", b"x", False)
    wants.absent(BOB, CIDS[0])
    with pytest.raises(NotFound):
        other.result()
    assert len(wants) == 0


async def test_the_last_who_gives_up_cancels():
    wants, loop = Wants(), asyncio.get_running_loop()
    first, second, third = loop.create_future(), loop.create_future(), loop.create_future()
    wants.add(ANN, CIDS[0], first)
    wants.add(ANN, CIDS[0], second)
    assert not wants.drop(ANN, CIDS[0], first)
    assert wants.drop(ANN, CIDS[0], second)
    assert not wants.drop(ANN, CIDS[0], second)
    assert not wants.wanted(ANN)
    wants.add(ANN, CIDS[0], third)
    wants.gone(ANN)
    with pytest.raises(Unreachable):
        third.result()
    assert len(wants) == 0
