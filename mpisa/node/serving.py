"""What this node hands to those who are behind: ranges of certified chain blocks from its stores (docs/protocol.md,
section 12).

A request names the first height, how many of its vertices the asker has already, how many blocks at most, and how long
to wait for the first to be certified: so a full node hears of a block the moment it is. Answers are read in a thread of
their own, one at a time, within bounds; whoever comes when too many wait is sent away.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from consensus.order.ranges import (
    MAX_ANSWER_BLOCKS,
    MAX_ANSWER_VERTICES,
    RangeAnswer,
    RangeBlock,
    decode_outline,
    encode_answer,
)
from mpisa.primitives import codec
from mpisa.primitives.errors import NotFound, Rejection, RejectionReason
from mpisa.primitives.header import decode_header
from mpisa.primitives.identifiers import Height

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from consensus.parameters import Parameters
    from mpisa.network.ports import Network, PeerId
    from mpisa.node.chain_store import ChainStore
    from mpisa.node.consensus_store import ConsensusStore

BLOCKS = "blocks"
ANSWER_BYTES = 4 << 20
"""An answer ends with the vertex that makes it as large as this."""

MAX_WAIT_MS = 10_000
MAX_WAITING = 256
"""Full nodes that wait for the next certificate."""

MAX_READING = 16
"""Requests that wait for the reading thread."""

_MAX_HEIGHT = (1 << 53) - 1


@dataclass(frozen=True, slots=True)
class RangeRequest:
    """From `height` on, without its first `skip` vertices, at most `blocks`; 0 of them asks for the bounds alone."""

    height: int
    skip: int
    blocks: int
    wait_ms: int

    def encode(self) -> bytes:
        return codec.encode((self.height, self.skip, self.blocks, self.wait_ms))

    @classmethod
    def decode(cls, body: bytes) -> RangeRequest:
        """Raises Rejection."""
        items = codec.expect_tuple(codec.decode(body, max_bytes=64, max_depth=1), "range request", length=4)
        return cls(
            codec.expect_int(items[0], "height", 1, _MAX_HEIGHT),
            codec.expect_int(items[1], "skip", 0, _MAX_HEIGHT),
            codec.expect_int(items[2], "blocks", 0, MAX_ANSWER_BLOCKS),
            codec.expect_int(items[3], "wait", 0, MAX_WAIT_MS),
        )


class Serving:
    """See the module. Belongs to the loop; `reader` is one thread."""

    def __init__(
        self, network: Network, store: ChainStore, vertices: ConsensusStore, parameters: Parameters, reader: Executor
    ) -> None:
        self._network = network
        self._store = store
        self._vertices = vertices
        self._parameters = parameters
        self._reader = reader
        self._reading = 0
        self._waiting: set[asyncio.Future[None]] = set()

    def attach(self) -> None:
        """Answers peers from now on."""
        self._network.authorities.set_request_handler(BLOCKS, self._answer)

    def certified(self) -> None:
        """A height was certified here: those who wait for it get it."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()

    async def _answer(self, peer: PeerId, body: bytes) -> bytes:
        request = RangeRequest.decode(body)
        if request.blocks and request.wait_ms:
            await self._wait_for(request.height, request.wait_ms / 1000)
        if self._reading >= MAX_READING:
            raise Rejection(RejectionReason.RATE_LIMITED, f"{self._reading} ranges are being read, ask again later")
        self._reading += 1
        try:
            answer = await asyncio.get_running_loop().run_in_executor(self._reader, self._read, request)
        finally:
            self._reading -= 1
        return answer

    async def _wait_for(self, height: int, seconds: float) -> None:
        """Returns when the height is certified here, or the time is over."""
        deadline = asyncio.get_running_loop().time() + seconds
        while self._store.certified_height < height and len(self._waiting) < MAX_WAITING:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.add(future)
            try:
                async with asyncio.timeout_at(deadline):
                    await future
            except TimeoutError:
                return
            finally:
                self._waiting.discard(future)

    def _read(self, request: RangeRequest) -> bytes:
        certified, lowest = self._store.certified_height, self._store.lowest_height
        blocks: list[RangeBlock] = []
        size, skip = 0, request.skip
        if request.height >= lowest:
            last = min(certified, request.height + request.blocks - 1)
            for height in range(request.height, last + 1):
                block, is_whole = self._block(height, skip, ANSWER_BYTES - size)
                if block is None:
                    break
                blocks.append(block)
                size += len(block.outline) + sum(map(len, block.vertices))
                skip = 0
                if not is_whole or size >= ANSWER_BYTES or decode_header(block.header).closes_epoch:
                    break
            while blocks and not blocks[-1].certificate:
                blocks.pop()
            if not blocks and request.height <= last:
                raise NotFound(f"no certificate or no vertices are kept here for the blocks from {request.height} on")
        return encode_answer(RangeAnswer(Height(certified), Height(lowest), tuple(blocks)))

    def _block(self, height: int, skip: int, budget: int) -> tuple[RangeBlock | None, bool]:
        """A block with the vertices that fit, and whether these are all. None where something of it isn't here."""
        outline = self._store.outline(height)
        if outline is None:
            return None, False
        header = self._store.raw_header(height)
        epoch = decode_header(header).epoch
        refs = decode_outline(outline, self._parameters.heartbeat_ms + 1).refs()[skip:]
        raws: list[bytes] = []
        budget -= len(outline)
        for ref in refs:
            if raws and (budget <= 0 or len(raws) >= MAX_ANSWER_VERTICES):
                break
            raw = self._vertices.vertex(epoch, ref.round, ref.author, ref.id)
            if raw is None:
                return None, False
            raws.append(raw)
            budget -= len(raw)
        block = RangeBlock(header, self._store.raw_certificate(height), outline, tuple(raws))
        return block, len(raws) == len(refs)
