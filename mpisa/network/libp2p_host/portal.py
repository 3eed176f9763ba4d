"""Between asyncio and trio: one thread that runs trio, and calls in both directions that wake the other side and
never poll.

A cancelled call is cancelled on the other side too. When the trio side ends, calls still open end as Unreachable.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar, TypeVarTuple

import trio

from mpisa.primitives.errors import Unreachable

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _Call(Generic[T]):
    """One call into trio: where its result goes, and how it is cancelled."""

    def __init__(self, future: asyncio.Future[T], function: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> None:
        self.future = future
        self.function = function
        self.args = args
        self.scope = trio.CancelScope()


class Portal:
    """Owns the trio thread. `main(portal)` runs in it until `stop`; `call` runs coroutine functions beside it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, main: Callable[[Portal], Awaitable[None]]) -> None:
        self._loop = loop
        self._main = main
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None
        self._stop: trio.Event | None = None
        self._open: set[_Call[Any]] = set()
        self._ready: asyncio.Future[None] = loop.create_future()
        self._ended: asyncio.Future[None] = loop.create_future()
        self.failure: BaseException | None = None
        """What ended the trio side, if it wasn't `stop`."""
        self._thread = threading.Thread(target=self._run, name="libp2p", daemon=True)

    async def start(self) -> None:
        """Starts the thread; returns when `main` called `ready`. Raises what main raised before that."""
        self._thread.start()
        await self._ready

    def ready(self) -> None:
        """Called by main, in trio, when it can take calls."""
        self.notify(self._settle, self._ready, None)

    async def wait_stop(self) -> None:
        """Awaited by main, in trio: returns when it should end."""
        assert self._stop is not None
        await self._stop.wait()

    async def stop(self) -> None:
        """Asks main to end, and waits for the thread."""
        if self._token is not None and self._stop is not None:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._stop.set)
        if self._thread.is_alive() or not self._ended.done():
            await self._ended
        self._thread.join()

    async def call(self, function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        """Runs a coroutine function in trio and returns what it returns."""
        if self._token is None:
            raise Unreachable("the libp2p host isn't running")
        call: _Call[T] = _Call(self._loop.create_future(), function, args)
        try:
            self._token.run_sync_soon(self._begin, call)
        except trio.RunFinishedError as error:
            raise Unreachable("the libp2p host has ended") from error
        try:
            return await call.future
        except asyncio.CancelledError:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(call.scope.cancel)
            raise

    def notify(self, function: Callable[[*Ts], object], *args: *Ts) -> None:
        """From trio: runs a plain function in the asyncio loop, soon, in order."""
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(function, *args)

    async def ask(self, function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        """From trio: runs a coroutine function in the asyncio loop and waits for what it returns."""
        done = trio.Event()
        outcome: list[tuple[T | None, BaseException | None]] = []
        token = trio.lowlevel.current_trio_token()
        tasks: list[asyncio.Task[None]] = []

        async def run() -> None:
            try:
                outcome.append((await function(*args), None))
            except BaseException as error:  # noqa: BLE001  handed to the trio side, where it is raised
                outcome.append((None, error))
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(done.set)

        def begin() -> None:
            tasks.append(self._loop.create_task(run()))

        self.notify(begin)
        try:
            await done.wait()
        except trio.Cancelled:
            self.notify(lambda: [task.cancel() for task in tasks])
            raise
        value, error = outcome[0]
        if isinstance(error, asyncio.CancelledError):
            raise Unreachable("the other side was cancelled")
        if error is not None:
            raise error
        return value  # type: ignore[return-value]

    def _begin(self, call: _Call[Any]) -> None:
        if self._nursery is None:
            self.notify(self._settle, call.future, Unreachable("the libp2p host has ended"))
            return
        self._open.add(call)
        self._nursery.start_soon(self._perform, call)

    async def _perform(self, call: _Call[Any]) -> None:
        value: Any = None
        failure: BaseException | None = Unreachable("the libp2p host has ended")
        try:
            with call.scope:
                value = await call.function(*call.args)
                failure = None
        except Exception as error:  # noqa: BLE001  a task's root: the caller gets it
            failure = error
        finally:
            self._open.discard(call)
            self.notify(self._settle, call.future, failure, value)

    @staticmethod
    def _settle(future: asyncio.Future[Any], failure: BaseException | None, value: Any = None) -> None:
        if future.done():
            return
        if failure is None:
            future.set_result(value)
        else:
            future.set_exception(failure)

    def _run(self) -> None:
        failure: BaseException | None = None
        try:
            trio.run(self._trio_main)
        except BaseException as error:  # noqa: BLE001  the thread's root
            failure = error
        while isinstance(failure, BaseExceptionGroup) and len(failure.exceptions) == 1:
            failure = failure.exceptions[0]
        self.notify(self._finish, failure)

    async def _trio_main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._stop = trio.Event()
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                await self._main(self)
                nursery.cancel_scope.cancel()
        finally:
            self._nursery = None

    def _finish(self, failure: BaseException | None) -> None:
        if not self._ready.done():
            self._ready.set_exception(failure or Unreachable("the libp2p host ended at once"))
        for call in list(self._open):
            self._settle(call.future, Unreachable("the libp2p host has ended"))
        self.failure = failure
        if not self._ended.done():
            self._ended.set_result(None)
