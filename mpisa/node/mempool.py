"""Validated transactions that wait to be executed.

Each sits in one of two states: waiting, or in flight since a round of ours. It leaves when it was executed, has
expired, or its nonce was used by another; a transaction whose vertex can no longer be committed goes back to waiting,
so it is never in flight twice by this node. An account's transactions leave in nonce order; a small gap is held until
it is filled. Accounts take turns. Bounds: bytes, count, count an account, gap (`MempoolLimits`). Non-goals: validity,
which the ledger judged before.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from mpisa.primitives.errors import Rejection, RejectionReason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mpisa.primitives.identifiers import Address


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


class Dropped(NamedTuple):
    """A transaction that left without having been executed, and why."""

    hash: bytes
    reason: Rejection


@dataclass(slots=True)
class _Account:
    """`base`: the state's nonce; `free`: the next nonce nobody took; `take`: the next to put into a payload."""

    base: int
    free: int
    take: int
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
        self._ready: dict[Address, None] = {}
        self._in_flight: dict[bytes, int] = {}
        self._expiries: list[tuple[int, bytes]] = []
        self._size = 0

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
        return bool(self._ready)

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

    def add(self, transaction: PooledTransaction, state_nonce: int) -> bool:
        """Holds a validated transaction; False when it is here already.

        Raises Rejection: MEMPOOL_FULL at a bound, NONCE_GAP too far ahead, REPLAYED when its nonce is used or taken.
        """
        if transaction.hash in self._by_hash:
            return False
        account = self._accounts.get(transaction.sender)
        if account is None:
            account = _Account(state_nonce, state_nonce, state_nonce)
        self._check_nonce(account, transaction)
        self._check_room(account, transaction)
        self._accounts[transaction.sender] = account
        account.by_nonce[transaction.nonce] = transaction
        account.advance()
        self._by_hash[transaction.hash] = transaction
        self._by_raw_hash[transaction.raw_hash] = transaction
        self._size += len(transaction.raw)
        heapq.heappush(self._expiries, (transaction.expires_ms, transaction.hash))
        if account.take in account.by_nonce:
            self._ready[transaction.sender] = None
        return True

    def _check_nonce(self, account: _Account, transaction: PooledTransaction) -> None:
        if transaction.nonce < account.base or transaction.nonce in account.by_nonce:
            raise Rejection(
                RejectionReason.REPLAYED, f"nonce {transaction.nonce} is taken, the next free one is {account.free}"
            )
        if transaction.nonce > account.free + self._limits.nonce_gap:
            raise Rejection(
                RejectionReason.NONCE_GAP,
                f"nonce {transaction.nonce} is too far ahead, expected {account.free} to "
                f"{account.free + self._limits.nonce_gap}",
            )

    def _check_room(self, account: _Account, transaction: PooledTransaction) -> None:
        limits = self._limits
        if len(account.by_nonce) >= limits.per_account:
            raise Rejection(
                RejectionReason.MEMPOOL_FULL,
                f"the account has {limits.per_account} transactions waiting, the most allowed",
            )
        if len(self._by_hash) >= limits.transactions or self._size + len(transaction.raw) > limits.size:
            raise Rejection(
                RejectionReason.MEMPOOL_FULL,
                f"the pool holds {len(self._by_hash)} transactions of {self._size} bytes, its most; try again later",
            )

    def holds_any_of(self, sender: Address) -> bool:
        """Whether a transaction of this sender is here."""
        return sender in self._accounts

    def take(self, max_bytes: int, overhead: int, max_count: int, round_number: int) -> list[PooledTransaction]:
        """Moves waiting transactions in flight with this round, at most max_count; each costs `overhead` bytes more."""
        taken: list[PooledTransaction] = []
        left = max_bytes
        while self._ready:
            for sender in list(self._ready):
                account = self._accounts[sender]
                transaction = account.by_nonce[account.take]
                cost = len(transaction.raw) + overhead
                if cost > left or len(taken) >= max_count:
                    return taken
                left -= cost
                taken.append(transaction)
                self._in_flight[transaction.hash] = round_number
                account.take = self._next_takeable(account, account.take + 1)
                if account.take not in account.by_nonce:
                    del self._ready[sender]
        return taken

    def executed(self, hashes: Iterable[bytes], nonces: Iterable[tuple[Address, int]]) -> list[Dropped]:
        """Forgets executed transactions, named by `hash` or `raw_hash`; `nonces` are the touched accounts' new nonces.

        Returns those that can never be executed now, because another transaction used their nonce.
        """
        touched: dict[Address, None] = {}
        for transaction_hash in hashes:
            transaction = self.find(transaction_hash)
            if transaction is not None:
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
                touched[self._by_hash[transaction_hash].sender] = None
                count += 1
        for sender in touched:
            self._settle(sender)
        return count

    def drop_expired(self, now_ms: int) -> list[Dropped]:
        """Drops waiting transactions whose time has passed; those in flight are the ledger's to judge."""
        dropped: list[Dropped] = []
        kept: list[tuple[int, bytes]] = []
        while self._expiries and self._expiries[0][0] <= now_ms:
            entry = heapq.heappop(self._expiries)
            transaction = self._by_hash.get(entry[1])
            if transaction is None:
                continue
            if transaction.hash in self._in_flight:
                kept.append(entry)
                continue
            self._detach(transaction)
            self._settle(transaction.sender)
            detail = f"it expired at {transaction.expires_ms} ms before it was ordered"
            dropped.append(Dropped(transaction.hash, Rejection(RejectionReason.EXPIRED, detail)))
        for entry in kept:
            heapq.heappush(self._expiries, entry)
        return dropped

    def _detach(self, transaction: PooledTransaction) -> None:
        del self._by_hash[transaction.hash]
        del self._by_raw_hash[transaction.raw_hash]
        self._in_flight.pop(transaction.hash, None)
        del self._accounts[transaction.sender].by_nonce[transaction.nonce]
        self._size -= len(transaction.raw)

    def _settle(self, sender: Address) -> None:
        """Finds the account's next free and next takeable nonce again after something left."""
        account = self._accounts[sender]
        if not account.by_nonce:
            del self._accounts[sender]
            self._ready.pop(sender, None)
            return
        account.free = account.base
        account.advance()
        account.take = self._next_takeable(account, account.base)
        if account.take in account.by_nonce:
            self._ready[sender] = None
        else:
            self._ready.pop(sender, None)

    def _next_takeable(self, account: _Account, nonce: int) -> int:
        """The first nonce from here on that isn't in flight already; it may be one that nobody took yet."""
        while (transaction := account.by_nonce.get(nonce)) is not None and transaction.hash in self._in_flight:
            nonce += 1
        return nonce
