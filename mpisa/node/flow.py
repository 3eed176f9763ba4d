"""Many transactions of one client: a batch that is answered whole, and a stream that is answered as things happen.

A stream's transactions are numbered in the order they came. Answers gather until they are taken: those of one block
and state make one answer. `offer` waits while `window` transactions have no final answer or MAX_GATHERED answers are
not taken: so a client that sends too fast, or doesn't read, is slowed down and never fills this node's memory.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from mpisa.node.views import StreamAnswer, TransactionState, TransactionStatus, WaitFor
from mpisa.primitives.errors import MpisaError

if TYPE_CHECKING:
    from mpisa.node.waiting import Entry, Listener

WINDOW = 2_048
MAX_GATHERED = 4_096
ACCEPTED_PATIENCE_S = 0.02
"""Word that transactions were accepted waits so long for more of it: each by itself would cost a write."""

BREATHER = 16
"""A batch lets others have the loop after so many transactions."""


class Desk(Protocol):
    """Where transactions are handed in."""

    async def hand_in(
        self, raw: bytes, until: WaitFor, listener: Listener, token: int
    ) -> tuple[TransactionStatus, Entry | None]:
        """Takes it in: where it is now, and the wait for the rest when there is one. Raises MpisaError."""
        ...

    def forget(self, entry: Entry) -> None:
        """Nobody waits any more."""
        ...


class Batch:
    """What became of each of a batch's transactions, in their order."""

    def __init__(self, desk: Desk, count: int, until: WaitFor) -> None:
        self._desk = desk
        self._until = until
        self._entries: dict[int, Entry] = {}
        self.results: list[TransactionStatus | MpisaError | None] = [None] * count
        self._left = count
        self._done = asyncio.Event()
        self.hashes: list[bytes] = [b""] * count

    async def run(self, raws: list[bytes], timeout_s: float) -> None:
        """Hands in and waits; what has no result by then stays None."""
        try:
            for token, raw in enumerate(raws):
                await self._hand_in(token, raw)
                if token % BREATHER == BREATHER - 1:
                    await asyncio.sleep(0)
            if self._left:
                async with asyncio.timeout(timeout_s):
                    await self._done.wait()
        except TimeoutError:
            pass
        finally:
            for entry in self._entries.values():
                self._desk.forget(entry)

    async def _hand_in(self, token: int, raw: bytes) -> None:
        try:
            status, entry = await self._desk.hand_in(raw, self._until, self, token)
        except MpisaError as error:
            self._settle(token, error)
            return
        self.hashes[token] = status.hash
        if entry is None:
            self._settle(token, status)
        else:
            self._entries[token] = entry

    def reached(self, token: int, status: TransactionStatus) -> None:
        if self._entries[token].gone:
            self._settle(token, status)

    def failed(self, token: int, error: MpisaError) -> None:
        self._settle(token, error)

    def _settle(self, token: int, result: TransactionStatus | MpisaError) -> None:
        self.results[token] = result
        self._left -= 1
        if not self._left:
            self._done.set()


class Flow:
    """One client's stream; see the module. Belongs to the loop's thread."""

    def __init__(self, desk: Desk, until: WaitFor, window: int = WINDOW) -> None:
        self._desk = desk
        self._until = until
        self._window = window
        self._entries: dict[int, Entry] = {}
        self._offered = 0
        self._finished = False
        self._gathered: dict[tuple[TransactionState, int | None], list[int]] = {}
        self._special: list[StreamAnswer] = []
        self._untaken = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._soon: asyncio.TimerHandle | None = None

    @property
    def unanswered(self) -> int:
        """Transactions without a final answer."""
        return len(self._entries)

    async def offer(self, raw: bytes) -> None:
        """Hands in the next transaction; whatever is wrong with it is an answer."""
        while len(self._entries) >= self._window or self._untaken >= MAX_GATHERED:
            self._room.clear()
            await self._room.wait()
        token = self._offered
        self._offered += 1
        try:
            status, entry = await self._desk.hand_in(raw, self._until, self, token)
        except MpisaError as error:
            self._tell(StreamAnswer((token,), error=error))
            return
        if entry is not None:
            self._entries[token] = entry
        self._gather(token, status)

    def finish(self) -> None:
        """Nothing more will be offered."""
        self._finished = True
        self._news.set()

    async def answers(self, patience_s: float) -> list[StreamAnswer] | None:
        """What happened since the last call, at least one answer; none at all when patience ran out, None when the
        stream is finished and all of it answered.
        """
        if not self._untaken and not (self._finished and not self._entries):
            self._news.clear()
            try:
                async with asyncio.timeout(patience_s):
                    await self._news.wait()
            except TimeoutError:
                return []
        if not self._untaken and self._finished and not self._entries:
            return None
        taken = [StreamAnswer(tuple(tokens), state, height) for (state, height), tokens in self._gathered.items()]
        taken += self._special
        self._gathered = {}
        self._special = []
        self._untaken = 0
        self._room.set()
        return taken

    def reached(self, token: int, status: TransactionStatus) -> None:
        entry = self._entries[token]
        if entry.gone:
            del self._entries[token]
            self._room.set()
        self._gather(token, status)

    def failed(self, token: int, error: MpisaError) -> None:
        self._entries.pop(token, None)
        self._room.set()
        self._tell(StreamAnswer((token,), error=error))

    def _gather(self, token: int, status: TransactionStatus) -> None:
        if status.status is TransactionState.REJECTED:
            if token not in self._entries:  # else it is said once it is final
                self._tell(StreamAnswer((token,), status.status, status.height, status.receipt))
            return
        self._gathered.setdefault((status.status, status.height), []).append(token)
        self._untaken += 1
        if status.status is not TransactionState.ACCEPTED or self._untaken >= MAX_GATHERED:
            self._news.set()
        elif self._soon is None:
            self._soon = asyncio.get_running_loop().call_later(ACCEPTED_PATIENCE_S, self._tell_accepted)

    def _tell_accepted(self) -> None:
        self._soon = None
        self._news.set()

    def _tell(self, answer: StreamAnswer) -> None:
        self._special.append(answer)
        self._untaken += 1
        self._news.set()

    def close(self) -> None:
        """The client is gone: nothing of it is waited for, what was taken in stays taken in."""
        entries, self._entries = self._entries, {}
        for entry in entries.values():
            self._desk.forget(entry)
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        self._finished = True
        self._news.set()
