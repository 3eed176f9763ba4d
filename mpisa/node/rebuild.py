"""The ledger from the vertices: when it was set aside or fell far behind them, every chain block is executed again.

A few hundred rounds at a time, so that memory stays bounded however long the chain is: a follower's engine recovered at
the ledger's cursor orders them, each block is committed with its cursor, and the certificates come from the execution
signatures that vertices carry. Nothing is signed and nobody is asked. A crash anywhere leaves a whole number of chain
blocks, from which the next start goes on. What the vertices don't lead to any more is left to the engine, which fetches
it from the peers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from consensus.dag.vertex import decode_vertex
from consensus.engine import Engine
from consensus.events import Commit, StoredEpoch
from consensus.order.certifier import Certified, Certifier
from consensus.order.checkpoint import decode_cursor
from consensus.order.epoch import start_behind
from mpisa.node.execution import outline_of, refs_of
from mpisa.primitives.errors import NotReady
from mpisa.primitives.header import header_hash
from mpisa.primitives.identifiers import Height

if TYPE_CHECKING:
    from collections.abc import Callable

    from consensus.dag.committee import Committee
    from consensus.dag.vertex import Vertex, VertexRef
    from consensus.events import CommittedSubDag
    from consensus.parameters import Parameters
    from mpisa.node.chain_store import ChainStore
    from mpisa.node.consensus_store import ConsensusStore
    from mpisa.node.execution import Execution
    from mpisa.primitives.genesis import Genesis

PAGE_ROUNDS = 512
"""Rounds ordered at a time beyond those that the cursor needs..."""

PAGE_BYTES = 64 << 20
"""...and bytes of vertices after which fewer rounds must do."""

BEHIND_ROUNDS = 256
"""Fewer rounds behind the vertices than this, the node's own engine orders them again while it starts."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Chain:
    """What the engine must know of the chain whose ledger is rebuilt."""

    genesis: Genesis
    committee: Committee
    parameters: Parameters


class Rebuild:
    """See the module. One thread; `step` after `step` until it returns False."""

    def __init__(
        self,
        chain: Chain,
        store: ChainStore,
        vertices: ConsensusStore,
        execution: Execution,
        *,
        page_rounds: int = PAGE_ROUNDS,
        behind_rounds: int = BEHIND_ROUNDS,
    ) -> None:
        self._chain = chain
        self._store = store
        self._vertices = vertices
        self._execution = execution
        self._certifier = Certifier(
            chain.committee, chain.genesis.chain_hash, chain.parameters.certifier_window, store.height
        )
        self._page_rounds = page_rounds
        self._behind_rounds = behind_rounds
        self._scale = 1

    def run(self, stopping: Callable[[], bool]) -> int:
        """Executes what is far behind the vertices; how many chain blocks. Raises DiskFull, StoreDamaged, and NotReady
        when it is to stop.
        """
        first = self._store.height
        while self._behind() > self._behind_rounds and self._step():
            log.info("ledger rebuilt", height=self._store.height, rounds_to_go=self._behind())
            if stopping():
                raise NotReady("the node was stopped while it rebuilt its ledger", hint="the next start goes on")
        return self._store.height - first

    def _behind(self) -> int:
        return self._vertices.highest_round() - self._lowest()

    def _lowest(self) -> int:
        cursor = self._store.cursor
        return 0 if cursor is None else decode_cursor(cursor).gc_round(self._chain.parameters.gc_depth)

    def _step(self) -> bool:
        """Executes a page of rounds; False when the vertices lead no further."""
        vertices, is_all = self._read()
        for vertex in vertices:
            for signature in vertex.header.execution_signatures:
                self._keep(self._certifier.observe(signature))
        commits = self._order(vertices)
        for position, (folded, commit) in enumerate(commits, 1):
            outline = outline_of(folded, commit)
            header = self._execution.execute_again(commit, outline, sync=position == len(commits))
            self._keep(self._certifier.executed(Height(header.height), header_hash(header), None))
        self._scale = 1 if commits else 2 * self._scale  # no chain block closed within the page: look further
        return bool(commits) or not is_all

    def _read(self) -> tuple[list[Vertex], bool]:
        """The vertices from the cursor's GC round on, whole rounds, and whether there are no more behind them."""
        parameters = self._chain.parameters
        lowest = self._lowest()
        needed = lowest + parameters.gc_depth
        found: list[Vertex] = []
        size = 0
        for raw in self._vertices.all_from(lowest):
            vertex = decode_vertex(raw, parameters)
            is_enough = size > PAGE_BYTES * self._scale or vertex.round > needed + self._page_rounds * self._scale
            if found and vertex.round > max(needed, found[-1].round) and is_enough:
                return found, False
            found.append(vertex)
            size += len(raw)
        return found, True

    def _order(self, vertices: list[Vertex]) -> list[tuple[list[tuple[VertexRef, ...]], CommittedSubDag]]:
        """The commits that close chain blocks, and the vertices of those folded into each, which carry nothing."""
        start = start_behind(self._store.header(0), self._chain.committee)
        stored = StoredEpoch(self._store.cursor, vertices)
        engine = Engine.recover(self._chain.parameters, self._chain.genesis.chain_hash, start, None, stored)
        blocks: list[tuple[list[tuple[VertexRef, ...]], CommittedSubDag]] = []
        folded: list[tuple[VertexRef, ...]] = []
        for effect in engine.start(0):
            if isinstance(effect, Commit):
                if effect.commit.block is None:
                    folded.append(refs_of(effect.commit))
                else:
                    blocks.append((folded, effect.commit))
                    folded = []
        return blocks

    def _keep(self, certified: Certified | None) -> None:
        if certified is not None:
            self._store.add_certificate(certified.height, certified.certificate)
