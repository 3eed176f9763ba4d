"""How far the others had come when this node started, so that it calls itself ready only once it is level with them.

A node that was away looks level to itself until the first vertex from the others arrives. So it asks each authority,
once, for the latest certified height; a height counts when a validity threshold of stake claims at least that much, so
that a liar below the threshold can't keep a node from becoming ready.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import structlog

from mpisa.primitives import codec
from mpisa.primitives.errors import MpisaError

if TYPE_CHECKING:
    from consensus.dag.committee import Committee
    from consensus.identity import Seats
    from mpisa.network.ports import Network, PeerId
    from mpisa.node.epoch_record import EpochRecord

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
        present: Callable[[], EpochRecord],
        identity: Seats,
        certified_height: Callable[[], int],
        on_target: Callable[[int], None],
    ) -> None:
        """`present` is the epoch of the next block: a node that was away may find nobody of the one it left."""
        self._network = network
        self._present = present
        self._identity = identity
        self._certified_height = certified_height
        self._on_target = on_target
        self._claims: dict[str, int] = {}
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
            record = self._present()
            seat = self._identity.seat_in(record.committee)
            await asyncio.gather(*(self._ask(peer) for peer in self._missing(record)))
            heard = [index for peer, index in record.peers.items() if peer in self._claims]
            if seat is not None:
                heard.append(seat.index)
            if record.committee.is_quorum(record.committee.stake_of(heard)):
                self.target = height_to_reach(
                    record.committee,
                    {record.peers[peer]: height for peer, height in self._claims.items() if peer in record.peers},
                )
                self._on_target(self.target)
            else:
                await asyncio.sleep(RETRY_S)

    def _missing(self, record: EpochRecord) -> list[PeerId]:
        """Connected authorities that weren't heard yet."""
        connected = {info.peer_id for info in self._network.peers()}
        return [peer for peer in connected if peer in record.peers and peer not in self._claims]

    async def _ask(self, peer: PeerId) -> None:
        try:
            answer = await self._network.authorities.request(peer, STANDING, b"", timeout=REQUEST_TIMEOUT_S)
            self._claims[peer] = codec.expect_int(codec.decode(answer, max_bytes=9), "height", 0, MAX_HEIGHT)
        except MpisaError as error:
            log.info("no standing", peer=peer, error=str(error))
