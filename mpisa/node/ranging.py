"""Certified chain blocks in order, pulled from several peers at once and checked before anybody sees them
(docs/protocol.md, section 12).

Spans of heights are asked for ahead of the one that is being checked, each from another peer. Checking goes strictly in
order, since each block builds on the one before; the span that is due is asked of a second peer too when the first
takes too long (`mpisa.node.patience`), and the first answer that passes every check is taken. An answer that is shorter
than its span is followed by a question for the rest, an answer that fails a check costs its sender the next question. A
block too large for one answer comes in pieces, each checked against the outline, from whoever has them. Non-goals: what
is done with the blocks.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Collection, Sequence
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
from mpisa.node.pursuit import Pursuit
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
"""Each is asked of one peer; the one that is due of at most two."""


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
    """`last` is the last height that is wanted."""

    first: int
    last: int
    pursuit: Pursuit[RangeAnswer]


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
        self._polling: dict[PeerId, asyncio.Task[None]] = {}
        self.in_flight = 0

    async def poll(self) -> None:
        """Hears from every usable peer what it can serve. One that takes long is waited for no longer than it may take,
        and no second time: its answer counts whenever it comes.
        """
        asked = [self._start_poll(peer) for peer in self._sources.usable() if peer not in self._polling]
        if asked:
            done, _ = await asyncio.wait(asked, timeout=self._sources.patience.bound)
            for task in done:
                task.result()

    async def close(self) -> None:
        """Waits for no peer any more."""
        asked = tuple(self._polling.values())
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)

    def _start_poll(self, peer: PeerId) -> asyncio.Task[None]:
        task = self._polling[peer] = asyncio.create_task(self._ask_bounds(peer), name="bounds")
        task.add_done_callback(lambda _: self._polling.pop(peer))
        return task

    async def _ask_bounds(self, peer: PeerId) -> None:
        try:
            await self._ask(peer, RangeRequest(1, 0, 0, 0))
        except Rejection as rejection:
            self._sources.drop(peer, "bounds", rejection)
        except MpisaError as error:
            self._sources.rest(peer, "bounds", error)

    async def batches(
        self, stand: Stand, last: int, among: Collection[PeerId] | None = None
    ) -> AsyncGenerator[Batch, None]:
        """What follows on `stand` up to height `last`, or up to the closing header of the epoch; from these peers alone
        where some are named.

        Ends early when nobody delivers what comes next.
        """
        position, first = stand.position, stand.height + 1
        spans: deque[_Span] = deque()
        try:
            while position.header.height < last:
                while len(spans) < SPANS_AHEAD and first <= last:
                    span = self._launch(first, min(last, first + self._span_blocks - 1), among)
                    if span is None:
                        break
                    spans.append(span)
                    first = span.last + 1
                if not spans:
                    return
                span = spans.popleft()
                batch = await self._take(span, stand.moved(position), among)
                if batch is None:
                    return
                position = batch.after
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
                await span.pursuit.close()

    def _launch(self, first: int, last: int, among: Collection[PeerId] | None) -> _Span | None:
        """Asks somebody for these heights; None when nobody has the first."""
        pursuit = self._pursuit(f"blocks from {first}", RangeRequest(first, 0, last - first + 1, 0), among)
        return _Span(first, last, pursuit) if pursuit.begin() else None

    def _pursuit(self, what: str, request: RangeRequest, among: Collection[PeerId] | None) -> Pursuit[RangeAnswer]:
        first, last = request.height, request.height + request.blocks - 1
        return Pursuit(
            what,
            self._sources,
            lambda: self._able(first, last, among) or self._able(first, first, among),
            partial(self._ask, request=request),
        )

    def _able(self, first: int, last: int, among: Collection[PeerId] | None) -> list[PeerId]:
        return [peer for peer in self._sources.able(first, last) if among is None or peer in among]

    async def following(self, stand: Stand, peer: PeerId, wait_ms: int, patience_s: float) -> Batch | None:
        """What comes next, from this peer, as soon as it is certified there; None when nothing came in time. The peer
        waits for it at most `wait_ms`, and has `patience_s` to answer after that.
        """
        request = RangeRequest(stand.height + 1, 0, self._span_blocks, wait_ms)
        try:
            checked = await self._verify(stand, await self._ask(peer, request, patience_s))
        except MpisaError as error:
            self._sources.judge(peer, f"blocks from {request.height}", error)
            return None
        return None if checked is None else await self._whole(checked, stand, None)

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

    async def _take(self, span: _Span, stand: Stand, among: Collection[PeerId] | None) -> Batch | None:
        """The span, as far as it came in the first answer that passed; None when nobody delivers it."""
        checked = await span.pursuit.take(partial(self._verify, stand))
        return None if checked is None else await self._whole(checked, stand, among)

    async def _verify(self, stand: Stand, answer: RangeAnswer) -> _Checked | None:
        """None when it brought nothing. Raises Rejection."""
        return await self._sources.check(partial(self._check, stand, answer)) if answer.blocks else None

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
        if is_whole:
            return _Checked(Batch(done, after))
        check_signatures([vertex for vertex, _ in vertices], stand.committee)
        return _Checked(Batch(done, after), opened, vertices)

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

    async def _whole(self, checked: _Checked, stand: Stand, among: Collection[PeerId] | None) -> Batch | None:
        """With the rest of a large block, a piece at a time from whoever delivers it; None when nobody does."""
        opened, found = checked.rest, list(checked.found)
        if opened is None:
            return checked.batch
        height = opened.header.height
        while len(found) < len(opened.refs):
            pursuit = self._pursuit(
                f"vertices of block {height} from {len(found)}", RangeRequest(height, len(found), 1, 0), among
            )
            piece = await pursuit.take(partial(self._verify_piece, stand, opened, len(found)))
            if piece is None:
                return None
            found += piece
        return Batch((*checked.batch.blocks, complete_block(opened, found)), opened.after)

    async def _verify_piece(
        self, stand: Stand, opened: OpenBlock, first: int, answer: RangeAnswer
    ) -> tuple[tuple[Vertex, bytes], ...] | None:
        """None when it brought nothing. Raises Rejection."""
        if not answer.blocks or not answer.blocks[0].vertices:
            return None
        raws = answer.blocks[0].vertices
        return await self._sources.check(partial(self._read_piece, stand, opened, first, raws))

    def _read_piece(
        self, stand: Stand, opened: OpenBlock, first: int, raws: Sequence[bytes]
    ) -> tuple[tuple[Vertex, bytes], ...]:
        """In the checking thread. An id doesn't bind its vertex's signature, so that is checked where the bytes are
        known to be this peer's.
        """
        vertices = read_vertices(opened, first, raws, self._parameters)
        check_signatures([vertex for vertex, _ in vertices], stand.committee)
        return vertices
