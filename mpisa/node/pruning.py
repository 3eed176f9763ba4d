"""Forgetting: chain blocks and vertices older than the configured window go, a few at a time.

What goes is below the latest certified height by more than the window, and below what a snapshot that is handed out
needs. Headers and certificates that close epochs stay for ever: they lead a newcomer from genesis to today. A node with
`history.archive` forgets nothing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from consensus.order.ranges import decode_outline
from mpisa.primitives.errors import DiskFull
from mpisa.primitives.header import decode_header

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from consensus.parameters import Parameters
    from mpisa.config import HistoryConfig
    from mpisa.node.chain_store import ChainStore
    from mpisa.node.consensus_store import ConsensusStore

STEP_BLOCKS = 32
"""Chain blocks forgotten in one batch; the writer does other things between."""

STEP_VERTICES = 4_096
PERIOD_S = 5.0
SLACK_BLOCKS = 64
"""Nothing is done for fewer than this."""

log = structlog.get_logger(__name__)


class Pruning:
    """See the module. `needed_from` is the lowest height that something else still needs."""

    def __init__(
        self,
        history: HistoryConfig,
        store: ChainStore,
        vertices: ConsensusStore,
        parameters: Parameters,
        writer: Executor,
        needed_from: Callable[[], int],
    ) -> None:
        self._history = history
        self._store = store
        self._vertices = vertices
        self._parameters = parameters
        self._writer = writer
        self._needed_from = needed_from
        self.blocks_pruned = 0

    async def run(self) -> None:
        """Until cancelled."""
        while not self._history.archive:
            try:
                await self.prune(SLACK_BLOCKS)
            except DiskFull as error:
                log.warning("not pruned", error=error.message)
            await asyncio.sleep(PERIOD_S)

    async def prune(self, slack: int = 0) -> None:
        """Forgets what is outside of the window now, unless that is less than `slack` blocks. Raises DiskFull."""
        through = min(self._store.certified_height - self._history.blocks, self._needed_from() - 1)
        if self._history.archive or through - self._store.lowest_height + 1 < max(slack, 1):
            return
        before, loop = self._store.lowest_height, asyncio.get_running_loop()
        while self._store.lowest_height <= through:
            until = min(through, self._store.lowest_height + STEP_BLOCKS - 1)
            while await loop.run_in_executor(self._writer, self._forget_vertices, until):
                pass
            await loop.run_in_executor(self._writer, self._store.prune, until)
        self.blocks_pruned += self._store.lowest_height - before
        log.info("pruned", kept_from=self._store.lowest_height)

    def _forget_vertices(self, through: int) -> bool:
        """Those below the garbage collection round of the last block to go: nobody asks for them. Some at a time;
        whether there are more.
        """
        outline = self._store.outline(through)
        if outline is None:
            return False
        header = decode_header(self._store.raw_header(through))
        leader = decode_outline(outline, self._parameters.heartbeat_ms + 1).commits[-1][-1]
        return self._vertices.prune(header.epoch, leader.round - self._parameters.gc_depth, STEP_VERTICES)
