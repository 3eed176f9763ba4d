"""The ledger from the vertices: when it was set aside or fell far behind them, every chain block is executed again.

A few hundred rounds at a time, so that memory stays bounded however long the chain is: a follower's engine recovered at
the ledger's cursor orders them, each block is committed with its cursor, and the certificates come from the execution
signatures that vertices carry. Nothing is signed and nobody is asked. A crash anywhere leaves a whole number of chain
blocks, from which the next start goes on. One epoch after the other: a block that closes one is followed by the
vertices of the next. What the vertices don't lead to any more is left to the engine, which fetches it from the peers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from consensus.dag.vertex import decode_vertex
from consensus.engine import Engine
from consensus.events import Commit, StoredEpoch
from consensus.order.certifier import Certified, Certifier
from mpisa.node.execution import outline_of, refs_of
from mpisa.primitives.errors import NotReady
from mpisa.primitives.header import header_hash
from mpisa.primitives.identifiers import Height

if TYPE_CHECKING:
    from collections.abc import Callable

    from consensus.dag.vertex import Vertex, VertexRef
    from consensus.events import CommittedSubDag
    from consensus.parameters import Parameters
    from mpisa.node.chain_store import ChainStore
    from mpisa.node.consensus_store import ConsensusStore
    from mpisa.node.epochs import Epochs
    from mpisa.node.execution import Execution

PAGE_ROUNDS = 512
"""Rounds ordered at a time beyond those that the cursor needs..."""

PAGE_BYTES = 64 << 20
"""...and bytes of vertices after which fewer rounds must do."""

BEHIND_ROUNDS = 256
"""Fewer rounds behind the vertices than this, the node's own engine orders them again while it starts."""

log = structlog.get_logger(__name__)


class Rebuild:
    """See the module. One thread; `step` after `step` until it returns False."""

    def __init__(
        self,
        epochs: Epochs,
        parameters: Parameters,
        store: ChainStore,
        vertices: ConsensusStore,
        execution: Execution,
        *,
        page_rounds: int = PAGE_ROUNDS,
        behind_rounds: int = BEHIND_ROUNDS,
    ) -> None:
        self._epochs = epochs
        self._parameters = parameters
        self._store = store
        self._vertices = vertices
        self._execution = execution
        self._page_rounds = page_rounds
        self._behind_rounds = behind_rounds
        self._scale = 1
        self._start = epochs.start_of(epochs.next_block)
        self._certifier = self._make_certifier()

    def _make_certifier(self) -> Certifier:
        start = self._start
        chain_hash, window = self._store.header(0).chain_hash, self._parameters.certifier_window
        return Certifier(start.committee, chain_hash, window, self._store.height, start.height)

    def run(self, stopping: Callable[[], bool]) -> int:
        """Executes what is far behind the vertices; how many chain blocks. Raises DiskFull, StoreDamaged, and NotReady
        when it is to stop.
        """
        first = self._store.height
        while self._is_behind() and self._step():
            log.info("ledger rebuilt", height=self._store.height, epoch=self._start.epoch)
            if stopping():
                raise NotReady("the node was stopped while it rebuilt its ledger", hint="the next start goes on")
        return self._store.height - first

    def _is_behind(self) -> bool:
        epoch = self._start.epoch
        if self._vertices.highest_epoch() > epoch:
            return True
        return self._vertices.highest_round(epoch) - self._epochs.lowest_round(epoch) > self._behind_rounds

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
            if header.closes_epoch:
                self._start = self._epochs.start_of(self._epochs.next_block)
                self._certifier = self._make_certifier()
                break
        self._scale = 1 if commits else 2 * self._scale  # no chain block closed within the page: look further
        return bool(commits) or not is_all

    def _read(self) -> tuple[list[Vertex], bool]:
        """The vertices from the cursor's GC round on, whole rounds, and whether there are no more behind them."""
        parameters = self._parameters
        lowest = self._epochs.lowest_round(self._start.epoch)
        needed = lowest + parameters.gc_depth
        found: list[Vertex] = []
        size = 0
        for raw in self._vertices.all_from(self._start.epoch, lowest):
            vertex = decode_vertex(raw, parameters)
            is_enough = size > PAGE_BYTES * self._scale or vertex.round > needed + self._page_rounds * self._scale
            if found and vertex.round > max(needed, found[-1].round) and is_enough:
                return found, False
            found.append(vertex)
            size += len(raw)
        return found, True

    def _order(self, vertices: list[Vertex]) -> list[tuple[list[tuple[VertexRef, ...]], CommittedSubDag]]:
        """The commits that close chain blocks, and the vertices of those folded into each."""
        stored = StoredEpoch(self._epochs.cursor_of(self._start.epoch), vertices)
        engine = Engine(self._parameters, self._store.header(0).chain_hash, self._start, None, stored)
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
