"""Who waits for what becomes of a transaction: single requests, batches and streams alike.

A listener hears of a transaction when it is ordered and, if it waits for that, when its block is certified; or why it
never will be. One that was ordered but rejected counts as reached, with its receipt. Bounded by MAX_WAITERS in all.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from mpisa.node.views import TransactionState, WaitFor
from mpisa.primitives.errors import NotReady

if TYPE_CHECKING:
    from mpisa.node.views import TransactionStatus
    from mpisa.primitives.errors import MpisaError

MAX_WAITERS = 20_000


class Listener(Protocol):
    """Who waits; `token` is its own name for the transaction."""

    def reached(self, token: int, status: TransactionStatus) -> None:
        """It is ordered or certified now."""
        ...

    def failed(self, token: int, error: MpisaError) -> None:
        """It left the pool unexecuted, or the node stops."""
        ...


@dataclass(slots=True, eq=False)
class Entry:
    """One listener's wait for one transaction; `gone` once it is over."""

    hash: bytes
    until: WaitFor
    listener: Listener
    token: int
    gone: bool = False


class Waiting:
    """See the module. Belongs to the loop's thread."""

    def __init__(self, bound: int = MAX_WAITERS) -> None:
        self._bound = bound
        self._count = 0
        self._pooled: dict[bytes, list[Entry]] = {}
        self._ordered: defaultdict[int, list[tuple[TransactionStatus, Entry]]] = defaultdict(list)

    def __len__(self) -> int:
        return self._count

    def add(
        self, transaction_hash: bytes, until: WaitFor, listener: Listener, token: int, known: TransactionStatus | None
    ) -> Entry:
        """Waits from now on; `known` says that it is ordered already. Raises NotReady at the bound."""
        if self._count >= self._bound:
            raise NotReady(
                f"transaction {transaction_hash.hex()} is accepted, but {self._bound} others are waited for already",
                hint="look it up later by its hash",
            )
        entry = Entry(transaction_hash, until, listener, token)
        self._count += 1
        if known is not None and known.height is not None:
            self._ordered[known.height].append((known, entry))
        else:
            self._pooled.setdefault(transaction_hash, []).append(entry)
        return entry

    def forget(self, entry: Entry) -> None:
        """It isn't waited for any more; harmless when that is over already."""
        if entry.gone:
            return
        self._finish(entry)
        entries = self._pooled.get(entry.hash)
        if entries is not None and entry in entries:
            entries.remove(entry)
            if not entries:
                del self._pooled[entry.hash]

    def _finish(self, entry: Entry) -> None:
        entry.gone = True
        self._count -= 1

    def is_waited_for(self, transaction_hash: bytes) -> bool:
        """Whether anybody waits for it to be ordered."""
        return transaction_hash in self._pooled

    def ordered(self, status: TransactionStatus) -> None:
        """Executed in a block of this node's."""
        assert status.height is not None
        for entry in self._pooled.pop(status.hash, ()):
            if entry.until is WaitFor.CERTIFIED:
                self._ordered[status.height].append((status, entry))
            else:
                self._finish(entry)
            entry.listener.reached(entry.token, status)

    def certified(self, height: int) -> None:
        """Everything up to this height is certified."""
        for number in sorted(number for number in self._ordered if number <= height):
            for status, entry in self._ordered.pop(number):
                if entry.gone:
                    continue
                self._finish(entry)
                if status.status is TransactionState.ORDERED:
                    status = replace(status, status=TransactionState.CERTIFIED)
                entry.listener.reached(entry.token, status)

    def failed(self, transaction_hash: bytes, error: MpisaError) -> None:
        """It left the pool unexecuted."""
        for entry in self._pooled.pop(transaction_hash, ()):
            self._finish(entry)
            entry.listener.failed(entry.token, error)

    def close(self) -> None:
        """The node stops: who still waits is told."""
        left = [entry for entries in self._pooled.values() for entry in entries]
        left += [entry for entries in self._ordered.values() for _, entry in entries if not entry.gone]
        self._pooled.clear()
        self._ordered.clear()
        for entry in left:
            self._finish(entry)
            entry.listener.failed(
                entry.token, NotReady("the node is stopping", hint="look the transaction up later by its hash")
            )
