"""What every import shares: hashing on a few threads, batches that are stored while the next are made, counters.

Memory stays bounded whatever is imported: a few chunks that are being hashed, one batch being filled and one being made
durable. Of directories only names and CIDs are held.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from types import TracebackType
from typing import Protocol, Self

from mpisa.primitives.cid import Cid
from mpisa.primitives.profiles import Profile
from mpisa.primitives.unixfs import Mtime
from mpisa.primitives.unixfs_layout import (
    NO_METADATA,
    BalancedBuilder,
    Leaf,
    Metadata,
    Node,
    make_leaf,
    make_single,
    make_symlink,
)
from storage.blockstore import BlockStore, Progress

HASH_THREADS = 2
MAX_CHUNKS_IN_FLIGHT = 4
MIN_THREADED_CHUNK_BYTES = 64 * 1024
"""Smaller chunks are hashed faster than they are handed to a thread."""

BATCH_BYTES = 16 * 1024 * 1024
BATCH_BLOCKS = 4096
MAX_COUNTED_BLOCKS = 1 << 20
"""Up to here distinct blocks are counted exactly; beyond, a repeated block counts again."""


class Reader(Protocol):
    """Anything with a blocking `read`: fewer bytes than asked for are fine, none mean the end."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes."""
        ...


@dataclass(frozen=True, slots=True)
class ImportResult:
    """The root, bytes of file content, number of distinct blocks, bytes of all blocks of the DAG (Tsize)."""

    cid: Cid
    size: int
    blocks: int
    dag_size: int


class ImportSession:
    """One import into a store, or into nothing when only the CID is wanted. A context manager, for one thread.

    Leaving it normally waits until every block is durable.
    """

    def __init__(self, store: BlockStore | None, profile: Profile, progress: Progress | None) -> None:
        self.profile = profile
        self._store = store
        self._progress = progress
        self._hashing = ThreadPoolExecutor(HASH_THREADS, thread_name_prefix="import-hash")
        self._storing = ThreadPoolExecutor(1, thread_name_prefix="import-store")
        self._batch: list[tuple[Cid, bytes]] = []
        self._batch_bytes = 0
        self._pending: Future[None] | None = None
        self._seen: set[bytes] = set()
        self._blocks = 0
        self._content = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._flush()
                self._settle()
        finally:
            self._hashing.shutdown(wait=True, cancel_futures=True)
            self._storing.shutdown(wait=True)

    def sink(self, cid: Cid, block: bytes) -> None:
        """Take a finished block; raises what storing an earlier batch raised."""
        self._count(cid)
        if self._store is None:
            return
        self._batch.append((cid, block))
        self._batch_bytes += len(block)
        if self._batch_bytes >= BATCH_BYTES or len(self._batch) >= BATCH_BLOCKS:
            self._flush()

    def add_file(self, reader: Reader, metadata: Metadata = NO_METADATA) -> Node:
        """Import one file's bytes to the end of the reader."""
        builder = BalancedBuilder(self.profile, self.sink, metadata)
        leaves = self._leaves(reader)
        first = next(leaves)
        second = next(leaves, None)
        if second is None and metadata != NO_METADATA:
            first = make_single(first, self.profile, metadata)
        for leaf in chain((first,) if second is None else (first, second), leaves):
            self.sink(leaf.node.cid, leaf.block)
            builder.add(leaf.node)
            self._content += leaf.node.filesize
            if self._progress is not None:
                self._progress(self._content)
        return builder.finish()

    def add_symlink(self, target: str, mtime: Mtime | None = None) -> Node:
        """Import a symlink."""
        leaf = make_symlink(target, self.profile, mtime)
        self.sink(leaf.node.cid, leaf.block)
        return leaf.node

    def result(self, root: Node) -> ImportResult:
        """The outcome, once the session was left without an error."""
        return ImportResult(root.cid, self._content, self._blocks, root.dag_size)

    def _leaves(self, reader: Reader) -> Iterator[Leaf]:
        in_flight: deque[Future[Leaf]] = deque()
        for chunk in chunks(reader, self.profile.chunk_size):
            if len(chunk) < MIN_THREADED_CHUNK_BYTES:
                while in_flight:
                    yield in_flight.popleft().result()
                yield make_leaf(chunk, self.profile)
                continue
            in_flight.append(self._hashing.submit(make_leaf, chunk, self.profile))
            if len(in_flight) >= MAX_CHUNKS_IN_FLIGHT:
                yield in_flight.popleft().result()
        while in_flight:
            yield in_flight.popleft().result()

    def _count(self, cid: Cid) -> None:
        if len(self._seen) >= MAX_COUNTED_BLOCKS:
            self._blocks += cid.digest not in self._seen
        elif cid.digest not in self._seen:
            self._seen.add(cid.digest)
            self._blocks += 1

    def _flush(self) -> None:
        if self._store is None or not self._batch:
            return
        self._settle()
        self._pending = self._storing.submit(self._store.put, self._batch)
        self._batch, self._batch_bytes = [], 0

    def _settle(self) -> None:
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()


def chunks(reader: Reader, size: int) -> Iterator[bytes]:
    """Slices of exactly `size` bytes, the last one shorter; one empty slice for an empty input."""
    first = True
    while True:
        chunk = _read_fully(reader, size)
        if not chunk and not first:
            return
        yield chunk
        first = False
        if len(chunk) < size:
            return


def _read_fully(reader: Reader, size: int) -> bytes:
    data = reader.read(size)
    if len(data) == size or not data:
        return data
    parts = [data]
    missing = size - len(data)
    while missing and (part := reader.read(missing)):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
