"""A bounded pipe from the event loop to a worker thread: chunks in, a blocking `read` out.

The writer waits while `bound` bytes are buffered, the reader while there are none. Either side may give up: the other
then sees the error at its next call. Non-goals: seeking, more than one reader or writer.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque

PIPE_BYTES = 8 << 20


class BytePipe:
    """See the module. `feed`, `finish` and `abort` belong to the loop, `read` to one worker thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, bound: int = PIPE_BYTES) -> None:
        self._loop = loop
        self._bound = bound
        self._chunks: deque[memoryview] = deque()
        self._buffered = 0
        self._changed = threading.Condition()
        self._space = asyncio.Event()
        self._ended = False
        self._error: BaseException | None = None
        self._reader_gone = False

    async def feed(self, chunk: bytes) -> bool:
        """Appends a chunk, waiting for room; False once the reader is gone, so that the rest need not be sent."""
        while not self._reader_gone and self._buffered >= self._bound:
            self._space.clear()
            if self._buffered >= self._bound and not self._reader_gone:
                await self._space.wait()
        if chunk and not self._reader_gone:
            with self._changed:
                self._chunks.append(memoryview(chunk))
                self._buffered += len(chunk)
                self._changed.notify()
        return not self._reader_gone

    def finish(self) -> None:
        """No more chunks: the reader sees the end after what is buffered."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def abort(self, error: BaseException) -> None:
        """The reader's next call raises `error`, whatever is buffered."""
        with self._changed:
            self._error = error
            self._changed.notify()

    def close_reader(self) -> None:
        """The reader has gone: lets a waiting writer go on. Call it in the loop."""
        self._reader_gone = True
        self._space.set()

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes (all that is to come when negative); fewer only at the end. Blocks the calling thread."""
        parts: list[memoryview] = []
        missing = size
        while missing != 0:
            piece = self._next_piece(missing)
            if piece is None:
                break
            parts.append(piece)
            if missing > 0:
                missing -= len(piece)
        return b"".join(parts)

    def _next_piece(self, limit: int) -> memoryview | None:
        with self._changed:
            while not self._chunks and not self._ended and self._error is None:
                self._changed.wait()
            if self._error is not None:
                raise self._error
            if not self._chunks:
                return None
            piece = self._chunks.popleft()
            if 0 < limit < len(piece):
                self._chunks.appendleft(piece[limit:])
                piece = piece[:limit]
            was_full = self._buffered >= self._bound
            self._buffered -= len(piece)
        if was_full and self._buffered < self._bound:
            self._loop.call_soon_threadsafe(self._space.set)
        return piece
