"""What lies behind a CID and a path: files and parts of them, directories, partial CARs, tar archives. What is missing
here is fetched from peers while it is read.

Each call reads in worker threads, one step at a time, so a consumer that stops asking stops the reading. Whoever asks
for something below a path gets it from the providers of the path's root. Everything is bounded by what the reader and
the selection bound; nothing is held but the piece that is being sent and blocks fetched ahead. Errors are those of
`storage.reader` and `mpisa.node.retrieval`; in a stream they may come midway.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from mpisa.node.reading import FetchingBlocks
from mpisa.primitives.cid import IDENTITY, RAW
from mpisa.primitives.errors import NotFound, NotReady
from storage.car import write_car
from storage.paths import Resolved, resolve
from storage.reader import DagReader, DirectoryEntry, Kind, Stat
from storage.selecting import select
from storage.tar_export import write_tar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
    from concurrent.futures import Executor

    from mpisa.node.providers import Providers
    from mpisa.node.retrieval import Retriever
    from mpisa.primitives.cid import Cid
    from mpisa.primitives.selection import Selection
    from mpisa.primitives.unixfs_tree import Entry
    from storage.blockstore import BlockStore

MAX_READINGS = 256
"""Readings that are open at once."""

READING_THREADS = 32
"""Each is held by a reading only while a step of it runs; a step may wait for a peer."""

MAX_ORIGINS = 4_096
PIECE_BYTES = 64 << 10
"""Smaller pieces are joined up to here before they are handed on."""

PAGE_AHEAD = 64
"""Entries of a directory that are looked into at once."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class EntryPage:
    """Some entries of a directory in the order of its blocks, and the name to ask on after (None: that is all)."""

    entries: tuple[DirectoryEntry, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class NamePage:
    """Some names of a directory in the order of its blocks, as it links them, and the name to ask on after."""

    entries: tuple[Entry, ...]
    next: str | None


class Content:
    """See the module. Belongs to the loop; `executor` has READING_THREADS for this alone."""

    def __init__(self, store: BlockStore, retriever: Retriever, providers: Providers, executor: Executor) -> None:
        self._store = store
        self._retriever = retriever
        self._providers = providers
        self._executor = executor
        self._open: set[FetchingBlocks] = set()
        self._origins: OrderedDict[Cid, Cid] = OrderedDict()

    async def resolve(self, root: Cid, parts: Sequence[str], *, local_only: bool = False) -> Resolved:
        """Where a path leads. Raises NotFound that names the part, UsageError, Rejection."""
        found = await self._once(root, lambda reader: resolve(reader, root, parts), local_only)
        self._remember(found.cid, root)
        return found

    async def stat(self, cid: Cid, *, local_only: bool = False) -> Stat:
        """What a CID is, from its root block."""
        return await self._once(cid, lambda reader: reader.stat(cid), local_only)

    async def block(self, cid: Cid, *, local_only: bool = False) -> bytes:
        """The block itself."""
        return await self._once(cid, lambda reader: reader.block(cid.require_supported()), local_only)

    async def has(self, cid: Cid) -> bool:
        """Whether the block itself is here; nothing is fetched."""
        if cid.digest_code == IDENTITY:
            return True
        (length,) = await self._run(lambda: self._store.lengths((cid.require_supported(),)))
        return length is not None

    def file(
        self, cid: Cid, first: int = 0, length: int | None = None, *, local_only: bool = False
    ) -> AsyncIterator[bytes]:
        """A file's bytes from `first`, `length` of them or to the end. Raises UsageError where there are none."""
        return self._stream(cid, lambda reader: reader.read_file(cid, first, length), local_only)

    def car(
        self, resolved: Resolved, selection: Selection, *, local_only: bool = False, max_bytes: int | None = None
    ) -> AsyncIterator[bytes]:
        """A CARv1 of the path's blocks and what is selected below it; its root is the path's."""
        root = resolved.roots[0] if resolved.roots else resolved.cid
        return self._stream(
            root,
            lambda reader: write_car([root], select(reader, resolved, selection, max_bytes=max_bytes)),
            local_only,
        )

    def tar(
        self, cid: Cid, name: str, *, local_only: bool = False, max_bytes: int | None = None
    ) -> AsyncIterator[bytes]:
        """The tree as a tar archive below one top name. Raises Rejection(BAD_NAME) before an entry that escapes."""
        return self._stream(cid, lambda reader: write_tar(reader, cid, name, max_bytes=max_bytes), local_only)

    async def entries(self, cid: Cid, limit: int, after: str | None = None, *, local_only: bool = False) -> EntryPage:
        """At most `limit` entries of a directory, those behind the name `after`. Raises UsageError when it is none,
        NotFound when no entry is named `after`.
        """
        return await self._once(cid, lambda reader: _page(reader, cid, limit, after), local_only)

    async def names(self, cid: Cid, limit: int, after: str | None = None, *, local_only: bool = False) -> NamePage:
        """As `entries`, without a look into what the names lead to: only blocks of the directory itself are read."""
        return await self._once(cid, lambda reader: _names(reader, cid, limit, after), local_only)

    def close(self) -> None:
        """Ends all readings; threads that wait for blocks are let go."""
        for blocks in tuple(self._open):
            blocks.close()

    async def _run(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def _once(self, cid: Cid, work: Callable[[DagReader], _T], local_only: bool) -> _T:
        with self._reading(cid, local_only) as reader:
            return await self._run(lambda: work(reader))

    async def _stream(
        self, cid: Cid, work: Callable[[DagReader], Iterator[bytes]], local_only: bool
    ) -> AsyncIterator[bytes]:
        with self._reading(cid, local_only) as reader:
            pieces = await self._run(lambda: work(reader))
            upcoming = asyncio.ensure_future(self._run(lambda: _gather(pieces)))
            try:
                while piece := await upcoming:
                    upcoming = asyncio.ensure_future(self._run(lambda: _gather(pieces)))  # while this one is sent
                    yield piece
            finally:
                upcoming.add_done_callback(_ignore_outcome)

    @contextmanager
    def _reading(self, cid: Cid, local_only: bool) -> Generator[DagReader]:
        if len(self._open) >= MAX_READINGS:
            raise NotReady(f"{MAX_READINGS} readings are open already", hint="try again in a moment")
        root = self._origins.get(cid, cid)
        blocks = FetchingBlocks(self._store, self._retriever, self._providers, root, local_only=local_only)
        self._open.add(blocks)
        try:
            yield DagReader(blocks.get, blocks.expect)
        finally:
            self._open.discard(blocks)
            blocks.close()

    def _remember(self, cid: Cid, root: Cid) -> None:
        """Whoever has the root is asked for what lies below it."""
        if cid == root:
            return
        self._origins[cid] = self._origins.get(root, root)
        self._origins.move_to_end(cid)
        if len(self._origins) > MAX_ORIGINS:
            self._origins.popitem(last=False)


def _ignore_outcome(task: asyncio.Task[bytes]) -> None:
    """Reads the outcome of a step that nobody waits for any more, so that nothing complains."""
    if not task.cancelled():
        task.exception()


def _gather(pieces: Iterator[bytes]) -> bytes:
    """The next pieces, joined while they are small; empty at the end."""
    joined: list[bytes] = []
    size = 0
    for piece in pieces:
        joined.append(piece)
        size += len(piece)
        if size >= PIECE_BYTES:
            break
    return joined[0] if len(joined) == 1 else b"".join(joined)


def _page(reader: DagReader, cid: Cid, limit: int, after: str | None) -> EntryPage:
    found = _names(reader, cid, limit, after)
    return EntryPage(tuple(_look_into(reader, found.entries)), found.next)


def _names(reader: DagReader, cid: Cid, limit: int, after: str | None) -> NamePage:
    entries = reader.entries(cid)
    if after is not None and not any(entry.name == after for entry in entries):
        raise NotFound(f"there is no {after!r} in {cid}")
    taken: list[Entry] = []
    for entry in entries:
        if len(taken) == limit:
            return NamePage(tuple(taken), taken[-1].name if taken else after)
        taken.append(entry)
    return NamePage(tuple(taken), None)


def _look_into(reader: DagReader, entries: Sequence[Entry]) -> Iterator[DirectoryEntry]:
    """Entries with kind and size; blocks that this takes are fetched several at once."""
    for start in range(0, len(entries), PAGE_AHEAD):
        group = entries[start : start + PAGE_AHEAD]
        reader.tell([entry.cid for entry in group if entry.cid.codec != RAW])
        for entry in group:
            yield _entry(reader, entry)


def _entry(reader: DagReader, entry: Entry) -> DirectoryEntry:
    if entry.cid.codec == RAW:
        size = len(entry.cid.digest) if entry.cid.digest_code == IDENTITY else entry.dag_size
        return DirectoryEntry(entry.name, entry.cid, Kind.FILE, size, entry.dag_size)
    found = reader.stat(entry.cid)
    size = found.dag_size if found.kind == Kind.DIRECTORY else found.size
    return DirectoryEntry(entry.name, entry.cid, found.kind, size, found.dag_size)
