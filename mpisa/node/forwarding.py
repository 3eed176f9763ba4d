"""Transactions taken by a node that makes no vertices (a follower, or an authority that sits its epoch out).

Such a node validates a transaction and waits for its outcome like any other, but hands it to an authority, which
orders it. Authorities are asked in turn until one takes it or refuses it with a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import structlog

from mpisa.primitives import codec
from mpisa.primitives.errors import MpisaError, Rejection, RejectionReason, Unreachable

if TYPE_CHECKING:
    from mpisa.network.ports import Network, PeerId

SUBMIT = "submit"
MAX_ANSWER_BYTES = 4096
REQUEST_TIMEOUT_S = 5.0

log = structlog.get_logger(__name__)


class Forwarding:
    """See the module. `accept` takes a raw transaction into the pool or raises Rejection (or why nothing is taken)."""

    def __init__(self, network: Network, authorities: Sequence[PeerId], accept: Callable[[bytes], object]) -> None:
        self._network = network
        self._authorities = authorities
        self._accept = accept

    def attach(self) -> None:
        """An authority takes transactions for others from now on."""
        self._network.authorities.set_request_handler(SUBMIT, self._answer)

    async def _answer(self, peer: PeerId, body: bytes) -> bytes:
        try:
            self._accept(body)
        except Rejection as rejection:
            return codec.encode((rejection.reason.value, rejection.detail[: MAX_ANSWER_BYTES // 8]))
        return codec.encode(())

    async def forward(self, raw: bytes) -> None:
        """Raises Rejection as the authority that was asked gave it, or Unreachable when none took it."""
        connected = {info.peer_id for info in self._network.peers()}
        for peer in self._authorities:
            if peer not in connected:
                continue
            try:
                answer = await self._network.authorities.request(peer, SUBMIT, raw, timeout=REQUEST_TIMEOUT_S)
                refused = _read_answer(answer)
            except MpisaError as error:
                log.info("an authority took no transaction", peer=peer, error=str(error))
                continue
            if refused is not None:
                raise refused
            return
        raise Unreachable(
            "this node makes no vertices of its own, and no authority took the transaction",
            hint="`mpisa node peers` shows who is connected; or submit through a validator with --endpoint",
        )


def _read_answer(answer: bytes) -> Rejection | None:
    """None when it was taken. Raises Rejection(MALFORMED) for an answer that is neither."""
    items = codec.expect_tuple(codec.decode(answer, max_bytes=MAX_ANSWER_BYTES, max_depth=1), "answer", 2)
    if not items:
        return None
    if len(items) != 2:
        raise Rejection(RejectionReason.MALFORMED, f"answer: expected 0 or 2 items, got {len(items)}")
    reason = codec.expect_str(items[0], "reason", 64)
    detail = codec.expect_str(items[1], "detail", MAX_ANSWER_BYTES)
    try:
        return Rejection(RejectionReason(reason), detail)
    except ValueError:
        raise Rejection(RejectionReason.MALFORMED, f"answer: unknown reason {reason!r}") from None
