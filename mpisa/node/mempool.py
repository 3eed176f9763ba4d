"""Validated transactions that wait to be executed (docs/protocol.md, section 19).

Each sits in one of two states: waiting, or in flight since a round of ours. It leaves when it was executed, has
expired, its nonce was used by another, one with a higher fee replaced it, or the pool was full and it offered least; a
transaction whose vertex can no longer be committed goes back to waiting, so it is never in flight twice by this node.

An account's transactions leave in nonce order; a small gap is held until it is filled. Of the accounts' next ones the
highest fee goes first, and among equal fees the one that has been its account's next for longest: accounts take turns.
Bounds: bytes, count, count an account, gap (`MempoolLimits`). Non-goals: validity, which the ledger judged before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from mpisa.node.lazy_heap import LazyHeap
from mpisa.primitives.errors import Rejection, RejectionReason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mpisa.primitives.identifiers import Address

REPLACEMENT_PERCENT = 10
"""How much higher a fee must be to take the place of a waiting transaction with the same nonce."""


@dataclass(frozen=True, slots=True)
class MempoolLimits:
    """Most transactions, bytes, transactions an account, and how far a nonce may run ahead of the next one."""

    transactions: int = 20_000
    size: int = 64 << 20
    per_account: int = 1_024
    nonce_gap: int = 64


@dataclass(frozen=True, slots=True)
class PooledTransaction:
    """What the pool needs to know of a signed transaction; `expires_ms` is the first moment it is too late.

    `raw_hash` is that of the raw bytes: a receipt carries it instead of `hash` when the signature turned out bad.
    """

    hash: bytes
    raw_hash: bytes
    sender: Address
    nonce: int
    expires_ms: int
    raw: bytes
    fee: int = 0


class Dropped(NamedTuple):
    """A transaction that left without having been executed, and why."""

    hash: bytes
    reason: Rejection


@dataclass(slots=True)
class _Account:
    """`base`: the state's nonce; `free`: the next nonce nobody took; `take`: the next to put into a payload, which
    `queued` names while it waits for that.
    """

    base: int
    free: int
    take: int
    queued: bytes | None = None
    by_nonce: dict[int, PooledTransaction] = field(default_factory=dict)

    def advance(self) -> None:
        while self.free in self.by_nonce:
            self.free += 1


class Mempool:
    """See the module. All methods belong to one thread."""

    def __init__(self, limits: MempoolLimits) -> None:
        self._limits = limits
        self._by_hash: dict[bytes, PooledTransaction] = {}
        self._by_raw_hash: dict[bytes, PooledTransaction] = {}
        self._accounts: dict[Address, _Account] = {}
        self._in_flight: dict[bytes, int] = {}
        self._size = 0
        self._turn = 0
        self._heads: LazyHeap[tuple[int, int]] = LazyHeap(self._is_head)
        self._cheapest: LazyHeap[tuple[int, int]] = LazyHeap(self._is_waiting)
        self._expiries: LazyHeap[int] = LazyHeap(self._is_waiting)

    def __len__(self) -> int:
        return len(self._by_hash)

    def __contains__(self, transaction_hash: bytes) -> bool:
        return transaction_hash in self._by_hash

    @property
    def size(self) -> int:
        """Bytes of all transactions held."""
        return self._size

    @property
    def in_flight(self) -> int:
        """How many are in a vertex of ours that isn't executed yet."""
        return len(self._in_flight)

    @property
    def has_waiting(self) -> bool:
        """Whether `take` would return something (but for expiry)."""
        return self._heads.first() is not None

    def get(self, transaction_hash: bytes) -> PooledTransaction | None:
        """A transaction held here."""
        return self._by_hash.get(transaction_hash)

    def find(self, name: bytes) -> PooledTransaction | None:
        """A transaction held here, by its `hash` or its `raw_hash`."""
        return self._by_hash.get(name) or self._by_raw_hash.get(name)

    def pending_nonce(self, sender: Address, state_nonce: int) -> int:
        """The next nonce to sign, counting what is held here without a gap."""
        account = self._accounts.get(sender)
        return state_nonce if account is None else max(state_nonce, account.free)

    def at_nonce(self, sender: Address, nonce: int) -> PooledTransaction | None:
        """The account's transaction with this nonce."""
        account = self._accounts.get(sender)
        return None if account is None else account.by_nonce.get(nonce)

    def holds_any_of(self, sender: Address) -> bool:
        """Whether a transaction of this sender is here."""
        return sender in self._accounts

    def add(self, transaction: PooledTransaction, state_nonce: int) -> list[Dropped]:
        """Holds a validated transaction; what had to leave for it. One that is here already changes nothing.

        Raises Rejection: MEMPOOL_FULL at a bound, NONCE_GAP too far ahead, REPLAYED when its nonce is used, on its way,
        or taken by one whose fee it doesn't raise enough.
        """
        if transaction.hash in self._by_hash:
            return []
        account = self._accounts.get(transaction.sender) or _Account(state_nonce, state_nonce, state_nonce)
        replaced = self._replaced(account, transaction)
        if replaced is None and len(account.by_nonce) >= self._limits.per_account:
            detail = f"the account has {self._limits.per_account} transactions waiting, the most allowed"
            raise Rejection(RejectionReason.MEMPOOL_FULL, detail)
        leaving = self._room_for(transaction, replaced)
        for item in leaving:
            self._detach(item)
        for item in leaving:
            self._settle(item.sender)
        self._hold(transaction, self._accounts.get(transaction.sender) or account)
        return [Dropped(item.hash, _outbid(item, transaction, item is replaced)) for item in leaving]

    def _replaced(self, account: _Account, transaction: PooledTransaction) -> PooledTransaction | None:
        """The waiting transaction whose nonce it takes over, if any."""
        nonce = transaction.nonce
        earlier = account.by_nonce.get(nonce)
        if nonce < account.base or (earlier is not None and earlier.hash in self._in_flight):
            raise Rejection(RejectionReason.REPLAYED, f"nonce {nonce} is taken, the next free one is {account.free}")
        if earlier is None:
            if nonce > account.free + self._limits.nonce_gap:
                last = account.free + self._limits.nonce_gap
                detail = f"nonce {nonce} is too far ahead, expected {account.free} to {last}"
                raise Rejection(RejectionReason.NONCE_GAP, detail)
            return None
        least = replacement_fee(earlier.fee)
        if transaction.fee < least:
            detail = f"nonce {nonce} is taken, the next free one is {account.free}; a fee of {least} would replace it"
            raise Rejection(RejectionReason.REPLAYED, detail)
        return earlier

    def _room_for(self, transaction: PooledTransaction, replaced: PooledTransaction | None) -> list[PooledTransaction]:
        """What leaves so that it fits: the one it replaces, then the last ones of those accounts that offer least."""
        leaving = [] if replaced is None else [replaced]
        count, size = len(self._by_hash) + 1 - len(leaving), self._size + len(transaction.raw)
        size -= sum(len(item.raw) for item in leaving)
        passed: list[tuple[tuple[int, int], bytes]] = []
        try:
            while count > self._limits.transactions or size > self._limits.size:
                cheapest = self._cheapest.first()
                if cheapest is None or cheapest[0][0] >= transaction.fee:
                    raise self._full()
                self._cheapest.pop()
                passed.append(cheapest)
                for item in self._tail_of(self._by_hash[cheapest[1]], leaving):
                    if item.sender == transaction.sender and item.nonce < transaction.nonce:
                        raise self._full()
                    leaving.append(item)
                    count, size = count - 1, size - len(item.raw)
                    if count <= self._limits.transactions and size <= self._limits.size:
                        break
        finally:
            for order, name in passed:
                self._cheapest.push(order, name)
        return leaving

    def _tail_of(self, cheap: PooledTransaction, leaving: list[PooledTransaction]) -> list[PooledTransaction]:
        """The account's transactions from its last down to this one: none may be left behind a gap."""
        by_nonce = self._accounts[cheap.sender].by_nonce
        tail = []
        for nonce in sorted((nonce for nonce in by_nonce if nonce >= cheap.nonce), reverse=True):
            item = by_nonce[nonce]
            if item.hash in self._in_flight:
                break
            if item not in leaving:
                tail.append(item)
        return tail

    def _full(self) -> Rejection:
        return Rejection(
            RejectionReason.MEMPOOL_FULL,
            f"the pool holds {len(self._by_hash)} transactions of {self._size} bytes, its most; try again later",
            hint="wait a little, or offer a higher fee than the lowest that waits",
        )

    def _hold(self, transaction: PooledTransaction, account: _Account) -> None:
        self._accounts[transaction.sender] = account
        account.by_nonce[transaction.nonce] = transaction
        account.advance()
        self._by_hash[transaction.hash] = transaction
        self._by_raw_hash[transaction.raw_hash] = transaction
        self._size += len(transaction.raw)
        self._await(transaction)
        if account.take == transaction.nonce:
            self._queue(transaction)

    def _await(self, transaction: PooledTransaction) -> None:
        """It waits now: it may expire, or be the one that offers least (of equal ones the latest)."""
        self._turn += 1
        self._expiries.push(transaction.expires_ms, transaction.hash)
        self._cheapest.push((transaction.fee, -self._turn), transaction.hash)

    def _queue(self, transaction: PooledTransaction) -> None:
        """It is its account's next now."""
        account = self._accounts[transaction.sender]
        if account.queued != transaction.hash:
            account.queued = transaction.hash
            self._turn += 1
            self._heads.push((-transaction.fee, self._turn), transaction.hash)

    def _is_head(self, _order: tuple[int, int], name: bytes) -> bool:
        transaction = self._by_hash.get(name)
        return (
            transaction is not None
            and name not in self._in_flight
            and self._accounts[transaction.sender].take == transaction.nonce
        )

    def _is_waiting(self, _order: object, name: bytes) -> bool:
        return name in self._by_hash and name not in self._in_flight

    def take(self, max_bytes: int, overhead: int, max_count: int, round_number: int) -> list[PooledTransaction]:
        """Moves waiting transactions in flight with this round, at most max_count; each costs `overhead` bytes more."""
        taken: list[PooledTransaction] = []
        left = max_bytes
        while (head := self._heads.first()) is not None and len(taken) < max_count:
            transaction = self._by_hash[head[1]]
            left -= len(transaction.raw) + overhead
            if left < 0:
                break
            self._heads.pop()
            taken.append(transaction)
            self._in_flight[transaction.hash] = round_number
            account = self._accounts[transaction.sender]
            account.queued = None
            account.take = self._next_takeable(account, account.take + 1)
            following = account.by_nonce.get(account.take)
            if following is not None:
                self._queue(following)
        return taken

    def executed(self, found: Iterable[PooledTransaction], nonces: Iterable[tuple[Address, int]]) -> list[Dropped]:
        """Forgets executed transactions that `find` gave; `nonces` are the touched accounts' new ones.

        Returns those that can never be executed now, because another transaction used their nonce.
        """
        touched: dict[Address, None] = {}
        for transaction in found:
            if transaction.hash in self._by_hash:
                self._detach(transaction)
                touched[transaction.sender] = None
        dropped: list[Dropped] = []
        for sender, nonce in nonces:
            account = self._accounts.get(sender)
            if account is None:
                continue
            touched[sender] = None
            account.base = nonce
            for stale in sorted(number for number in account.by_nonce if number < nonce):
                transaction = account.by_nonce[stale]
                self._detach(transaction)
                detail = f"nonce {stale} was used by another transaction"
                dropped.append(Dropped(transaction.hash, Rejection(RejectionReason.REPLAYED, detail)))
        for sender in touched:
            self._settle(sender)
        return dropped

    def all_raw(self) -> list[bytes]:
        """Every transaction held, each account's in nonce order."""
        return [
            account.by_nonce[nonce].raw for account in self._accounts.values() for nonce in sorted(account.by_nonce)
        ]

    def requeue_all(self) -> int:
        """Sends everything in flight back to waiting: whoever carried it is gone. Returns how many."""
        return self.requeue(list(self._in_flight))

    def requeue(self, hashes: Iterable[bytes]) -> int:
        """Sends transactions in flight back to waiting: their vertex will never be committed. Returns how many."""
        touched: dict[Address, None] = {}
        count = 0
        for transaction_hash in hashes:
            if self._in_flight.pop(transaction_hash, None) is not None:
                transaction = self._by_hash[transaction_hash]
                self._await(transaction)
                touched[transaction.sender] = None
                count += 1
        for sender in touched:
            self._settle(sender)
        return count

    def drop_expired(self, now_ms: int) -> list[Dropped]:
        """Drops waiting transactions whose time has passed; those in flight are the ledger's to judge."""
        dropped: list[Dropped] = []
        while (first := self._expiries.first()) is not None and first[0] <= now_ms:
            self._expiries.pop()
            transaction = self._by_hash[first[1]]
            self._detach(transaction)
            self._settle(transaction.sender)
            detail = f"it expired at {transaction.expires_ms} ms before it was ordered"
            dropped.append(Dropped(transaction.hash, Rejection(RejectionReason.EXPIRED, detail)))
        return dropped

    def _detach(self, transaction: PooledTransaction) -> None:
        del self._by_hash[transaction.hash]
        del self._by_raw_hash[transaction.raw_hash]
        self._in_flight.pop(transaction.hash, None)
        del self._accounts[transaction.sender].by_nonce[transaction.nonce]
        self._size -= len(transaction.raw)

    def _settle(self, sender: Address) -> None:
        """Finds the account's next free and next takeable nonce again after something left."""
        account = self._accounts.get(sender)
        if account is None:
            return
        account.free = account.base
        account.advance()
        account.take = self._next_takeable(account, account.base)
        head = account.by_nonce.get(account.take)
        if head is not None:
            self._queue(head)
        elif not account.by_nonce:
            del self._accounts[sender]

    def _next_takeable(self, account: _Account, nonce: int) -> int:
        """The first nonce from here on that isn't in flight already; it may be one that nobody took yet."""
        while (transaction := account.by_nonce.get(nonce)) is not None and transaction.hash in self._in_flight:
            nonce += 1
        return nonce


def replacement_fee(fee: int) -> int:
    """The least fee that replaces a waiting transaction with this one."""
    return max(fee + 1, fee + -(-fee * REPLACEMENT_PERCENT // 100))


def _outbid(item: PooledTransaction, by: PooledTransaction, replaced: bool) -> Rejection:
    if replaced:
        detail = f"nonce {item.nonce} was taken over by {by.hash.hex()}, which offers a fee of {by.fee}"
        return Rejection(RejectionReason.REPLAYED, detail)
    detail = f"the pool is full, and a fee of {item.fee} was among the lowest; it made room for one of {by.fee}"
    return Rejection(RejectionReason.MEMPOOL_FULL, detail, hint="send it again later, or sign it with a higher fee")
