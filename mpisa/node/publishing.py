"""Bytes in: from a client's stream to durable, pinned blocks, then announced.

A worker thread chunks and hashes what a bounded pipe brings; the result is answered only when every block is durable
and the root is pinned. The announcement (DHT and gossip) goes on behind the answer. An upload that breaks off leaves
unpinned blocks at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

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

Import = Callable[["BlockStore", BytePipe, Profile], ImportResult]


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
        return await self._put(reader, _profile(profile), import_stream)

    async def put_tar(self, reader: AsyncIterator[bytes], profile: str | None) -> ImportResult:
        """A tar archive as a directory. Raises Rejection for a hostile archive, else as put_stream."""
        return await self._put(reader, _profile(profile), import_tar)

    async def _put(self, reader: AsyncIterator[bytes], profile: Profile, work: Import) -> ImportResult:
        async with self._turns:
            self.counters.uploads += 1
            try:
                return await self._run(reader, profile, work)
            except BaseException:
                self.counters.uploads_failed += 1
                raise

    async def _run(self, reader: AsyncIterator[bytes], profile: Profile, work: Import) -> ImportResult:
        loop = asyncio.get_running_loop()
        pipe = BytePipe(loop)
        self._open.add(pipe)
        importing = loop.run_in_executor(self._executor, work, self._store, pipe, profile)
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


def _profile(name: str | None) -> Profile:
    return DEFAULT_PROFILE if name is None else profile_by_name(name)
