"""The pool against a plain model: whatever is added, taken, executed, lapsed or expired, in any order."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mpisa.node.mempool import Mempool, MempoolLimits, PooledTransaction, replacement_fee
from mpisa.primitives.digest import sha256
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.identifiers import Address

LIMITS = MempoolLimits(transactions=8, size=1_000, per_account=4, nonce_gap=2)
SENDERS = tuple(Address(bytes([letter]) * 20) for letter in b"abc")


class PoolMachine(RuleBasedStateMachine):
    """The model: what is held by hash, what of it is in flight, the chain's nonces, and the time."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = Mempool(LIMITS)
        self.held: dict[bytes, PooledTransaction] = {}
        self.flying: set[bytes] = set()
        self.nonces = dict.fromkeys(SENDERS, 0)
        self.now = 0
        self.unique = 0

    def of(self, sender: Address) -> dict[int, PooledTransaction]:
        return {item.nonce: item for item in self.held.values() if item.sender == sender}

    def free(self, sender: Address) -> int:
        nonce, mine = self.nonces[sender], self.of(sender)
        while nonce in mine:
            nonce += 1
        return nonce

    def forget(self, name: bytes) -> None:
        del self.held[name]
        self.flying.discard(name)

    @rule(
        sender=st.sampled_from(SENDERS),
        ahead=st.integers(-1, 4),
        fee=st.sampled_from((0, 1, 5, 6, 100)),
        size=st.sampled_from((80, 120, 300)),
        lives=st.integers(1, 40),
    )
    def add(self, sender: Address, ahead: int, fee: int, size: int, lives: int) -> None:
        nonce = max(0, self.nonces[sender] + ahead)
        self.unique += 1
        raw = self.unique.to_bytes(8, "big").ljust(size, b".")
        item = PooledTransaction(sha256(b"h", raw), sha256(raw), sender, nonce, self.now + lives, raw, fee)
        mine = self.of(sender)
        earlier = mine.get(nonce)
        before = dict(self.held)
        try:
            dropped = self.pool.add(item, self.nonces[sender])
        except Rejection as refused:
            self._check_refusal(refused, item, earlier, mine)
            return
        assert nonce >= self.nonces[sender]
        assert earlier is None or (earlier.hash not in self.flying and fee >= replacement_fee(earlier.fee))
        for left in dropped:
            assert left.hash not in self.flying
            victim = self.held[left.hash]
            if victim is not earlier:
                assert left.reason.reason is RejectionReason.MEMPOOL_FULL
                lowest = min(other.fee for other in before.values() if other.sender == victim.sender)
                assert lowest < fee
            self.forget(left.hash)
        self.held[item.hash] = item
        assert self.pool.add(item, self.nonces[sender]) == []  # again: nothing happens

    def _check_refusal(
        self,
        refused: Rejection,
        item: PooledTransaction,
        earlier: PooledTransaction | None,
        mine: dict[int, PooledTransaction],
    ) -> None:
        if refused.reason is RejectionReason.REPLAYED:
            assert item.nonce < self.nonces[item.sender] or earlier is not None
        elif refused.reason is RejectionReason.NONCE_GAP:
            assert item.nonce > self.free(item.sender) + LIMITS.nonce_gap
        else:
            assert refused.reason is RejectionReason.MEMPOOL_FULL
            size = self.pool.size + len(item.raw) - (len(earlier.raw) if earlier else 0)
            count = len(self.held) + (0 if earlier else 1)
            assert len(mine) >= LIMITS.per_account or count > LIMITS.transactions or size > LIMITS.size, (
                "refused as full without being so"
            )

    @rule(count=st.integers(1, 6), max_bytes=st.sampled_from((100, 400, 5_000)))
    def take(self, count: int, max_bytes: int) -> None:
        taken = self.pool.take(max_bytes, 5, count, 1)
        assert len(taken) <= count
        assert sum(len(item.raw) + 5 for item in taken) <= max_bytes
        for item in taken:
            assert item.hash not in self.flying, "in flight twice"
            mine = self.of(item.sender)
            assert all(mine[nonce].hash in self.flying for nonce in range(self.nonces[item.sender], item.nonce)), (
                "order"
            )
            heads = self._heads()
            assert item.fee == max(head.fee for head in heads), "the highest fee goes first"
            self.flying.add(item.hash)

    def _heads(self) -> list[PooledTransaction]:
        found = []
        for sender in SENDERS:
            mine, nonce = self.of(sender), self.nonces[sender]
            while nonce in mine and mine[nonce].hash in self.flying:
                nonce += 1
            if nonce in mine:
                found.append(mine[nonce])
        return found

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), by_raw=st.booleans())
    def execute(self, data: st.DataObject, by_raw: bool) -> None:
        """The chain executes the account's next nonce, when that is in flight."""
        sender = data.draw(st.sampled_from(SENDERS))
        item = self.of(sender).get(self.nonces[sender])
        if item is None or item.hash not in self.flying:
            return
        self.nonces[sender] += 1
        found = self.pool.find(item.raw_hash if by_raw else item.hash)
        assert found == item
        assert self.pool.executed([found], [(sender, self.nonces[sender])]) == []
        self.forget(item.hash)

    @rule(sender=st.sampled_from(SENDERS))
    def used_elsewhere(self, sender: Address) -> None:
        """A transaction that came through another node used the next nonce."""
        item = self.of(sender).get(self.nonces[sender])
        self.nonces[sender] += 1
        dropped = self.pool.executed([], [(sender, self.nonces[sender])])
        assert [left.hash for left in dropped] == ([item.hash] if item else [])
        for left in dropped:
            self.forget(left.hash)

    @rule(share=st.integers(0, 3))
    def lapse(self, share: int) -> None:
        names = sorted(self.flying)[: share + 1]
        assert self.pool.requeue([*names, b"unknown"]) == len(names)
        self.flying -= set(names)

    @rule(later=st.integers(0, 15))
    def expire(self, later: int) -> None:
        self.now += later
        due = {name for name, item in self.held.items() if item.expires_ms <= self.now and name not in self.flying}
        assert {left.hash for left in self.pool.drop_expired(self.now)} == due
        for name in due:
            self.forget(name)

    @invariant()
    def agrees_with_the_model(self) -> None:
        assert len(self.pool) == len(self.held) <= LIMITS.transactions
        assert self.pool.size == sum(len(item.raw) for item in self.held.values()) <= LIMITS.size
        assert self.pool.in_flight == len(self.flying)
        assert self.pool.has_waiting == bool(self._heads())
        for sender in SENDERS:
            assert self.pool.pending_nonce(sender, self.nonces[sender]) == self.free(sender)
            assert self.pool.holds_any_of(sender) == bool(self.of(sender))


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
