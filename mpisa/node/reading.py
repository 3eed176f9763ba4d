"""One reading of a DAG by a worker thread that wants its blocks one after another, from here or from peers.

`FetchingBlocks` is what a `DagReader` gets its blocks from. A block that is missing is fetched in the loop while the
thread waits; blocks that the reader says it will want soon are fetched ahead, several at once. All fetches of one
reading ask the same providers, and a lease keeps what was found from being collected before it is read. Close it in the
loop: a thread that waits is let go then.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import TYPE_CHECKING

from mpisa.primitives.errors import NotFound, NotReady

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpisa.node.providers import Providers
    from mpisa.node.retrieval import Retriever
    from mpisa.node.sessions import ProviderSession
    from mpisa.primitives.cid import Cid
    from storage.blockstore import BlockStore

MAX_PREFETCHES = 4
"""Groups of blocks fetched ahead at once; what is named beyond them is fetched when it is read."""


class BlockMissing(NotFound):
    """The block isn't here, and was not to be fetched."""


class FetchingBlocks:
    """See the module. Made and closed in the loop, `get` and `expect` are for worker threads."""

    def __init__(
        self, store: BlockStore, retriever: Retriever, providers: Providers, root: Cid, *, local_only: bool = False
    ) -> None:
        self._retriever = retriever
        self._providers = providers
        self._root = root
        self._local_only = local_only
        self._loop = asyncio.get_running_loop()
        self._lease = store.lease(f"reading {root}")
        self._feed: ProviderSession | None = None
        self._prefetches: set[asyncio.Task[None]] = set()
        self._lock = threading.Lock()
        self._waiting: set[concurrent.futures.Future[bytes]] = set()
        self._closed = False

    def get(self, cid: Cid) -> bytes:
        """The block. Raises NotFound, Unreachable, TimedOut, IntegrityError or StoreDamaged; NotReady once closed."""
        data = self._retriever.arrivals.find(cid)
        if data is not None:
            return data
        if self._local_only:
            raise BlockMissing(f"block {cid} is not in this store")
        with self._lock:
            if self._closed:
                raise NotReady("the reading has ended")
            fetching = asyncio.run_coroutine_threadsafe(self._fetch(cid), self._loop)
            self._waiting.add(fetching)
        try:
            return fetching.result()
        except concurrent.futures.CancelledError as error:
            raise NotReady("the reading has ended") from error
        finally:
            with self._lock:
                self._waiting.discard(fetching)

    def expect(self, cids: Sequence[Cid]) -> None:
        """These will be read soon, the first one first."""
        if not self._local_only:
            self._loop.call_soon_threadsafe(self._prefetch, tuple(cids))

    def close(self) -> None:
        """Gives up what is being fetched for this reading alone; threads that wait hear NotReady."""
        with self._lock:
            self._closed = True
            waiting = tuple(self._waiting)
        for fetching in waiting:
            fetching.cancel()
        for task in self._prefetches:
            task.cancel()
        if self._feed is not None:
            self._feed.close()
        self._lease.release()

    async def _fetch(self, cid: Cid) -> bytes:
        return await self._retriever.block(cid, feed=self._session())

    def _session(self) -> ProviderSession:
        if self._feed is None:
            self._feed = self._providers.session(self._root)
        return self._feed

    def _prefetch(self, cids: tuple[Cid, ...]) -> None:
        if self._closed or len(self._prefetches) >= MAX_PREFETCHES:
            return
        task = asyncio.create_task(self._retriever.prefetch(cids, self._session), name=f"prefetch of {self._root}")
        self._prefetches.add(task)
        task.add_done_callback(self._prefetches.discard)
