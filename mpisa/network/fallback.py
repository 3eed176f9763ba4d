"""What libp2p carries when a peer port can't be reached: authority frames, and requests, both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpisa.network import messages
from mpisa.network.gate import Gate
from mpisa.network.libp2p_host.host import Libp2pHost
from mpisa.network.messages import REQUEST_PROTOCOL
from mpisa.network.ports import NetworkLimits, NetworkStats, PeerId, RequestHandler
from mpisa.primitives.errors import MpisaError, NotFound, Rejection, RejectionReason

if TYPE_CHECKING:
    from mpisa.network.authority import FrameStream


class Libp2pFallback:
    """`Fallback` of the authority links, and the answering side of its requests. `handlers` is shared with the peer
    port.
    """

    def __init__(
        self,
        host: Libp2pHost,
        handlers: dict[str, RequestHandler],
        limits: NetworkLimits,
        stats: NetworkStats,
        gate: Gate | None = None,
    ) -> None:
        self._host = host
        self._gate = gate or Gate()
        self._handlers = handlers
        self._limits = limits
        self._stats = stats

    async def open_frames(self, peer: PeerId) -> FrameStream:
        return await self._host.open_frames(peer)

    async def request(self, peer: PeerId, kind: str, body: bytes, *, timeout: float) -> bytes:
        self._stats.requests_sent += 1
        limit = self._limits.max_answer_bytes
        question = messages.encode_request(kind, body)
        async with self._gate.passage(peer, timeout):
            answer = await self._host.ask(
                peer, REQUEST_PROTOCOL, question, max_bytes=limit + messages.ANSWER_OVERHEAD, timeout=timeout
            )
        return messages.decode_answer(answer, limit)

    async def answer(self, peer: PeerId, question: bytes) -> bytes:
        """Never raises for what the asker did: the error is the answer."""
        try:
            kind, body = messages.decode_request(question, self._limits.max_request_bytes)
            handler = self._handlers.get(kind)
            if handler is None:
                raise NotFound(f"no requests of kind {kind!r} are answered here")
            answer = await handler(peer, body)
            await self._gate.hold_answer(peer)
            if len(answer) > self._limits.max_answer_bytes:
                raise Rejection(RejectionReason.TOO_LARGE, f"answer of {len(answer)} bytes")
        except MpisaError as error:
            self._stats.requests_refused += 1
            return messages.encode_answer(error)
        self._stats.requests_served += 1
        return messages.encode_answer(answer)
