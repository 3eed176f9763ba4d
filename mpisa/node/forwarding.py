"""Transactions taken by a node that makes no vertices (a follower, or an authority that sits its epoch out).

Such a node validates a transaction and waits for its outcome like any other, but hands it to an authority, which
orders it. Authorities are asked in turn until one takes it or refuses it with a reason. A node that lost its seat with
an epoch hands over what waits in its pool.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from mpisa.primitives import codec
from mpisa.primitives.errors import MpisaError, NotFound, Rejection, RejectionReason, Unreachable

if TYPE_CHECKING:
    from mpisa.network.ports import Network, PeerId
    from mpisa.node.helm import Helm
    from mpisa.node.links import Links
    from mpisa.node.mempool import Mempool

SUBMIT = "submit"
MAX_ANSWER_BYTES = 4096
REQUEST_TIMEOUT_S = 5.0
RETRY_S = 0.5

log = structlog.get_logger(__name__)


class Forwarding:
    """See the module. `accept` takes a raw transaction into the pool or raises Rejection (or why nothing is taken)."""

    def __init__(
        self, network: Network, helm: Helm, links: Links, accept: Callable[[bytes], object], pool: Mempool
    ) -> None:
        self._network = network
        self._helm = helm
        self._links = links
        self._accept = accept
        self._pool = pool
        self._has_left = asyncio.Event()

    def attach(self) -> None:
        """Takes transactions for others from now on, while it makes vertices itself."""
        self._network.authorities.set_request_handler(SUBMIT, self._answer)

    def hand_over(self) -> None:
        """This node has no seat any more: what waits here is for others to order."""
        self._has_left.set()

    async def run(self) -> None:
        """Hands the pool over whenever a seat was lost, again and again until all of it was taken. Runs on."""
        while True:
            await self._has_left.wait()
            self._has_left.clear()
            if not self._helm.proposes() and not await self._forward_pool():
                asyncio.get_running_loop().call_later(RETRY_S, self._has_left.set)

    async def _forward_pool(self) -> bool:
        """Whether every transaction was taken, or refused for good."""
        for raw in self._pool.all_raw():
            try:
                await self.forward(raw)
            except Rejection as rejection:
                log.info("an authority refused a transaction", error=str(rejection))
            except MpisaError:
                return False
        return True

    async def _answer(self, peer: PeerId, body: bytes) -> bytes:
        if not self._helm.proposes():
            raise NotFound("this node makes no vertices")
        try:
            self._accept(body)
        except Rejection as rejection:
            return codec.encode((rejection.reason.value, rejection.detail[: MAX_ANSWER_BYTES // 8]))
        return codec.encode(())

    async def forward(self, raw: bytes) -> None:
        """Raises Rejection as the authority that was asked gave it, or Unreachable when none took it."""
        connected = {info.peer_id for info in self._network.peers()}
        for peer in self._links.peers_of(self._helm.epoch):
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
