"""Which way a node keeps up with the chain: from its seat, from far behind, or from no seat at all.

With a seat in an open epoch ordering works, and this task only looks how far the others are. Too far behind, it takes
the helm, applies ranges of certified blocks, and hands back when the gap is small. Without a seat, in the epoch of the
next block neither, it holds the helm for good and follows block by block, until an epoch opens in which this node has
one. What arrives for the engine meanwhile is dropped, but for execution signatures: those are kept, within a bound, and
handed to the engine that goes on.

Whether there is a seat is decided while no turn is under way. One turn drops an old epoch and opens the next: between
the two a node that leaves and joins again looks as if it had no seat, and would follow through an epoch whose quorum
may need it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import structlog

from consensus.events import ExecutionSignatureReceived, VertexReceived
from mpisa.node.execution import Diverged

if TYPE_CHECKING:
    from consensus.dag.committee import Committee
    from consensus.dag.vertex import ExecutionSignature
    from consensus.events import Event
    from consensus.identity import Seats
    from mpisa.node.helm import Helm
    from mpisa.node.inbox import Inbox
    from mpisa.node.syncing import Syncing
    from mpisa.primitives.identifiers import AuthorityIndex, Epoch

MAX_SIGNATURES = 1_024
"""Execution signatures kept of each authority, the newest."""

CHECK_S = 0.25
"""How often it is looked whether the engine falls behind..."""

POLL_S = 10.0
"""...and how often the others are asked in any case."""

FIRST_POLLS_S = 5.0
"""After a start they are asked at every look: a node that was away can't tell otherwise."""

log = structlog.get_logger(__name__)


class SignatureShelf:
    """The newest execution signatures of each authority, while no engine takes them."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Epoch, AuthorityIndex], deque[ExecutionSignature]] = {}

    def take_in(self, event: Event) -> None:
        """Any event; only its execution signatures stay."""
        if isinstance(event, VertexReceived):
            header = event.vertex.header
            for signature in header.execution_signatures:
                self._keep(header.epoch, signature)
        elif isinstance(event, ExecutionSignatureReceived) and event.signature.authority == event.sender:
            self._keep(event.epoch, event.signature)

    def _keep(self, epoch: Epoch, signature: ExecutionSignature) -> None:
        self._kept.setdefault((epoch, signature.authority), deque(maxlen=MAX_SIGNATURES)).append(signature)

    def events_above(self, height: int) -> list[Event]:
        """What an engine that has executed this height is to be told."""
        return [
            ExecutionSignatureReceived(authority, signature, epoch)
            for (epoch, authority), signatures in sorted(self._kept.items())
            for signature in signatures
            if signature.height > height
        ]


class KeepingUp:
    """See the module. Belongs to the loop."""

    def __init__(
        self,
        helm: Helm,
        inbox: Inbox,
        syncing: Syncing,
        identity: Seats,
        height: Callable[[], int],
        is_blank: Callable[[], bool],
        next_committee: Callable[[], Committee],
    ) -> None:
        """`next_committee` is that of the epoch in which the block above the latest executed one will be made."""
        self._helm = helm
        self._inbox = inbox
        self._syncing = syncing
        self._identity = identity
        self._height = height
        self._is_blank = is_blank
        self._next_committee = next_committee
        self._polled = float("-inf")
        self.is_away = False
        """Whether the helm is held here, so that no engine runs."""

    async def before_ordering(self, target: Callable[[], int | None]) -> None:
        """An authority that remembers no own vertex of the epoch first hears how far the others are, and takes in what
        they have: only then is it known whether it ever had a past here. `target` is what they said, None before.
        """

        def is_known() -> bool:
            height = target()
            return not self._is_blank() or (height is not None and self._height() >= height)

        if not is_known():
            log.info("nothing is remembered of this epoch, looking at what the others have")
            await self._away(lambda: self._syncing.gather(is_known))

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while True:
            await self._helm.begun()
            if not self._has_seat():
                await self._away(self._syncing.follow, is_due=lambda: not self._has_seat())
            elif await self._is_far(loop.time() - begun < FIRST_POLLS_S):
                await self._away(self._syncing.catch_up)
            else:
                await asyncio.sleep(CHECK_S)

    def _has_seat(self) -> bool:
        """In an open epoch, or in the next one where the header that opens it is executed and only lacks its
        certificate: the blocks to follow by are that epoch's already.
        """
        committees = (*self._helm.committees.values(), self._next_committee())
        return any(self._identity.seat_in(committee) is not None for committee in committees)

    async def _is_far(self, is_fresh: bool) -> bool:
        now = asyncio.get_running_loop().time()
        if not (is_fresh or self._helm.status().catching_up or now >= self._polled + POLL_S):
            return False
        self._polled = now
        return await self._syncing.is_far()

    async def _away(self, work: Callable[[], Awaitable[None]], is_due: Callable[[], bool] = lambda: True) -> None:
        """Does this while the engine rests, unless it isn't due any more once the engine does."""
        shelf = SignatureShelf()
        try:
            async with self._helm.moved(is_due) as is_moving:
                if not is_moving:
                    return
                self.is_away = True
                draining = asyncio.create_task(self._drain(shelf), name="drain")
                try:
                    await work()
                except Diverged:
                    await asyncio.Event().wait()  # halted: what is here is still served, nothing is ordered any more
                finally:
                    draining.cancel()
                    await asyncio.gather(draining, return_exceptions=True)
        finally:
            self.is_away = False
        for event in shelf.events_above(self._height()):
            self._inbox.post(event)

    async def _drain(self, shelf: SignatureShelf) -> None:
        while True:
            shelf.take_in(await self._inbox.take())
