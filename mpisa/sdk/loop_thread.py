"""The private thread of a `Client`, with one event loop on which its `AsyncClient` does the work."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from mpisa.sdk.async_client import AsyncClient

T = TypeVar("T")

CLOSE_TIMEOUT_S = 5.0


class LoopThread:
    """The event loop and its thread; it doesn't know the `Client`, so that a forgotten one can be collected."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self.closed = False

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run on the loop and wait; an interrupt here cancels it there."""
        try:
            loop = self._running()
        except RuntimeError:
            work.close()
            raise
        future = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self.closed:
                raise RuntimeError("this client is closed; make a new one")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="mpisa-client", daemon=True)
                self._thread.start()
            return self._loop

    def close(self) -> None:
        """Close the connections, then the loop."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
            self.closed = True
        if loop is None or thread is None:
            return
        try:
            asyncio.run_coroutine_threadsafe(self._end(), loop).result(2 * CLOSE_TIMEOUT_S)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(CLOSE_TIMEOUT_S)
            loop.close()

    async def _end(self) -> None:
        """Let interrupted work clean up behind itself (a download removes its parts), then close connections."""
        running = asyncio.all_tasks() - {asyncio.current_task()}
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=CLOSE_TIMEOUT_S)
        await self._client.close()
