"""How much power co-signed each closing header, checked here: ML-DSA-65 signatures against proven validator records.

The keys of the first epoch are in the genesis document; those of a later one are state entries under the closing header
before it, each with its map proof. What a node shows must be true; what it leaves out only lowers the power counted.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mpisa.primitives.cosignature import Cosignature, cosigned_power
from mpisa.primitives.errors import IntegrityError, Rejection
from mpisa.primitives.identifiers import Address, parse_address
from mpisa.primitives.keys import KeyKind, PublicKey
from mpisa.primitives.merkle import MapProof, verify_membership
from mpisa.primitives.state_keys import validator_key
from mpisa.primitives.validator_record import ValidatorRecord
from mpisa.sdk import models
from mpisa.sdk.verify import begin, follow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mpisa.primitives.header import Header, ValidatorSet
    from mpisa.primitives.light import CertifiedHeader
    from mpisa.sdk.async_client import AsyncClient
    from mpisa.sdk.verify import TrustedChain


@dataclass(frozen=True, slots=True)
class RecordProof:
    """A state entry that claims to be a validator's record, and its proof."""

    key: bytes
    value: bytes
    proof: MapProof


def proven_keys(before: Header, proofs: Iterable[RecordProof], validators: ValidatorSet) -> dict[Address, PublicKey]:
    """The ML-DSA-65 keys of the set that a closing header names, from the records proven under its state root.

    Raises Rejection for an entry that isn't there, or isn't a record. Entries of no member prove nothing and are passed
    over.
    """
    members = {validator_key(item.address): item.address for item in validators.validators}
    keys: dict[Address, PublicKey] = {}
    for item in proofs:
        address = members.get(item.key)
        if address is not None:
            verify_membership(before.state_root, item.key, item.value, item.proof)
            record = ValidatorRecord.decode(item.value)
            if record.address == address and record.post_quantum_key:
                keys[address] = PublicKey(KeyKind.ML_DSA_65, record.post_quantum_key)
    return keys


async def verify_cosignatures(client: AsyncClient, chain: TrustedChain) -> tuple[models.CosignedEpoch, ...]:
    """The co-signed power of every closing header from the trusted one on; raises IntegrityError for a false claim.

    An epoch in which trust begins midway is passed over: nothing here shows its validators' records.
    """
    from mpisa.sdk.light import closed_epochs

    followed = begin(chain)
    before: Header | None = chain.anchor if chain.anchor.closes_epoch or chain.anchor.height == 0 else None
    found: list[models.CosignedEpoch] = []
    async for signed in closed_epochs(client, followed):
        followed = await asyncio.to_thread(follow, followed, signed, int(time.time() * 1000))
        if before is not None:
            keys = chain.cosigning_keys if before.height == 0 else None
            found.append(await _cosigned(client, signed, before, keys))
        before = signed.header
    return tuple(found)


async def _cosigned(
    client: AsyncClient, signed: CertifiedHeader, before: Header, keys: Mapping[Address, PublicKey] | None
) -> models.CosignedEpoch:
    header = signed.header
    answer = await client.cosignatures(header.epoch)
    try:
        items = [
            Cosignature(parse_address(item.address), bytes.fromhex(item.signature)) for item in answer.cosignatures
        ]
        if keys is None:
            proofs = [
                RecordProof(
                    bytes.fromhex(item.key), bytes.fromhex(item.value), MapProof.decode(bytes.fromhex(item.proof))
                )
                for item in answer.records
            ]
            keys = await asyncio.to_thread(proven_keys, before, proofs, signed.validators)
        power = await asyncio.to_thread(cosigned_power, header, items, keys, signed.validators)
    except (ValueError, Rejection) as error:
        raise IntegrityError(
            f"header {header.height}: check 'co-signatures' failed: {error}", hint="don't trust this node's answers"
        ) from None
    return models.CosignedEpoch(
        epoch=header.epoch, height=header.height, power=power, total_power=signed.validators.total_power
    )
