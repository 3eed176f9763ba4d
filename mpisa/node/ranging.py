"""Certified chain blocks in order, pulled from several peers at once and checked before anybody sees them
(docs/protocol.md, section 12).

Spans of heights are asked for ahead of the one that is being checked, each from another peer. Checking goes strictly in
order, since each block builds on the one before; an answer that is shorter than its span is followed by a question for
the rest, an answer that fails a check costs its sender the next question. A block too large for one answer comes in
pieces, each checked against the outline. Non-goals: what is done with the blocks.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from consensus.order.ranges import (
    CertifiedBlock,
    OpenBlock,
    Position,
    RangeAnswer,
    check_signatures,
    complete_block,
    decode_answer,
    open_block,
    read_vertices,
    require_window,
    verify_blocks,
)
from mpisa.node.serving import BLOCKS, RangeRequest
from mpisa.node.sources import REQUEST_TIMEOUT_S, Bounds, Sources
from mpisa.primitives.errors import MpisaError, Rejection, RejectionReason

if TYPE_CHECKING:
    from consensus.dag.committee import Committee
    from consensus.dag.vertex import Vertex
    from consensus.parameters import Parameters
    from mpisa.network.ports import PeerId
    from mpisa.primitives.header import Header, ValidatorSet

SPAN_BLOCKS = 128
SPANS_AHEAD = 3
MAX_FAILURES = 8
"""Spans in a row that nobody delivered before the caller is told."""


@dataclass(frozen=True, slots=True)
class Stand:
    """Where this node stands: the position behind its last block, and the epoch in which the next one is made.

    In the tail of a snapshot the window is known at its end only.
    """

    position: Position
    committee: Committee
    validators: ValidatorSet
    is_window_known: bool = True

    def moved(self, position: Position) -> Stand:
        """Further within the epoch."""
        return replace(self, position=position)

    @property
    def height(self) -> int:
        return self.position.header.height


@dataclass(frozen=True, slots=True)
class Batch:
    """Checked blocks, and where they lead."""

    blocks: tuple[CertifiedBlock, ...]
    after: Position


@dataclass(frozen=True, slots=True)
class _Checked:
    """What one answer holds: whole blocks, and the beginning of one that is too large for it."""

    batch: Batch
    rest: OpenBlock | None = None
    found: tuple[tuple[Vertex, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class _Span:
    first: int
    last: int
    peer: PeerId
    task: asyncio.Task[RangeAnswer]


class Ranging:
    """See the module. Belongs to the loop."""

    def __init__(
        self,
        sources: Sources,
        parameters: Parameters,
        *,
        span_blocks: int = SPAN_BLOCKS,
        trust: tuple[int, bytes] | None = None,
    ) -> None:
        """`trust` is the height and the hash of a header known by other means."""
        self._trust = trust
        self._sources = sources
        self._parameters = parameters
        self._span_blocks = span_blocks
        self.in_flight = 0

    async def poll(self) -> None:
        """Hears from every usable peer what it can serve."""
        peers = self._sources.usable()
        await asyncio.gather(*(self._ask_bounds(peer) for peer in peers))

    async def _ask_bounds(self, peer: PeerId) -> None:
        try:
            await self._ask(peer, RangeRequest(1, 0, 0, 0))
        except Rejection as rejection:
            self._sources.drop(peer, "bounds", rejection)
        except MpisaError as error:
            self._sources.rest(peer, "bounds", error)

    async def batches(self, stand: Stand, last: int, among: Collection[PeerId] | None = None) -> AsyncIterator[Batch]:
        """What follows on `stand` up to height `last`, or up to the closing header of the epoch; from these peers alone
        where some are named.

        Ends early when nobody delivers what comes next.
        """
        position, first, failures = stand.position, stand.height + 1, 0
        spans: deque[_Span] = deque()
        try:
            while position.header.height < last and failures < MAX_FAILURES:
                while len(spans) < SPANS_AHEAD and first <= last:
                    span = self._launch(first, min(last, first + self._span_blocks - 1), among)
                    if span is None:
                        break
                    spans.append(span)
                    first = span.last + 1
                if not spans:
                    return
                span = spans.popleft()
                batch = await self._take(span, stand.moved(position))
                if batch is None:
                    failures += 1
                    again = self._launch(span.first, span.last, among)
                    if again is None:
                        return
                    spans.appendleft(again)
                    continue
                failures, position = 0, batch.after
                yield batch
                if position.header.closes_epoch:
                    return
                if position.header.height < span.last:
                    rest = self._launch(position.header.height + 1, span.last, among)
                    if rest is None:
                        return
                    spans.appendleft(rest)
        finally:
            for span in spans:
                span.task.cancel()
            await asyncio.gather(*(span.task for span in spans), return_exceptions=True)

    def _launch(self, first: int, last: int, among: Collection[PeerId] | None) -> _Span | None:
        """Asks somebody for these heights; None when nobody has the first."""
        peers = self._able(first, last, among) or self._able(first, first, among)
        if not peers:
            return None
        peer = self._sources.next_of(peers)
        task = asyncio.create_task(self._ask(peer, RangeRequest(first, 0, last - first + 1, 0)), name="range")
        return _Span(first, last, peer, task)

    def _able(self, first: int, last: int, among: Collection[PeerId] | None) -> list[PeerId]:
        return [peer for peer in self._sources.able(first, last) if among is None or peer in among]

    async def following(self, stand: Stand, peer: PeerId, wait_ms: int, patience_s: float) -> Batch | None:
        """What comes next, from this peer, as soon as it is certified there; None when nothing came in time. The peer
        waits for it at most `wait_ms`, and has `patience_s` to answer after that.
        """
        request = RangeRequest(stand.height + 1, 0, self._span_blocks, wait_ms)
        task = asyncio.create_task(self._ask(peer, request, patience_s), name="next blocks")
        try:
            return await self._take(_Span(stand.height + 1, stand.height + 1, peer, task), stand, is_waiting=True)
        finally:
            task.cancel()

    async def _ask(self, peer: PeerId, request: RangeRequest, patience_s: float = REQUEST_TIMEOUT_S) -> RangeAnswer:
        self.in_flight += 1
        try:
            timeout = patience_s + request.wait_ms / 1000
            raw = await self._sources.ask(peer, BLOCKS, request.encode(), timeout=timeout)
        finally:
            self.in_flight -= 1
        answer = await self._sources.check(partial(decode_answer, raw, request.blocks, self._parameters))
        self._sources.claim(peer, Bounds(answer.certified, answer.lowest))
        return answer

    async def _take(self, span: _Span, stand: Stand, *, is_waiting: bool = False) -> Batch | None:
        """The answer, checked; None when it brought nothing, and its sender then isn't asked for a while."""
        what = f"blocks from {span.first}"
        try:
            answer = await span.task
            if not answer.blocks:
                if not is_waiting:
                    self._sources.rest(span.peer, what)
                return None
            checked = await self._sources.check(partial(self._check, stand, answer))
            if checked.rest is None:
                return checked.batch
            return await self._complete(span.peer, checked, stand)
        except Rejection as rejection:
            self._judge(span.peer, what, rejection)
        except MpisaError as error:
            self._sources.rest(span.peer, what, error)
        return None

    def _judge(self, peer: PeerId, what: str, rejection: Rejection) -> None:
        """A refusal that the peer sent isn't a lie; what its bytes earned here is."""
        if rejection.reason is RejectionReason.RATE_LIMITED:
            self._sources.rest(peer, what, rejection)
        else:
            self._sources.drop(peer, what, rejection)

    def _check(self, stand: Stand, answer: RangeAnswer) -> _Checked:
        """In the checking thread."""
        *blocks, last = answer.blocks
        done, after = verify_blocks(
            stand.position, blocks, stand.validators, self._parameters, is_window_known=stand.is_window_known
        )
        opened = open_block(after, last, stand.validators, self._parameters)
        if opened.certificate is None:
            raise Rejection(RejectionReason.BAD_CERTIFICATE, "range: expected a certificate of its last block")
        if stand.is_window_known:
            require_window(opened.after)
        self._require_trusted([*(block.header for block in done), opened.header])
        vertices = read_vertices(opened, 0, last.vertices, self._parameters)
        is_whole = len(vertices) == len(opened.refs)
        if is_whole:
            done, after = (*done, complete_block(opened, vertices)), opened.after
        for block in done:
            check_signatures(block.vertices, stand.committee)
        return _Checked(Batch(done, after)) if is_whole else _Checked(Batch(done, after), opened, vertices)

    def _require_trusted(self, headers: Sequence[Header]) -> None:
        """That none of these is another header of the height whose header is known."""
        if self._trust is None:
            return
        height, expected = self._trust
        for header in headers:
            if header.height == height and header.hash != expected:
                raise Rejection(
                    RejectionReason.WRONG_CHAIN,
                    f"header {height}: expected the trusted {expected.hex()}, got {header.hash.hex()}",
                )

    async def _complete(self, peer: PeerId, checked: _Checked, stand: Stand) -> Batch:
        """Fetches the rest of a large block, a piece at a time."""
        opened, found = checked.rest, list(checked.found)
        assert opened is not None
        while len(found) < len(opened.refs):
            answer = await self._ask(peer, RangeRequest(opened.header.height, len(found), 1, 0))
            if not answer.blocks or not answer.blocks[0].vertices:
                raise Rejection(
                    RejectionReason.UNAVAILABLE, f"{len(opened.refs) - len(found)} vertices of the block don't come"
                )
            raws = answer.blocks[0].vertices
            found += await self._sources.check(partial(read_vertices, opened, len(found), raws, self._parameters))
        block = complete_block(opened, found)
        await self._sources.check(partial(check_signatures, block.vertices, stand.committee))
        return Batch((*checked.batch.blocks, block), opened.after)
