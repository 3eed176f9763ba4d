"""Co-signatures of closing headers: this node's own, and those of others, asked for until each validator's is here.

When an epoch ends, a validator with an ML-DSA-65 key in its record signs the closing header with that too. Nobody waits
for it: nodes ask the validators of that epoch, more and more seldom, for what is missing of the latest epochs. Each
co-signature is verified against the record in the epoch before it is kept (docs/protocol.md, section 17).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from mpisa.network.ports import PeerId
from mpisa.primitives import codec
from mpisa.primitives.cosignature import Cosignature, cosign, cosigned_power
from mpisa.primitives.errors import MpisaError, NotFound, Rejection
from mpisa.primitives.header import MAX_VALIDATORS
from mpisa.primitives.identifiers import ADDRESS_BYTES, Address
from mpisa.primitives.keys import ML_DSA_65_SIGNATURE_BYTES, KeyKind, PublicKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mpisa.network.ports import Network
    from mpisa.node.chain_store import ChainStore
    from mpisa.node.database import Database
    from mpisa.node.epoch_record import EpochRecord
    from mpisa.primitives.header import Header
    from mpisa.primitives.keys import PrivateKey

COSIGNATURES = "cosignatures"
RECENT_EPOCHS = 16
"""Epochs for which missing co-signatures are asked for."""

MAX_EPOCH = (1 << 53) - 1
MAX_ANSWER_BYTES = MAX_VALIDATORS * (ADDRESS_BYTES + ML_DSA_65_SIGNATURE_BYTES + 16)
REQUEST_TIMEOUT_S = 5.0
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 600.0
_KIND = b"q"

log = structlog.get_logger(__name__)


class CosignatureStore:
    """Co-signatures by epoch and address, in the chain store's database. Not synced: others have them too."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def get(self, epoch: int) -> tuple[Cosignature, ...]:
        """Those of an epoch's closing header that are here, ascending by address."""
        prefix = _KIND + epoch.to_bytes(8, "big")
        end = _KIND + (epoch + 1).to_bytes(8, "big")
        return tuple(
            Cosignature(Address(key[len(prefix) :]), value)
            for key, value in self._db.range(prefix, end, limit=MAX_VALIDATORS)
        )

    def put(self, epoch: int, items: Iterable[Cosignature]) -> None:
        """Keeps verified ones."""
        prefix = _KIND + epoch.to_bytes(8, "big")
        self._db.write([(prefix + item.address, item.signature) for item in items], sync=False)


def post_quantum_keys(record: EpochRecord) -> dict[Address, PublicKey]:
    """The ML-DSA-65 keys of an epoch's validators that have one."""
    return {
        item.address: PublicKey(KeyKind.ML_DSA_65, item.post_quantum_key)
        for item in record.validators
        if item.post_quantum_key
    }


class Cosigning:
    """See the module. Belongs to the loop."""

    def __init__(self, network: Network, store: ChainStore, keys: Sequence[PrivateKey]) -> None:
        """`keys` are this node's ML-DSA-65 keys."""
        self._network = network
        self._store = store
        self._keys = {key.public_key.data: key for key in keys}
        self._changed = asyncio.Event()

    def attach(self) -> None:
        """Answers peers from now on."""
        self._network.authorities.set_request_handler(COSIGNATURES, self._answer)

    def look(self) -> None:
        """Call when an epoch ended."""
        self._changed.set()

    async def _answer(self, peer: PeerId, body: bytes) -> bytes:
        epoch = codec.expect_int(codec.decode(body, max_bytes=9, max_depth=0), "epoch", 0, MAX_EPOCH)
        return codec.encode(tuple((item.address, item.signature) for item in self._store.cosignatures.get(epoch)))

    async def run(self) -> None:
        """Signs and asks until cancelled."""
        while True:
            self._changed.clear()
            pause = FIRST_PAUSE_S
            while not self._changed.is_set() and not await self._complete():
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
            await self._changed.wait()

    async def _complete(self) -> bool:
        """Asks once for everything that is missing; whether nothing is, any more."""
        latest = self._store.header(self._store.certified_height).epoch
        results = [await self._complete_epoch(epoch) for epoch in range(max(0, latest - RECENT_EPOCHS), latest + 1)]
        return all(results)

    async def _complete_epoch(self, epoch: int) -> bool:
        try:
            height = self._store.epoch(epoch + 1).base
            record = self._store.epoch(epoch)
        except NotFound:
            return True  # it didn't end yet, or began before what this node knows
        keys = post_quantum_keys(record)
        missing = keys.keys() - {item.address for item in self._store.cosignatures.get(epoch)}
        if not missing or height > self._store.certified_height:
            return not missing
        header = self._store.header(height)
        for address in sorted(missing):
            key = self._keys.get(keys[address].data)
            if key is not None:
                self._store.cosignatures.put(epoch, [cosign(key, address, header)])
                missing.discard(address)
        connected = {info.peer_id for info in self._network.peers()}
        for item in record.validators:
            if item.address in missing and PeerId(item.peer_id) in connected:
                missing -= await self._ask(PeerId(item.peer_id), header, record, missing)
        return not missing

    async def _ask(
        self, peer: PeerId, header: Header, record: EpochRecord, missing: set[Address]
    ) -> frozenset[Address]:
        """The missing ones that this peer had, kept now."""
        try:
            body = codec.encode(header.epoch)
            answer = await self._network.authorities.request(peer, COSIGNATURES, body, timeout=REQUEST_TIMEOUT_S)
            found = [item for item in read_answer(answer) if item.address in missing]
            await asyncio.to_thread(cosigned_power, header, found, post_quantum_keys(record), record.validator_set)
        except MpisaError as error:
            level = log.warning if isinstance(error, Rejection) else log.info
            level("no co-signatures", peer=peer, epoch=header.epoch, error=str(error))
            return frozenset()
        self._store.cosignatures.put(header.epoch, found)
        return frozenset(item.address for item in found)


def read_answer(answer: bytes) -> list[Cosignature]:
    """A peer's answer, decoded. Raises Rejection."""
    found = []
    for item in codec.expect_tuple(
        codec.decode(answer, max_bytes=MAX_ANSWER_BYTES, max_depth=2), "co-signatures", MAX_VALIDATORS
    ):
        address, signature = codec.expect_tuple(item, "co-signature", length=2)
        found.append(
            Cosignature(
                Address(codec.expect_bytes(address, "co-signature.address", length=ADDRESS_BYTES)),
                codec.expect_bytes(signature, "co-signature.signature", length=ML_DSA_65_SIGNATURE_BYTES),
            )
        )
    return found
