"""Whose answer is read and sent next: askers take turns, and what all answers hold in memory is bounded.

A few answers are made at once. Whoever asks for more waits in a queue of its own; the queues are served round robin, so
that a peer with many connections gets no more than one with a single question. An answer gives its place to the next
one when it has been sent, or after TURN_SECONDS: a slow reader delays nobody. Bytes count from before they are read
until they are handed to the kernel. Of what is free in all, nobody may hold more than is left over for others: one
greedy peer gets half of the memory, n of them n/(n+1), and a modest one always finds room. Sizes in bytes, times in
seconds. Non-goals: how often somebody may ask (`limits`).
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from mpisa.network.ports import NetworkLimits
from mpisa.primitives.errors import MpisaError

TURN_SECONDS = 0.25
MAX_WAITING = 64
"""Questions of one asker that wait for their turn."""

WAIT_SECONDS = 20.0
"""Whoever asked has given up by then."""


class TooMany(MpisaError):
    """Over a limit of what one asker may do here."""

    code = "too-many"


@dataclass(slots=True, eq=False)
class _Waiter:
    size: int
    granted: asyncio.Future[None]


@dataclass(slots=True, eq=False)
class Turn:
    """An answer that is being made: its asker, the bytes it holds, and whether it still has one of the places."""

    turns: Turns
    asker: str
    size: int
    has_place: bool = True
    timer: asyncio.TimerHandle | None = field(default=None)

    def resize(self, size: int) -> None:
        """The answer holds this many bytes. Raises TooMany above what one asker may have in flight."""
        self.turns.resize(self, size)


class Turns:
    """See the module. Belongs to the loop."""

    def __init__(self, limits: NetworkLimits) -> None:
        self._limits = limits
        self._places = limits.answers_at_once
        self._held: Counter[str] = Counter()
        self._total = 0
        self._waiting: OrderedDict[str, deque[_Waiter]] = OrderedDict()

    @property
    def held_bytes(self) -> int:
        """Bytes of all answers that are being made or sent."""
        return self._total

    @property
    def is_idle(self) -> bool:
        """Nobody waits, nothing is held."""
        return not self._held and not self._waiting and self._places == self._limits.answers_at_once

    @asynccontextmanager
    async def turn(self, asker: str, size: int) -> AsyncIterator[Turn]:
        """Waits for the asker's turn with an answer of at most `size` bytes. Raises TooMany when too many wait."""
        await self._enter(asker, size)
        turn = Turn(self, asker, size)
        turn.timer = asyncio.get_running_loop().call_later(TURN_SECONDS, self._give_place, turn)
        try:
            yield turn
        finally:
            turn.timer.cancel()
            self._hold(asker, -turn.size)
            self._give_place(turn)
            self._pump()

    def resize(self, turn: Turn, size: int) -> None:
        """See Turn.resize."""
        self._hold(turn.asker, size - turn.size)
        turn.size = size
        limit = self._limits.inflight_bytes_per_peer
        if self._held[turn.asker] > limit:
            raise TooMany(f"over {limit} bytes in flight")
        self._pump()

    async def _enter(self, asker: str, size: int) -> None:
        queue = self._waiting.setdefault(asker, deque())
        if len(queue) >= MAX_WAITING:
            raise TooMany(f"over {MAX_WAITING} questions waiting")
        waiter = _Waiter(size, asyncio.get_running_loop().create_future())
        queue.append(waiter)
        self._pump()
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await waiter.granted
        except BaseException as error:
            self._forget(asker, waiter)
            if isinstance(error, TimeoutError):
                raise TooMany(f"no turn within {WAIT_SECONDS:.0f} s") from error
            raise

    def _forget(self, asker: str, waiter: _Waiter) -> None:
        """Whoever waited has gone, perhaps just as it got its turn."""
        if waiter.granted.done() and not waiter.granted.cancelled():
            self._hold(asker, -waiter.size)
            self._places += 1
        elif waiter in self._waiting.get(asker, ()):
            self._waiting[asker].remove(waiter)
            if not self._waiting[asker]:
                del self._waiting[asker]
        self._pump()

    def _hold(self, asker: str, size: int) -> None:
        self._held[asker] += size
        self._total += size
        if not self._held[asker]:
            del self._held[asker]

    def _give_place(self, turn: Turn) -> None:
        if turn.has_place:
            turn.has_place = False
            self._places += 1
            self._pump()

    def _fits(self, asker: str, size: int) -> bool:
        if not self._total:
            return True
        mine = self._held[asker] + size
        is_own_ok = mine == size or mine <= self._limits.inflight_bytes_per_peer
        return is_own_ok and mine <= self._limits.inflight_bytes - self._total

    def _pump(self) -> None:
        """Grants turns: one to each asker that waits, whose answer fits, then from the first again."""
        while self._places and (asker := self._next()):
            queue = self._waiting[asker]
            waiter = queue.popleft()
            self._waiting.move_to_end(asker)
            if not queue:
                del self._waiting[asker]
            if not waiter.granted.done():
                self._places -= 1
                self._hold(asker, waiter.size)
                waiter.granted.set_result(None)

    def _next(self) -> str | None:
        return next((asker for asker, queue in self._waiting.items() if self._fits(asker, queue[0].size)), None)
