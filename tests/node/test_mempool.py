"""The pool: nonce order, gaps, bounds, what leaves and what comes back."""

from __future__ import annotations

import pytest

from mpisa.node.lazy_heap import SLACK
from mpisa.node.mempool import Mempool, MempoolLimits, PooledTransaction, replacement_fee
from mpisa.primitives.digest import sha256
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.identifiers import Address

ALICE, BOB, CAROL = Address(b"a" * 20), Address(b"b" * 20), Address(b"c" * 20)
MANY = 1_000


def transaction(
    sender: Address, nonce: int, *, size: int = 100, expires_ms: int = 10_000, fee: int = 0
) -> PooledTransaction:
    raw = (sender + nonce.to_bytes(8, "big") + fee.to_bytes(8, "big")).ljust(size, b".")
    return PooledTransaction(sha256(b"hash", raw), sha256(raw), sender, nonce, expires_ms, raw, fee)


def pool_of(*transactions: PooledTransaction, limits: MempoolLimits | None = None) -> Mempool:
    pool = Mempool(limits or MempoolLimits())
    for item in transactions:
        pool.add(item, 0)
    return pool


def take(pool: Mempool, max_bytes: int = 1 << 20, count: int = MANY, at: int = 1) -> list[tuple[Address, int]]:
    return [(item.sender, item.nonce) for item in pool.take(max_bytes, 5, count, at)]


def refusal(pool: Mempool, item: PooledTransaction, state_nonce: int = 0) -> Rejection:
    with pytest.raises(Rejection) as caught:
        pool.add(item, state_nonce)
    return caught.value


def test_an_account_leaves_in_nonce_order_and_accounts_take_turns() -> None:
    pool = pool_of(*(transaction(ALICE, n) for n in (2, 0, 1)), transaction(BOB, 0), transaction(BOB, 1))
    assert take(pool) == [(ALICE, 0), (BOB, 0), (ALICE, 1), (BOB, 1), (ALICE, 2)]
    assert take(pool) == []
    assert pool.in_flight == len(pool) == 5


def test_a_gap_is_held_until_it_is_filled() -> None:
    pool = pool_of(transaction(ALICE, 0), transaction(ALICE, 2))
    assert take(pool) == [(ALICE, 0)]
    assert (pool.has_waiting, pool.pending_nonce(ALICE, 0)) == (False, 1)
    pool.add(transaction(ALICE, 1), 0)
    assert pool.pending_nonce(ALICE, 0) == 3
    assert take(pool) == [(ALICE, 1), (ALICE, 2)]


def test_the_same_transaction_again_is_not_added_twice() -> None:
    pool = pool_of(transaction(ALICE, 0))
    assert pool.add(transaction(ALICE, 0), 0) == []
    assert (len(pool), pool.size) == (1, 100)


def test_a_used_or_taken_nonce_is_refused() -> None:
    pool = pool_of(transaction(ALICE, 0))
    other = transaction(ALICE, 0, size=101)
    assert str(refusal(pool, other)) == (
        "replayed: nonce 0 is taken, the next free one is 1; a fee of 1 would replace it"
    )
    take(pool)
    dearer = transaction(ALICE, 0, fee=9)
    assert str(refusal(pool, dearer)) == "replayed: nonce 0 is taken, the next free one is 1"
    assert refusal(pool_of(), transaction(ALICE, 3), 4).reason is RejectionReason.REPLAYED


def test_the_gap_is_refused_at_its_bound() -> None:
    pool = pool_of(transaction(ALICE, 0), limits=MempoolLimits(nonce_gap=2))
    pool.add(transaction(ALICE, 3), 0)
    assert str(refusal(pool, transaction(ALICE, 4))) == "nonce-gap: nonce 4 is too far ahead, expected 1 to 3"


def test_the_highest_fee_goes_first_and_an_account_stays_in_order() -> None:
    pool = pool_of(
        transaction(ALICE, 0, fee=1), transaction(ALICE, 1, fee=9), transaction(BOB, 0, fee=5), transaction(BOB, 1)
    )
    assert take(pool) == [(BOB, 0), (ALICE, 0), (ALICE, 1), (BOB, 1)]


@pytest.mark.parametrize(("fee", "least"), [(0, 1), (1, 2), (9, 10), (10, 11), (11, 13), (1000, 1100), (1001, 1102)])
def test_a_fee_must_be_raised_by_a_tenth(fee: int, least: int) -> None:
    assert replacement_fee(fee) == least
    pool = pool_of(transaction(ALICE, 0, fee=fee))
    assert refusal(pool, transaction(ALICE, 0, fee=least - 1, size=101)).reason is RejectionReason.REPLAYED
    assert [item.reason.reason for item in pool.add(transaction(ALICE, 0, fee=least), 0)] == [RejectionReason.REPLAYED]


def test_a_replaced_transaction_leaves_with_the_reason_and_its_place_is_kept() -> None:
    cheap, later = transaction(ALICE, 0, fee=1), transaction(ALICE, 1)
    dear = transaction(ALICE, 0, fee=2, size=120)
    pool = pool_of(cheap, later)
    (left,) = pool.add(dear, 0)
    assert (left.hash, str(left.reason)) == (
        cheap.hash,
        f"replayed: nonce 0 was taken over by {dear.hash.hex()}, which offers a fee of 2",
    )
    assert (len(pool), pool.size, pool.pending_nonce(ALICE, 0)) == (2, 220, 2)
    assert take(pool) == [(ALICE, 0), (ALICE, 1)]
    assert pool.at_nonce(ALICE, 0) is dear


def test_the_only_transaction_of_an_account_can_be_replaced() -> None:
    pool = pool_of(transaction(ALICE, 0), transaction(BOB, 0))
    pool.add(transaction(ALICE, 0, fee=3), 0)
    assert take(pool) == [(ALICE, 0), (BOB, 0)]


def test_a_full_pool_drops_the_lowest_fee_for_a_higher_one() -> None:
    pool = pool_of(
        transaction(ALICE, 0, fee=5), transaction(BOB, 0, fee=2), transaction(BOB, 1, fee=9), limits=MempoolLimits(3)
    )
    assert refusal(pool, transaction(CAROL, 0, fee=2)).reason is RejectionReason.MEMPOOL_FULL
    (left,) = pool.add(transaction(CAROL, 0, fee=3), 0)
    assert left.hash == transaction(BOB, 1, fee=9).hash  # the last of the account that offers least: no gap
    assert str(left.reason) == (
        "mempool-full: the pool is full, and a fee of 9 was among the lowest; it made room for one of 3"
    )
    assert take(pool) == [(ALICE, 0), (CAROL, 0), (BOB, 0)]


def test_of_equal_fees_the_latest_makes_room() -> None:
    pool = pool_of(transaction(ALICE, 0, fee=1), transaction(BOB, 0, fee=1), limits=MempoolLimits(2))
    assert [item.hash for item in pool.add(transaction(CAROL, 0, fee=2), 0)] == [transaction(BOB, 0, fee=1).hash]


def test_several_leave_for_one_that_is_large() -> None:
    limits = MempoolLimits(size=300)
    pool = pool_of(*(transaction(ALICE, n, fee=1) for n in range(3)), limits=limits)
    left = pool.add(transaction(BOB, 0, fee=2, size=150), 0)
    assert [item.hash for item in left] == [transaction(ALICE, n, fee=1).hash for n in (2, 1)]
    assert pool.size == 250


def test_what_is_in_flight_never_makes_room() -> None:
    pool = pool_of(transaction(ALICE, 0), limits=MempoolLimits(1))
    take(pool)
    assert refusal(pool, transaction(BOB, 0, fee=9)).reason is RejectionReason.MEMPOOL_FULL
    pool.requeue_all()
    assert len(pool.add(transaction(BOB, 0, fee=9), 0)) == 1


def test_an_account_does_not_push_out_what_its_own_transaction_needs() -> None:
    pool = pool_of(transaction(ALICE, 0), limits=MempoolLimits(1))
    assert refusal(pool, transaction(ALICE, 1, fee=9)).reason is RejectionReason.MEMPOOL_FULL
    assert take(pool) == [(ALICE, 0)]


def test_what_left_long_ago_takes_no_memory() -> None:
    pool = pool_of()
    for nonce in range(3_000):
        item = transaction(ALICE, nonce, expires_ms=1 << 40)
        pool.add(item, nonce)
        take(pool)
        pool.executed([item], [(ALICE, nonce + 1)])
    assert len(pool) == 0
    assert max(len(heap) for heap in (pool._heads, pool._cheapest, pool._expiries)) <= SLACK


@pytest.mark.parametrize(
    ("limits", "fits"),
    [
        (MempoolLimits(transactions=3), 3),
        (MempoolLimits(size=250), 2),
        (MempoolLimits(per_account=4), 4),
    ],
)
def test_the_pool_is_full_at_each_bound(limits: MempoolLimits, fits: int) -> None:
    pool = pool_of(limits=limits)
    for nonce in range(fits):
        pool.add(transaction(ALICE, nonce), 0)
    assert refusal(pool, transaction(ALICE, fits)).reason is RejectionReason.MEMPOOL_FULL
    assert len(pool) == fits


def test_a_payload_is_bounded_by_bytes_and_count() -> None:
    pool = pool_of(*(transaction(ALICE, n) for n in range(10)))
    assert len(take(pool, max_bytes=3 * 105)) == 3
    assert len(take(pool, max_bytes=3 * 105 - 1)) == 2
    assert len(take(pool, count=4)) == 4
    assert len(take(pool)) == 1


def test_executed_transactions_leave_by_hash_or_by_raw_hash() -> None:
    first, second, third = (transaction(ALICE, n) for n in range(3))
    pool = pool_of(first, second, third)
    take(pool)
    found = [item for name in (first.hash, second.raw_hash) if (item := pool.find(name)) is not None]
    assert found == [first, second]
    assert pool.executed([*found, first], [(ALICE, 2)]) == []
    assert (len(pool), pool.in_flight, pool.pending_nonce(ALICE, 2)) == (1, 1, 3)


def test_a_nonce_used_elsewhere_drops_ours_with_the_reason() -> None:
    first, second = transaction(ALICE, 0), transaction(ALICE, 1)
    pool = pool_of(first, second)
    dropped = pool.executed([], [(ALICE, 1)])
    assert [(item.hash, str(item.reason)) for item in dropped] == [
        (first.hash, "replayed: nonce 0 was used by another transaction")
    ]
    assert take(pool) == [(ALICE, 1)]


def test_what_lapsed_waits_again_and_is_in_flight_once() -> None:
    items = [transaction(ALICE, n) for n in range(4)]
    pool = pool_of(*items)
    assert take(pool, count=2) == [(ALICE, 0), (ALICE, 1)]
    assert pool.requeue([items[0].hash, items[1].hash, b"unknown"]) == 2
    assert take(pool, at=2) == [(ALICE, 0), (ALICE, 1), (ALICE, 2), (ALICE, 3)]
    assert pool.requeue([items[1].hash]) == 1
    assert take(pool, at=3) == [(ALICE, 1)]


def test_only_waiting_transactions_expire() -> None:
    flying, waiting = transaction(ALICE, 0, expires_ms=50), transaction(ALICE, 1, expires_ms=50)
    pool = pool_of(flying, waiting)
    take(pool, count=1)
    assert pool.drop_expired(49) == []
    dropped = pool.drop_expired(50)
    assert [(item.hash, str(item.reason)) for item in dropped] == [
        (waiting.hash, "expired: it expired at 50 ms before it was ordered")
    ]
    assert pool.get(flying.hash) is flying
    pool.requeue([flying.hash])
    assert [item.hash for item in pool.drop_expired(51)] == [flying.hash]
    assert (len(pool), pool.size, pool.has_waiting) == (0, 0, False)
