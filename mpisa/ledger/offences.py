"""Offences of validators that ordered evidence has shown: what consensus found and verified, as the ledger takes it.

The ledger judges no evidence: whoever hands in an `Offence` has checked the signatures in it against the committee of
its epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mpisa.primitives.identifiers import Address, Epoch


class OffenceKind(StrEnum):
    """What a validator did. All but STRAY_HEADER are slashed; that one may be a bug, and only jails."""

    DOUBLE_VERTEX = "double-vertex"
    DOUBLE_HEADER = "double-header"
    ABOVE_CLOSING = "above-closing"
    STRAY_HEADER = "stray-header"


PUNISHABLE: Final = frozenset((OffenceKind.DOUBLE_VERTEX, OffenceKind.DOUBLE_HEADER, OffenceKind.ABOVE_CLOSING))


@dataclass(frozen=True, slots=True)
class Offence:
    """One proven act: `address` is the validator's certificate address in `epoch`, `position` the round (DOUBLE_VERTEX)
    or the height, `digest` the sha256 of the evidence (32 bytes).
    """

    kind: OffenceKind
    address: Address
    epoch: Epoch
    position: int
    digest: bytes
