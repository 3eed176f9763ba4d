"""Transactions from submission to certificate, as one node sees them.

Handing in validates, pools, and waits as long as it was asked to. It answers `accepted` only for what would be valid
now, and takes nothing while the chain is halted, certification lags too far behind ordering, or the disk is full. A
hash that was executed before is answered from the chain. A node that makes no vertices passes what it takes on to one
that does. Waiting is `waiting`'s, batches and streams are `flow`'s.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mpisa.ledger.parameters import read_parameters
from mpisa.ledger.payload import ITEM_OVERHEAD, LIST_OVERHEAD, MAX_PAYLOAD_TRANSACTIONS, decode_payload, encode_payload
from mpisa.ledger.rules import BlockContext, Rules
from mpisa.ledger.state import BlockState, KeptAccounts
from mpisa.ledger.submission import validate_signed
from mpisa.node.flow import Batch, Flow
from mpisa.node.mempool import Mempool, PooledTransaction
from mpisa.node.stages import Stage, Stages
from mpisa.node.views import TransactionState, TransactionStatus, WaitFor
from mpisa.node.waiting import Waiting
from mpisa.primitives.account import Account
from mpisa.primitives.errors import MpisaError, NotFound, NotReady, Rejection, SafeHalt, TimedOut
from mpisa.primitives.identifiers import Address
from mpisa.primitives.receipt import ReceiptStatus
from mpisa.primitives.state_keys import ACCOUNT_SPACE, account_key
from mpisa.primitives.transaction import decode_transaction, raw_hash

if TYPE_CHECKING:
    from mpisa.node.chain_records import ExecutedBlock
    from mpisa.node.chain_store import ChainStore
    from mpisa.node.clock import Clock
    from mpisa.node.mempool import Dropped
    from mpisa.node.transaction_cache import TransactionCache
    from mpisa.node.waiting import Entry, Listener
    from mpisa.primitives.genesis import ChainParameters
    from mpisa.primitives.transaction import SignedTransaction


@dataclass(slots=True)
class Counters:
    """Transactions since the start, for /metrics."""

    transactions_accepted: int = 0
    transactions_refused: int = 0
    transactions_applied: int = 0
    transactions_rejected: int = 0
    transactions_dropped: int = 0


MAX_FLOWS = 64
"""Streams open at once."""

HALT_HINT = "`mpisa node peers` shows which validators are connected; intake opens by itself, send again then"

MAX_REMEMBERED = 4_096
"""Transactions that left the pool unexecuted, whose reason is still told."""

Relay = Callable[[bytes], Awaitable[None]]
"""Passes a raw transaction on. Raises Rejection, or Unreachable when nobody took it."""


class Submissions:
    """See the module. Belongs to the loop's thread."""

    def __init__(
        self,
        store: ChainStore,
        pool: Mempool,
        transactions: TransactionCache,
        clock: Clock,
        certification_lag: int,
        certification_stall_ms: int,
        nonce_gap: int,
        on_waiting: Callable[[], None],
        stages: Stages | None = None,
        accounts: KeptAccounts | None = None,
    ) -> None:
        self._store = store
        self._pool = pool
        self._transactions = transactions
        self._clock = clock
        self._lag = certification_lag
        self._stall_ms = certification_stall_ms
        self._owed_since: int | None = None
        self._nonce_gap = nonce_gap
        self._on_waiting = on_waiting
        self._accounts = KeptAccounts() if accounts is None else accounts
        self._stages = stages or Stages()
        self._waiting = Waiting()
        self._flows = 0
        self._left: OrderedDict[bytes, Rejection] = OrderedDict()
        self._parameters: tuple[int, ChainParameters] | None = None
        self.relay: Callable[[], Relay | None] = lambda: None
        self._stopped: MpisaError | None = NotReady("the node is starting", hint="wait until it is ready")
        self._withheld = False
        self.counters = Counters()

    def stop_intake(self, error: MpisaError) -> None:
        """Refuse everything with this error until `open_intake`."""
        self._stopped = error

    def open_intake(self) -> None:
        """Take transactions (again)."""
        self._stopped = None

    def lag(self) -> int:
        """Chain blocks ordered here that aren't certified yet."""
        return self._store.height - self._store.certified_height

    def halted(self) -> MpisaError | None:
        """Why nothing is taken now, or None."""
        if self._stopped is not None:
            return self._stopped
        lag = self.lag()
        if lag > self._lag:
            return SafeHalt(
                f"certification is {lag} chain blocks behind ordering, at most {self._lag} are allowed; "
                "nothing is taken until it has caught up",
                hint=HALT_HINT,
            )
        return self._stalled()

    def _stalled(self) -> SafeHalt | None:
        """Whether what is on its way has gone uncertified for too long: too few validators can be reached, say."""
        if not self._owes():
            self._owed_since = None
        if self._owed_since is None:
            return None
        silent_ms = self._clock.now_ms() - self._owed_since
        if silent_ms <= self._stall_ms:
            return None
        return SafeHalt(
            f"nothing was certified for {silent_ms // 1000} s while transactions wait for it, at most "
            f"{self._stall_ms // 1000} s are allowed; nothing is taken until a chain block is certified again",
            hint=HALT_HINT,
        )

    def _owes(self) -> bool:
        """Whether anything here waits to be certified."""
        return self.lag() > 0 or self._pool.in_flight > 0 or self._pool.has_waiting

    def _owe(self) -> None:
        if self._owed_since is None:
            self._owed_since = self._clock.now_ms()

    async def submit(self, raw: bytes, until: WaitFor, timeout_s: float) -> TransactionStatus:
        """See Node.submit."""
        (result,) = await self.submit_many([raw], until, timeout_s)
        if isinstance(result, MpisaError):
            raise result
        return result

    async def submit_many(
        self, raws: list[bytes], until: WaitFor, timeout_s: float
    ) -> list[TransactionStatus | MpisaError]:
        """See Node.submit_many."""
        batch = Batch(self, len(raws), until)
        await batch.run(raws, timeout_s)
        return [
            self._timed_out(name, until, timeout_s) if result is None else result
            for name, result in zip(batch.hashes, batch.results, strict=True)
        ]

    @contextmanager
    def flow(self, until: WaitFor) -> Iterator[Flow]:
        """See Node.open_stream."""
        if self._flows >= MAX_FLOWS:
            raise NotReady(f"{MAX_FLOWS} streams of transactions are open already", hint="try again later")
        found = Flow(self, until)
        self._flows += 1
        try:
            yield found
        finally:
            self._flows -= 1
            found.close()

    async def hand_in(
        self, raw: bytes, until: WaitFor, listener: Listener, token: int
    ) -> tuple[TransactionStatus, Entry | None]:
        """flow.Desk.hand_in."""
        transaction_hash = self.accept(raw)
        relay = self.relay()
        if relay is not None:
            await relay(raw)
        if transaction_hash in self._pool:
            status = TransactionStatus(transaction_hash, TransactionState.ACCEPTED, raw=raw)
            if until is WaitFor.ACCEPTED:
                return status, None
            return status, self._waiting.add(transaction_hash, until, listener, token, None)
        status = self.status(transaction_hash)
        if until is not WaitFor.CERTIFIED or status.height is None or status.height <= self._store.certified_height:
            return status, None
        return status, self._waiting.add(transaction_hash, until, listener, token, status)

    def forget(self, entry: Entry) -> None:
        """flow.Desk.forget."""
        self._waiting.forget(entry)

    def accept(self, raw: bytes) -> bytes:
        """Validates a raw transaction into the pool; its hash. Raises Rejection, or why nothing is taken now."""
        sample = self._stages.sample(Stage.SUBMISSION)
        if sample is None:
            return self._accept(raw)
        with sample:
            return self._accept(raw)

    def _accept(self, raw: bytes) -> bytes:
        halted = self.halted()
        if halted is not None:
            raise halted
        try:
            signed = decode_transaction(raw)
            if signed.hash not in self._pool:
                self._judge(raw, signed)
        except Rejection:
            self.counters.transactions_refused += 1
            raise
        return signed.hash

    def _judge(self, raw: bytes, signed: SignedTransaction) -> None:
        """Pools a transaction that isn't there, unless its outcome is final: then its nonce is used."""
        state = BlockState(self._store, self._accounts)
        sender, nonce = signed.transaction.sender, signed.transaction.nonce
        account = state.account(sender)
        state_nonce = 0 if account is None else account.nonce
        if nonce < state_nonce:
            place = self._store.place(signed.hash)
            if place is not None and place.final:
                return
        pending = self._pool.pending_nonce(sender, state_nonce)
        replaces = nonce >= state_nonce and self._pool.at_nonce(sender, nonce) is not None
        expected = nonce if replaces or pending < nonce <= pending + self._nonce_gap else pending
        validate_signed(state, signed, self._rules(), pending_nonce=expected, signature_ok=self._transactions.check)
        self._add(raw, signed, state_nonce)
        self._transactions.keep(raw, signed)

    def _rules(self) -> Rules:
        """Those of the next block, as far as they are known."""
        head = self._store.header(self._store.height)
        if self._parameters is None or self._parameters[0] != head.height:
            self._parameters = (head.height, read_parameters(self._store))
        time_ms = max(self._clock.now_ms(), head.time_ms + 1)
        return Rules(BlockContext(head.chain_hash, head.height + 1, time_ms, head.epoch), self._parameters[1])

    def _add(self, raw: bytes, signed: SignedTransaction, state_nonce: int) -> None:
        transaction = signed.transaction
        pooled = PooledTransaction(
            signed.hash,
            raw_hash(raw),
            transaction.sender,
            transaction.nonce,
            transaction.expires_ms,
            raw,
            transaction.fee,
        )
        self.dropped(self._pool.drop_expired(self._clock.now_ms()))
        waiting = self._pool.has_waiting
        self.dropped(self._pool.add(pooled, state_nonce))
        self.counters.transactions_accepted += 1
        self._owe()
        if self._pool.has_waiting and not waiting:
            self._on_waiting()

    def _state_nonce(self, sender: Address) -> int:
        value = self._store.get(account_key(sender))
        return 0 if value is None else Account.decode(sender, value).nonce

    def pending_nonce(self, sender: Address) -> int:
        """The next nonce to sign, counting what waits here."""
        return self._pool.pending_nonce(sender, self._state_nonce(sender))

    def status(self, transaction_hash: bytes) -> TransactionStatus:
        """From the chain, or `accepted` from the pool. Raises NotFound."""
        place = self._store.place(transaction_hash)
        if place is None:
            pooled = self._pool.get(transaction_hash)
            if pooled is None:
                raise self._unknown(transaction_hash)
            return TransactionStatus(transaction_hash, TransactionState.ACCEPTED, raw=pooled.raw)
        receipt = self._store.receipts(place.height)[place.index]
        raws = self._store.transactions(place.height)
        raw = raws[place.index] if place.index < len(raws) else None
        if receipt.status is ReceiptStatus.REJECTED:
            state = TransactionState.REJECTED
        elif place.height <= self._store.certified_height:
            state = TransactionState.CERTIFIED
        else:
            state = TransactionState.ORDERED
        return TransactionStatus(transaction_hash, state, place.height, place.index, receipt, raw)

    def _unknown(self, transaction_hash: bytes) -> NotFound:
        reason = self._left.get(transaction_hash)
        if reason is None:
            return NotFound(f"transaction {transaction_hash.hex()} is neither on the chain nor waiting here")
        return NotFound(
            f"transaction {transaction_hash.hex()} isn't on the chain and left this node's pool: {reason}",
            hint=reason.hint,
        )

    def _timed_out(self, transaction_hash: bytes, wait: WaitFor, timeout_s: float) -> TimedOut:
        try:
            known = self.status(transaction_hash)
        except NotFound:
            where = "no longer waiting here"
        else:
            where = known.status.value + (f" at height {known.height}" if known.height is not None else "")
        return TimedOut(
            f"transaction {transaction_hash.hex()} is not {wait.value} after {timeout_s:g} s; it is {where}",
            hint="it may still be executed: look it up by its hash before you send another",
        )

    def executed(self, block: ExecutedBlock) -> None:
        """A chain block is durable: the pool forgets its transactions, who waited for `ordered` hears of it."""
        found: list[PooledTransaction] = []
        reached: list[TransactionStatus] = []
        applied = 0
        for index, receipt in enumerate(block.receipts):
            is_applied = receipt.status is ReceiptStatus.APPLIED
            applied += is_applied
            name = receipt.tx_hash
            pooled = self._pool.find(name)
            if pooled is not None:
                found.append(pooled)
                name = pooled.hash
            if self._waiting.is_waited_for(name):
                state = TransactionState.ORDERED if is_applied else TransactionState.REJECTED
                reached.append(TransactionStatus(name, state, block.header.height, index, receipt))
        self.counters.transactions_applied += applied
        self.counters.transactions_rejected += len(block.receipts) - applied
        waiting = self._pool.has_waiting
        dropped = self._pool.executed(found, self._changed_nonces(block))
        if self._pool.has_waiting and not waiting:  # another node's transaction filled a gap here
            self._on_waiting()
        for status in reached:
            self._waiting.ordered(status)
        self.dropped(dropped)
        if self.lag() > 0:
            self._owe()

    def _changed_nonces(self, block: ExecutedBlock) -> list[tuple[Address, int]]:
        changed: list[tuple[Address, int]] = []
        for key, value in block.changes:
            if value is not None and key.startswith(ACCOUNT_SPACE):
                address = Address(key[len(ACCOUNT_SPACE) :])
                if self._pool.holds_any_of(address):
                    account = self._accounts.get(address, value) or Account.decode(address, value)
                    changed.append((address, account.nonce))
        return changed

    def certified(self, height: int) -> None:
        """Everything up to this height is certified: who waited for that hears of it."""
        self._owed_since = self._clock.now_ms() if self._owes() else None
        if self._withheld and self.lag() <= self._lag:
            self._withheld = False
            self._on_waiting()
        self._waiting.certified(height)

    def dropped(self, dropped: list[Dropped]) -> None:
        """Transactions that left the pool unexecuted: who waited gets the reason."""
        for transaction_hash, reason in dropped:
            self.counters.transactions_dropped += 1
            self._left[transaction_hash] = reason
            while len(self._left) > MAX_REMEMBERED:
                self._left.popitem(last=False)
            self._waiting.failed(transaction_hash, reason)

    def take_payload(self, round_number: int, max_bytes: int) -> bytes:
        """Transactions for our next vertex, empty when none wait or certification lags."""
        if self.lag() > self._lag:
            self._withheld = True
            return b""
        self.dropped(self._pool.drop_expired(self._clock.now_ms()))
        taken = self._pool.take(max_bytes - LIST_OVERHEAD, ITEM_OVERHEAD, MAX_PAYLOAD_TRANSACTIONS, round_number)
        return encode_payload([transaction.raw for transaction in taken])

    def lapsed(self, payload: bytes) -> None:
        """A vertex of ours will never be committed: what it carried waits again."""
        waiting = self._pool.has_waiting
        names = [raw_hash(raw) for raw in decode_payload(payload)]
        found = [pooled.hash for name in names if (pooled := self._pool.find(name)) is not None]
        self._pool.requeue(found)
        if self._pool.has_waiting and not waiting:
            self._on_waiting()

    def taken_over(self) -> None:
        """Another succession orders: what the one before had taken and not ordered waits again."""
        self._pool.requeue_all()
        if self._pool.has_waiting:
            self._on_waiting()

    def close(self) -> None:
        """The node stops: who still waits is told."""
        self.stop_intake(NotReady("the node is stopping"))
        self._waiting.close()
