"""From the validators that this node knows to the present ones, one proven closing header an epoch (docs/protocol.md,
sections 12 and 18).

Any peer may show the way: each step is certified by the set that the step before led to. A peer whose proof fails is
dropped, one that doesn't answer in time rests.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from mpisa.node.epoch_proof import EpochProof, verify_epoch_proof
from mpisa.node.snapshots import EPOCHS, decode_epochs
from mpisa.node.sources import REQUEST_TIMEOUT_S
from mpisa.primitives import codec
from mpisa.primitives.errors import MpisaError, Rejection

if TYPE_CHECKING:
    from mpisa.network.ports import PeerId
    from mpisa.node.epoch_record import EpochRecord
    from mpisa.node.sources import Sources

WHAT = "epochs"


class EpochWalk:
    """See the module. Belongs to the loop."""

    def __init__(self, sources: Sources, chain_hash: bytes) -> None:
        self._sources = sources
        self._chain_hash = chain_hash

    async def steps(
        self,
        known: EpochRecord,
        peers: Sequence[PeerId],
        timeout: float = REQUEST_TIMEOUT_S,
        require: Callable[[EpochProof], None] = lambda _: None,
    ) -> AsyncIterator[tuple[EpochRecord, EpochProof]]:
        """The epochs behind `known` as far as any of these peers proves them, each with its proof. All are asked at
        once, and those who had something again, so that one which doesn't answer costs `timeout` seconds and no more.
        What fails `require`, which raises Rejection, is its sender's lie as well.
        """
        begun = -1
        while known.epoch > begun:
            begun = known.epoch
            answers = await asyncio.gather(*(self._ask(peer, begun, timeout) for peer in peers))
            for peer, proofs in zip(peers, answers, strict=True):
                for proof in proofs[known.epoch - begun :]:
                    record = await self._verified(peer, proof, known, require)
                    if record is None:
                        break
                    known = record
                    yield record, proof
            peers = [peer for peer, proofs in zip(peers, answers, strict=True) if proofs]

    async def _verified(
        self, peer: PeerId, proof: EpochProof, known: EpochRecord, require: Callable[[EpochProof], None]
    ) -> EpochRecord | None:
        try:
            record = await self._sources.check(partial(verify_epoch_proof, proof, known, self._chain_hash))
            require(proof)
            return record
        except Rejection as rejection:
            self._sources.drop(peer, WHAT, rejection)
            return None

    async def _ask(self, peer: PeerId, epoch: int, timeout: float) -> tuple[EpochProof, ...]:
        try:
            raw = await self._sources.ask(peer, EPOCHS, codec.encode(epoch), timeout=timeout)
        except MpisaError as error:
            self._sources.rest(peer, WHAT, error)
            return ()
        try:
            return await self._sources.check(partial(decode_epochs, raw))
        except Rejection as rejection:
            self._sources.drop(peer, WHAT, rejection)
            return ()
