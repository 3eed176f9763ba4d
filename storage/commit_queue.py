"""Group commit: callers that put at the same time share one write and one sync.

Whoever finds no commit under way takes everything that waits, up to the bounds of a group, and commits it for all. The
others wait for the lock and find their request done. Each caller waits, so no more requests queue than there are
threads.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import MpisaError
from storage.records import MAX_GROUP_RECORDS

MAX_GROUP_BYTES = 64 * 1024 * 1024
"""A group takes in waiting requests up to this size."""

Block = tuple[Cid, bytes]


class Request:
    """One caller's blocks while they wait; `error` is raised to that caller alone."""

    __slots__ = ("blocks", "done", "error", "size")

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.blocks = blocks
        self.size = sum(len(data) for _, data in blocks)
        self.done = False
        self.error: BaseException | None = None


class CommitQueue:
    """Hands groups of requests to `commit`, one group at a time, while holding `lock`."""

    def __init__(self, commit: Callable[[list[Request]], None]) -> None:
        self.lock = threading.Lock()
        """Held by whoever writes; also by those who must not be disturbed by a commit."""
        self._commit = commit
        self._queue: deque[Request] = deque()
        self._queue_lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """Number of requests that no commit has taken yet."""
        return len(self._queue)

    def submit(self, blocks: Sequence[Block]) -> None:
        """Commit blocks, in as many groups as their size asks for; returns or raises when all is settled."""
        for part in _parts(blocks):
            request = Request(part)
            with self._queue_lock:
                self._queue.append(request)
            while not request.done:
                with self.lock:
                    if not request.done:
                        self._settle(self._take_group())
            if request.error is not None:
                raise request.error

    def _take_group(self) -> list[Request]:
        group: list[Request] = []
        size = count = 0
        with self._queue_lock:
            while self._queue:
                request = self._queue[0]
                size += request.size
                count += len(request.blocks)
                if group and (size > MAX_GROUP_BYTES or count > MAX_GROUP_RECORDS):
                    break
                group.append(self._queue.popleft())
        return group

    def _settle(self, group: list[Request]) -> None:
        """Commit a group: afterwards each request is done, durable or with an error of its own."""
        try:
            self._commit(group)
        except BaseException as error:
            for request in group:
                request.error = request.error or _own_copy(error)
            if not isinstance(error, MpisaError):
                raise
        finally:
            for request in group:
                request.done = True


def _parts(blocks: Sequence[Block]) -> Iterator[Sequence[Block]]:
    """Slices that each fit a group."""
    start = size = 0
    for index, (_, data) in enumerate(blocks):
        size += len(data)
        if index > start and (size > MAX_GROUP_BYTES or index - start == MAX_GROUP_RECORDS):
            yield blocks[start:index]
            start, size = index, len(data)
    if start < len(blocks):
        yield blocks[start:]


def _own_copy(error: BaseException) -> BaseException:
    """An error for each caller, so that tracebacks do not mix."""
    if isinstance(error, MpisaError):
        return type(error)(error.message, hint=error.hint)
    return error
