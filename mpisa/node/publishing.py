"""Bytes in: from a client's stream to durable, pinned blocks, then announced.

A worker thread chunks and hashes what a bounded pipe brings; the result is answered only when every block is durable
and the root is pinned. The announcement (DHT and gossip) goes on behind the answer. An upload that breaks off leaves
unpinned blocks at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from mpisa.node.pipe import BytePipe
from mpisa.primitives.errors import NotReady, Rejection, RejectionReason, Unreachable
from storage.importer import ImportResult, import_stream, import_tar
from storage.profiles import DEFAULT_PROFILE, Profile, profile_by_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from concurrent.futures import Executor

    from storage.blockstore import BlockStore

MAX_UPLOADS = 4
"""Uploads that run at once; others wait for their turn."""

_T = TypeVar("_T")


@dataclass(slots=True)
class Counters:
    """Uploads since the start, for /metrics."""

    uploads: int = 0
    uploads_failed: int = 0
    bytes_uploaded: int = 0


class Publishing:
    """See the module."""

    def __init__(self, store: BlockStore, executor: Executor, upload_bytes: int) -> None:
        self._store = store
        self._executor = executor
        self._upload_bytes = upload_bytes
        self._turns = asyncio.Semaphore(MAX_UPLOADS)
        self._open: set[BytePipe] = set()
        self.counters = Counters()

    async def put_stream(self, reader: AsyncIterator[bytes], profile: str | None) -> ImportResult:
        """One file's bytes. Raises UsageError for an unknown profile, Rejection(TOO_LARGE), DiskFull."""
        return await self.run(reader, partial(_import, import_stream, _profile(profile)))

    async def put_tar(self, reader: AsyncIterator[bytes], profile: str | None) -> ImportResult:
        """A tar archive as a directory. Raises Rejection for a hostile archive, else as put_stream."""
        return await self.run(reader, partial(_import, import_tar, _profile(profile)))

    async def run(self, reader: AsyncIterator[bytes], work: Callable[[BlockStore, BytePipe], _T]) -> _T:
        """Let `work` read an upload in a worker thread, in its turn. Raises what it raises, Rejection(TOO_LARGE)."""
        async with self._turns:
            self.counters.uploads += 1
            try:
                return await self._run(reader, work)
            except BaseException:
                self.counters.uploads_failed += 1
                raise

    async def _run(self, reader: AsyncIterator[bytes], work: Callable[[BlockStore, BytePipe], _T]) -> _T:
        loop = asyncio.get_running_loop()
        pipe = BytePipe(loop)
        self._open.add(pipe)
        importing = loop.run_in_executor(self._executor, work, self._store, pipe)
        importing.add_done_callback(lambda _: self._ended(pipe))
        try:
            await self._feed(reader, pipe)
        except BaseException as error:
            pipe.abort(Unreachable(f"the upload broke off: {type(error).__name__}"))
            await asyncio.wait((importing,))
            importing.exception()  # its failure only repeats ours
            raise
        return await importing

    def _ended(self, pipe: BytePipe) -> None:
        pipe.close_reader()
        self._open.discard(pipe)

    def close(self) -> None:
        """Ends what is under way, so that no thread waits for bytes that won't come."""
        for pipe in self._open:
            pipe.abort(NotReady("the node is stopping", hint="put it again later"))

    async def _feed(self, reader: AsyncIterator[bytes], pipe: BytePipe) -> None:
        total = 0
        async for chunk in reader:
            total += len(chunk)
            if total > self._upload_bytes:
                raise Rejection(RejectionReason.TOO_LARGE, f"upload: expected at most {self._upload_bytes} bytes")
            self.counters.bytes_uploaded += len(chunk)
            if not await pipe.feed(chunk):
                return
        pipe.finish()


def _import(
    importer: Callable[[BlockStore, BytePipe, Profile], ImportResult],
    profile: Profile,
    store: BlockStore,
    pipe: BytePipe,
) -> ImportResult:
    return importer(store, pipe, profile)


def _profile(name: str | None) -> Profile:
    return DEFAULT_PROFILE if name is None else profile_by_name(name)
