"""The chain's numbers about stake and epochs (docs/protocol.md, section 15); times are spans in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

from mpisa.primitives import codec
from mpisa.primitives.genesis_fields import bad_genesis, check_int, read_object

DAY_MS: Final = 86_400_000
MAX_SPAN_MS: Final = 10 * 366 * DAY_MS
MAX_STAKE: Final = (1 << 64) - 1
MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class StakingParameters:
    """Amounts in the smallest unit.

    A validator has one power for each `power_unit` of its bonded stake, and bonds at least `minimum_stake`. An epoch
    lasts at least `min_epoch_ms`. A punishable offence burns `slash_ppm` millionths of the stake; a jailed validator
    may come back after `jail_ms`. `trusting_ms` is how old a header a light client may start from, `evidence_ms` how
    long evidence may take to arrive after that: stake that leaves stays locked for `unbonding_ms`, which is longer than
    both together, and evidence counts as long.
    """

    power_unit: int = 1
    minimum_stake: int = 1
    min_epoch_ms: int = 60_000
    trusting_ms: int = 14 * DAY_MS
    evidence_ms: int = 6 * DAY_MS
    unbonding_ms: int = 21 * DAY_MS
    jail_ms: int = 3_600_000
    slash_ppm: int = 50_000

    def validate(self) -> None:
        """Raise Rejection(BAD_GENESIS) unless all is in bounds and the spans fit each other."""
        where = "parameters.staking"
        check_int(self.power_unit, f"{where}.power_unit", 1, MAX_STAKE)
        check_int(self.minimum_stake, f"{where}.minimum_stake", self.power_unit, MAX_STAKE)
        for name in ("min_epoch_ms", "trusting_ms", "evidence_ms", "unbonding_ms", "jail_ms"):
            check_int(getattr(self, name), f"{where}.{name}", 0, MAX_SPAN_MS)
        check_int(self.slash_ppm, f"{where}.slash_ppm", 0, MILLION)
        if self.unbonding_ms <= self.trusting_ms + self.evidence_ms:
            raise bad_genesis(
                f"{where}.unbonding_ms: expected more than trusting_ms + evidence_ms = "
                f"{self.trusting_ms + self.evidence_ms}, got {self.unbonding_ms}"
            )

    def to_value(self) -> codec.Value:
        """The numbers in the order of the fields."""
        return tuple(getattr(self, name) for name in _NAMES)

    @classmethod
    def from_value(cls, value: codec.Value) -> StakingParameters:
        """The inverse of to_value; raises Rejection."""
        items = codec.expect_tuple(value, "parameters.staking", length=len(_NAMES))
        return cls(
            *(codec.expect_int(item, f"parameters.staking.{name}") for name, item in zip(_NAMES, items, strict=True))
        )

    def to_document(self) -> dict[str, Any]:
        """The JSON form."""
        return {name: getattr(self, name) for name in _NAMES}

    @classmethod
    def from_document(cls, document: Any) -> StakingParameters:
        """The inverse of to_document; raises Rejection(BAD_GENESIS)."""
        items = read_object(document, "parameters.staking", _NAMES)
        return cls(**{name: check_int(items[name], f"parameters.staking.{name}", 0, MAX_STAKE) for name in _NAMES})


_NAMES: Final = tuple(field.name for field in fields(StakingParameters))
