"""Certified chain blocks, checked, made this node's own: vertices first, then each block executed as everywhere else.

The vertices are on the disk before the first block that builds on them; the blocks follow without a sync but for the
last, since they can be had again. The header that comes out must be the certified one: else nothing is stored, both
headers are written down beside the stores, and the node halts.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

import structlog

from mpisa.node.execution import Diverged
from mpisa.primitives.header import encode_header

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from pathlib import Path

    from consensus.order.ranges import CertifiedBlock
    from mpisa.node.chain_store import ChainStore
    from mpisa.node.consensus_store import ConsensusStore
    from mpisa.node.execution import Execution, Outcome

STRIDE = 32
"""Blocks executed in one go; the loop hears of them, and stops between."""

_T = TypeVar("_T")
Durably = Callable[[Callable[[], Awaitable[_T]]], Awaitable[_T]]

log = structlog.get_logger(__name__)


class Heard(Protocol):
    """What is told of blocks that others ordered; all of it returns at once."""

    def executed(self, outcome: Outcome) -> None: ...
    def certificate_added(self, height: int) -> None: ...
    def diverged(self, reason: str) -> None: ...


class Applying:
    """See the module. One task calls `apply`, batch after batch."""

    def __init__(
        self,
        store: ChainStore,
        vertices: ConsensusStore,
        execution: Execution,
        writer: Executor,
        heard: Heard,
        home: Path,
    ) -> None:
        self._store = store
        self._vertices = vertices
        self._execution = execution
        self._writer = writer
        self._heard = heard
        self._home = home
        self.blocks_applied = 0
        self.commits_applied = 0

    async def keep(self, blocks: Sequence[CertifiedBlock]) -> None:
        """Makes the blocks' vertices durable. Raises DiskFull."""
        await asyncio.get_running_loop().run_in_executor(self._writer, self._keep, blocks)

    def _keep(self, blocks: Sequence[CertifiedBlock]) -> None:
        self._vertices.write(
            [
                self._vertices.vertex_change(block.header.epoch, vertex.round, vertex.author, vertex.id, raw)
                for block in blocks
                for vertex, raw in zip(block.vertices, block.raws, strict=True)
            ],
            sync=True,
        )

    async def execute(self, blocks: Sequence[CertifiedBlock]) -> None:
        """Executes blocks whose vertices are kept. Raises DiskFull, after which the rest may be handed in again, and
        Diverged.
        """
        for at in range(0, len(blocks), STRIDE):
            await self._stride(
                [block for block in blocks[at : at + STRIDE] if block.header.height > self._store.height]
            )

    async def _stride(self, blocks: Sequence[CertifiedBlock]) -> None:
        outcomes: list[Outcome] = []
        try:
            await asyncio.get_running_loop().run_in_executor(self._writer, self._execute, blocks, outcomes)
        except Diverged as error:
            self._write_down(error, next(block for block in blocks if block.header == error.certified))
            self._heard.diverged(error.message)
            raise
        finally:
            for outcome in outcomes:
                self._heard.executed(outcome)
        for block in blocks:
            self.blocks_applied += 1
            self.commits_applied += block.header.last_commit - block.header.first_commit + 1
            if block.certificate is not None:
                self._heard.certificate_added(block.header.height)

    def _execute(self, blocks: Sequence[CertifiedBlock], outcomes: list[Outcome]) -> None:
        for position, block in enumerate(blocks, 1):
            is_last = position == len(blocks)
            outcomes.append(self._execution.follow(block.commit, block.outline, block.header, sync=is_last))
            if block.certificate is not None:
                self._store.add_certificate(block.header.height, block.certificate)

    def _write_down(self, error: Diverged, block: CertifiedBlock) -> None:
        file = self._home / f"diverged-{error.certified.height}.json"
        file.write_text(
            json.dumps(
                {
                    "height": error.certified.height,
                    "own_header": encode_header(error.own).hex(),
                    "certified_header": encode_header(error.certified).hex(),
                    "certificate": None if block.certificate is None else block.certificate.encode().hex(),
                    "outline": block.outline.hex(),
                },
                indent=2,
            )
            + "\n",
            encoding="utf-8",
        )
        log.error("diverged", file=str(file), reason=error.message)
