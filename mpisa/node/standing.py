"""How far the others had come when this node started, so that it calls itself ready only once it is level with them.

A node that was away looks level to itself until the first vertex from the others arrives. So it asks each authority,
once, for the latest certified height; a height counts when a validity threshold of stake claims at least that much, so
that a liar below the threshold can't keep a node from becoming ready.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import structlog

from mpisa.primitives import codec
from mpisa.primitives.errors import MpisaError

if TYPE_CHECKING:
    from consensus.dag.committee import Committee
    from mpisa.network.ports import Network, PeerId

STANDING = "standing"
MAX_HEIGHT = (1 << 53) - 1
REQUEST_TIMEOUT_S = 2.0
RETRY_S = 0.1

log = structlog.get_logger(__name__)


def height_to_reach(committee: Committee, claims: Mapping[int, int]) -> int:
    """The highest height that authorities with a validity threshold of stake claim to have; 0 when there is none.

    claims: authority index -> latest certified height.
    """
    for height in sorted(set(claims.values()), reverse=True):
        if committee.is_validity(committee.stake_of([who for who, claimed in claims.items() if claimed >= height])):
            return height
    return 0


class Standing:
    """See the module. Belongs to the loop."""

    def __init__(
        self,
        network: Network,
        committee: Committee,
        own: int | None,
        authorities: Sequence[PeerId],
        certified_height: Callable[[], int],
        on_target: Callable[[int], None],
    ) -> None:
        self._network = network
        self._committee = committee
        self._own = own
        self._authorities = authorities
        self._certified_height = certified_height
        self._on_target = on_target
        self._claims: dict[int, int] = {}
        self.target: int | None = None
        """The certified height to reach; None until authorities with a quorum of stake, with ourselves, were heard."""

    def attach(self) -> None:
        """Answers peers from now on."""
        self._network.authorities.set_request_handler(STANDING, self._answer)

    async def _answer(self, peer: PeerId, body: bytes) -> bytes:
        return codec.encode(self._certified_height())

    async def run(self) -> None:
        """Returns once the target is known."""
        while self.target is None:
            waiting = [who for who in range(len(self._authorities)) if who != self._own and who not in self._claims]
            await asyncio.gather(*(self._ask(who) for who in waiting))
            if self._committee.is_quorum(self._committee.stake_of(self._heard())):
                self.target = height_to_reach(self._committee, self._claims)
                self._on_target(self.target)
            else:
                await asyncio.sleep(RETRY_S)

    def _heard(self) -> list[int]:
        return [*self._claims] if self._own is None else [*self._claims, self._own]

    async def _ask(self, who: int) -> None:
        peer = self._authorities[who]
        if peer not in {info.peer_id for info in self._network.peers()}:
            return
        try:
            answer = await self._network.authorities.request(peer, STANDING, b"", timeout=REQUEST_TIMEOUT_S)
            self._claims[who] = codec.expect_int(codec.decode(answer, max_bytes=9), "height", 0, MAX_HEIGHT)
        except MpisaError as error:
            log.info("no standing", peer=peer, error=str(error))
