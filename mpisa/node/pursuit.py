"""Getting one thing from whoever delivers it first (docs/protocol.md, section 12).

The asyncio shell of `mpisa.node.patience`: it asks, waits, judges what comes, and cancels what nobody waits for any
more. An answer that fails a check costs its sender the next questions; only a checked one ends the pursuit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mpisa.node.patience import Chase
from mpisa.primitives.errors import MpisaError

if TYPE_CHECKING:
    from mpisa.network.ports import PeerId
    from mpisa.node.sources import Sources

MAX_FAILURES = 8
"""Answers in a row that were of no use before the caller is told."""

_A = TypeVar("_A")
_T = TypeVar("_T")


class Pursuit(Generic[_A]):
    """See the module. Belongs to the loop."""

    def __init__(
        self,
        what: str,
        sources: Sources,
        able: Callable[[], Sequence[PeerId]],
        ask: Callable[[PeerId], Coroutine[Any, Any, _A]],
    ) -> None:
        """`able` names the peers that may have it, `ask` asks one of them and raises MpisaError."""
        self._what = what
        self._sources = sources
        self._able = able
        self._ask = ask
        self._chase: Chase[PeerId] = Chase(sources.patience)
        self._tasks: dict[PeerId, asyncio.Task[tuple[_A, float]]] = {}
        self._given_up: list[asyncio.Task[tuple[_A, float]]] = []

    def begin(self) -> bool:
        """Asks somebody ahead of the time when it is due; False when nobody has it."""
        peer = self._chase.begin(self._able(), asyncio.get_running_loop().time())
        if peer is not None:
            self._start(peer)
        return peer is not None

    async def take(self, verify: Callable[[_A], Awaitable[_T | None]]) -> _T | None:
        """What `verify` makes of the first answer that passes it: it raises Rejection for a lie, and gives None for
        nothing. None when nobody is left to ask, or too many brought nothing of use.
        """
        failures = 0
        loop = asyncio.get_running_loop()
        try:
            while failures < MAX_FAILURES:
                move = self._chase.move(self._able(), loop.time())
                if move.give_up is not None:
                    self._let_go(move.give_up)
                if move.ask is not None:
                    self._start(move.ask)
                if not self._tasks:
                    return None
                rest_s = self._chase.wake - loop.time()
                patience_s = rest_s if rest_s > 0 else self._sources.patience.bound
                await asyncio.wait(self._tasks.values(), timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
                for peer in [peer for peer, task in self._tasks.items() if task.done()]:
                    result = await self._judge(peer, self._tasks.pop(peer), verify)
                    if result is not None:
                        return result
                    failures += 1
            return None
        finally:
            await self.close()

    async def close(self) -> None:
        """Cancels what is under way."""
        self._chase.end()
        for peer in tuple(self._tasks):
            self._let_go(peer)
        await asyncio.gather(*self._given_up, return_exceptions=True)
        self._given_up.clear()

    async def _judge(
        self, peer: PeerId, task: asyncio.Task[tuple[_A, float]], verify: Callable[[_A], Awaitable[_T | None]]
    ) -> _T | None:
        loop = asyncio.get_running_loop()
        try:
            answer, took_s = await task
            result = await verify(answer)
        except MpisaError as error:
            self._sources.judge(peer, self._what, error)
            result = None
        else:
            if result is None:
                self._sources.rest(peer, self._what)
        if result is None:
            self._chase.failed(peer)
        else:
            self._chase.delivered(peer, loop.time(), took_s)
        return result

    def _start(self, peer: PeerId) -> None:
        self._tasks[peer] = asyncio.create_task(self._timed(peer), name=self._what)

    async def _timed(self, peer: PeerId) -> tuple[_A, float]:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        answer = await self._ask(peer)
        return answer, loop.time() - begun

    def _let_go(self, peer: PeerId) -> None:
        task = self._tasks.pop(peer)
        task.cancel()
        self._given_up.append(task)
