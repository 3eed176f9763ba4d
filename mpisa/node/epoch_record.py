"""What the chain store keeps of an epoch: all that is needed to check its certificates and to open it again.

The record of an epoch is written with the block that closes the one before (with genesis for the first).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from consensus.dag.committee import Authority, Committee
from consensus.order.checkpoint import MAX_CURSOR_BYTES
from mpisa.primitives import codec
from mpisa.primitives.header import MAX_VALIDATORS, Validator, ValidatorSet
from mpisa.primitives.identifiers import AuthorityIndex, Epoch, Height
from mpisa.primitives.validator_record import ValidatorRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_NUMBER = (1 << 53) - 1


@dataclass(frozen=True)
class EpochRecord:
    """`base` is the height of the header before the epoch's first, `closing_cursor` the one of that block (empty behind
    genesis, and where the block wasn't executed here); validators ascend by address.
    """

    epoch: Epoch
    base: Height
    closing_cursor: bytes
    validators: tuple[ValidatorRecord, ...]

    @cached_property
    def validator_set(self) -> ValidatorSet:
        """Addresses and powers, as headers name the set."""
        return ValidatorSet(tuple(Validator(item.address, item.power) for item in self.validators))

    @cached_property
    def committee(self) -> Committee:
        """The authorities as consensus knows them."""
        return committee_of(self.validators)

    @cached_property
    def peers(self) -> dict[str, AuthorityIndex]:
        """The place of each validator's node, by peer id."""
        return {item.peer_id: AuthorityIndex(index) for index, item in enumerate(self.validators)}

    def encode(self) -> bytes:
        """As it is stored."""
        validators = tuple(item.to_value() for item in self.validators)
        return codec.encode((self.epoch, self.base, self.closing_cursor, validators))

    @classmethod
    def decode(cls, raw: bytes) -> EpochRecord:
        """The inverse of encode; raises Rejection."""
        epoch, base, cursor, validators = codec.expect_tuple(codec.decode(raw, max_bytes=len(raw)), "epoch", length=4)
        return cls(
            Epoch(codec.expect_int(epoch, "epoch.number", 0, _MAX_NUMBER)),
            Height(codec.expect_int(base, "epoch.base", 0, _MAX_NUMBER)),
            codec.expect_bytes(cursor, "epoch.closing_cursor", max_length=MAX_CURSOR_BYTES),
            tuple(
                ValidatorRecord.from_value(item)
                for item in codec.expect_tuple(validators, "epoch.validators", MAX_VALIDATORS)
            ),
        )


def committee_of(validators: Sequence[ValidatorRecord]) -> Committee:
    """The authorities of an epoch, ascending by address as the validators do."""
    return Committee(
        [
            Authority(AuthorityIndex(index), item.address, item.power, item.consensus_key, item.name)
            for index, item in enumerate(validators)
        ]
    )
