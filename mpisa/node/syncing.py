"""From far behind to level with the others, without the engine (docs/protocol.md, section 12).

A node that others are many chain blocks ahead of applies ranges of certified blocks. An authority does so while its
engine rests, until the gap is small enough for the engine, which then orders live vertices again from where the blocks
lead; a full node that is no authority does nothing else, and waits at its peers for the next block.

How far the others are is what a validity threshold of stake claims, so that a liar can neither keep an authority from
its work nor hide that it is behind: of the stake of the latest set that can be proven, for nobody of the set that this
node knows may be left. The next blocks are fetched and checked while these are executed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import structlog

from consensus.dag.vertex import decode_vertex
from consensus.order.checkpoint import decode_cursor
from consensus.order.ranges import Position
from consensus.order.window import Window, find_window
from mpisa.node.ranging import Batch, Ranging, Stand
from mpisa.node.standing import height_to_reach
from mpisa.primitives.errors import StoreDamaged

if TYPE_CHECKING:
    from consensus.dag.vertex import VertexRef
    from consensus.order.epoch import EpochStart
    from consensus.order.ranges import CertifiedBlock
    from consensus.parameters import Parameters
    from mpisa.network.ports import PeerId
    from mpisa.node.applying import Applying
    from mpisa.node.chain_store import ChainStore
    from mpisa.node.consensus_store import ConsensusStore
    from mpisa.node.epoch_record import EpochRecord
    from mpisa.node.epoch_walk import EpochWalk
    from mpisa.node.sources import Sources

FAR_BLOCKS = 128
"""An authority this many chain blocks behind rests its engine."""

LEVEL_BLOCKS = 8
"""So near to the others it lets the engine do the rest."""

BATCHES_AHEAD = 2
"""Batches that are checked and wait to be executed."""

WAIT_MS = 1_000
"""How long a full node waits at one peer for the next block..."""

PATIENCE_S = 1.0
"""...and how much longer for its answer, before another one is asked: a frame was lost, or the peer withholds. It gets
twice as long with each failure in a row, for the network may just be slow.
"""

MAX_DOUBLINGS = 3

SURVEY_S = 3.0
"""How long a peer may take to prove later epochs to a node that looks how far the others are."""

PAUSE_S = 0.25
"""Before everybody is asked again when nobody delivers."""

Durably = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Survey:
    """How far others are ahead, in chain blocks. Deserted: the epoch is proven to be over, and those of its authorities
    who answer don't know of it.
    """

    gap: int
    is_deserted: bool


class Phase(StrEnum):
    """What a node does about being behind."""

    LEVEL = "level"
    RANGES = "ranges"
    SNAPSHOT = "snapshot"


@dataclass(slots=True)
class Progress:
    """For status and metrics: where it is and where to."""

    phase: Phase = Phase.LEVEL
    height: int = 0
    target: int = 0
    syncs: int = 0

    def describe(self) -> str | None:
        """For people; None while level."""
        if self.phase is Phase.LEVEL:
            return None
        return f"certified blocks: at height {self.height} of {self.target}"


def find_stand(store: ChainStore, vertices: ConsensusStore, parameters: Parameters, start: EpochStart) -> Stand:
    """Where the stores stand; `start` is where the epoch of the next block begins. Raises StoreDamaged."""
    header, cursor = store.header(store.height), store.cursor
    if cursor is None or header.height == start.height:
        position = Position(header, start.checkpoint, Window())
    else:
        checkpoint = decode_cursor(cursor)

        def parents(ref: VertexRef) -> tuple[VertexRef, ...] | None:
            raw = vertices.vertex(checkpoint.epoch, ref.round, ref.author, ref.id)
            return None if raw is None else decode_vertex(raw, parameters).parents

        window, lost = find_window(checkpoint, parameters.gc_depth, parents)
        if lost is not None:
            raise StoreDamaged(
                f"the vertex store lacks vertex {lost.id.hex()} of round {lost.round}, which the ledger has executed",
                hint="stop the node and run `mpisa node repair`",
            )
        position = Position(header, checkpoint, window)
    return Stand(position, start.committee, start.committee.validator_set)


class Syncing:
    """See the module. One task calls it."""

    def __init__(
        self,
        sources: Sources,
        ranging: Ranging,
        applying: Applying,
        store: ChainStore,
        find: Callable[[], Stand],
        durably: Durably,
        known: Callable[[], EpochRecord],
        walk: EpochWalk,
        join: Callable[[], Awaitable[bool]] | None = None,
        look_through: Callable[[Sequence[CertifiedBlock]], None] = lambda _blocks: None,
    ) -> None:
        """`find` reads the stand from the stores; `known` is the epoch of the next block here, and `walk` leads on from
        it; `join` replaces the ledger by a snapshot (an archive has none), `look_through` sees blocks before they are
        kept.
        """
        self._sources = sources
        self._ranging = ranging
        self._applying = applying
        self._store = store
        self._find = find
        self._durably = durably
        self._known = known
        self._walk = walk
        self._join = join
        self._look_through = look_through
        self._stand: Stand | None = None
        self._missed = -1
        self._latest: EpochRecord | None = None
        self.progress = Progress()

    @property
    def stand(self) -> Stand | None:
        """Behind the last block applied here; None while that isn't known."""
        return self._stand

    async def _standing(self) -> Stand:
        if self._stand is None:
            self._stand = await self._sources.check(self._find)
        self.progress.height = self._stand.height
        return self._stand

    async def gap(self) -> int:
        """How many chain blocks a validity threshold of authorities is ahead of us, by what they say now."""
        return (await self._survey()).gap

    async def is_far(self) -> bool:
        """Whether the engine can't be left to it: many blocks are missing, peers forgot what comes next, or nobody is
        left of those whom the engine would ask.
        """
        survey = await self._survey()
        return (
            survey.gap > FAR_BLOCKS
            or survey.is_deserted
            or (survey.gap > LEVEL_BLOCKS and self._is_out_of_reach(self._store.height + 1))
        )

    async def _survey(self) -> Survey:
        await self._ranging.poll()
        known = self._known()
        reached = self._reached_by(known)
        known_height = max(reached, self._store.height)
        ahead = [peer for peer, height in self._sources.claimed().items() if height > known_height]
        latest = known if self._latest is None or self._latest.epoch <= known.epoch else self._latest
        if ahead:
            async for record, _ in self._walk.steps(latest, ahead, SURVEY_S):
                latest = record
        self._latest = latest
        is_deserted = latest.epoch > known.epoch and reached < latest.base
        if latest.epoch > known.epoch:
            reached = max(reached, latest.base, self._reached_by(latest))
        return Survey(max(0, reached - self._store.height), is_deserted)

    def _reached_by(self, record: EpochRecord) -> int:
        """The height that a validity threshold of an epoch's validators claims."""
        claimed = self._sources.claimed()
        return height_to_reach(
            record.committee, {record.peers[peer]: height for peer, height in claimed.items() if peer in record.peers}
        )

    async def gather(self, is_enough: Callable[[], bool]) -> None:
        """Takes in whatever certified blocks any peer has, until it is enough. Raises Diverged."""
        self._stand = None
        while not is_enough():
            await self._ranging.poll()
            stand = await self._standing()
            highest = self._sources.highest()
            self.progress.phase = Phase.RANGES if highest > stand.height else Phase.LEVEL
            self.progress.target = highest
            if highest <= stand.height or not await self._advance(stand, highest):
                await asyncio.sleep(PAUSE_S)
        self.progress.phase = Phase.LEVEL

    async def catch_up(self) -> None:
        """Returns when the gap is small. Raises Diverged."""
        self._stand = None
        self.progress.phase = Phase.RANGES
        self.progress.syncs += 1
        try:
            while (survey := await self._survey()).gap > LEVEL_BLOCKS or survey.is_deserted:
                stand = await self._standing()
                self.progress.target = stand.height + survey.gap
                log.info("far behind", height=stand.height, target=self.progress.target)
                if not await self._advance(stand, self.progress.target):
                    await asyncio.sleep(PAUSE_S)
        finally:
            self.progress.phase = Phase.LEVEL
        log.info("level with the others", height=self.progress.height)

    async def follow(self) -> None:
        """Blocks as they are certified, to the end of the epoch. Raises Diverged."""
        near: PeerId | None = None
        failures = 0
        self._stand = None
        epoch = (await self._standing()).position.checkpoint.epoch
        while True:
            stand = await self._standing()
            if stand.position.checkpoint.epoch != epoch:
                return
            usable = self._sources.usable()
            highest = self._sources.highest()
            self.progress.phase = Phase.RANGES if highest > stand.height + 1 else Phase.LEVEL
            if self.progress.phase is Phase.RANGES:
                self.progress.target = highest
                if not await self._advance(stand, highest):
                    await self._ranging.poll()
                    await asyncio.sleep(PAUSE_S)
                continue
            if not usable:
                await asyncio.sleep(PAUSE_S)
                continue
            peer = near if near in usable else self._sources.next_of(usable)
            patience_s = PATIENCE_S * 2 ** min(failures, MAX_DOUBLINGS)
            batch = await self._ranging.following(stand, peer, WAIT_MS, patience_s)
            near = None if batch is None else peer
            failures = 0 if peer in self._sources.usable() else failures + 1
            if batch is not None:
                await self._apply(batch)

    async def _advance(self, stand: Stand, last: int) -> bool:
        """By blocks, or by a snapshot where nobody keeps the next block any more; whether it went further."""
        if not self._is_out_of_reach(stand.height + 1):
            return await self._pull(stand, last)
        if self._join is None:
            if self._missed != stand.height:
                log.error("no peer keeps the next block, and an archive leaves none out", height=stand.height + 1)
            self._missed = stand.height
            return False
        self.progress.phase = Phase.SNAPSHOT
        is_joined = await self._durably(self._join)
        self.progress.phase = Phase.RANGES
        self._stand = None
        await self._standing()
        return bool(is_joined)

    def _is_out_of_reach(self, height: int) -> bool:
        """Whether peers have later blocks, but none of them this one."""
        return not self._sources.able(height, height) and self._sources.highest() > height

    async def _pull(self, stand: Stand, last: int) -> bool:
        """Applies blocks up to this height, as far as peers deliver and the epoch goes; whether there were any."""
        queue: asyncio.Queue[Batch | None] = asyncio.Queue(BATCHES_AHEAD)

        async def fetch() -> None:
            try:
                async with aclosing(self._ranging.batches(stand, last)) as batches:
                    async for batch in batches:
                        await queue.put(batch)
            finally:
                await queue.put(None)

        before = stand.height
        fetching = asyncio.create_task(fetch(), name="fetch blocks")
        try:
            while (batch := await queue.get()) is not None:
                await self._apply(batch)
            await fetching
        finally:
            fetching.cancel()
            while not queue.empty():
                queue.get_nowait()
            await asyncio.gather(fetching, return_exceptions=True)
        return self.progress.height > before

    async def _apply(self, batch: Batch) -> None:
        stand = self._stand
        assert stand is not None, "blocks are applied behind a known stand"
        self._look_through(batch.blocks)
        await self._durably(lambda: self._applying.keep(batch.blocks))
        await self._durably(lambda: self._applying.execute(batch.blocks))
        self.progress.height = batch.after.header.height
        if batch.after.header.closes_epoch:
            self._stand = None
            await self._standing()
        else:
            self._stand = stand.moved(batch.after)
