"""How validators and operators stand, for whoever asks: what has power now, what the next epoch changes, what returns.

Pure reading of one state; nothing here decides anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mpisa.ledger.parameters import read_parameters
from mpisa.ledger.staking import Reader, read_agenda_entry, read_epoch, read_registration, read_registrations
from mpisa.ledger.state import StateView
from mpisa.ledger.validators import read_validators
from mpisa.primitives.identifiers import Address
from mpisa.primitives.staking import EpochState, Registration, Return
from mpisa.primitives.staking_parameters import StakingParameters
from mpisa.primitives.validator_record import ValidatorRecord


class Change(StrEnum):
    """What the end of the epoch does to a validator."""

    NONE = "none"
    JOINS = "joins"
    LEAVES = "leaves"
    CHANGES = "changes"


@dataclass(frozen=True, slots=True)
class ValidatorStanding:
    """One validator: `now` as the set of this epoch has it, `next` as the next set will (None: not in it)."""

    registration: Registration
    now: ValidatorRecord | None
    next: ValidatorRecord | None

    @property
    def record(self) -> ValidatorRecord:
        """What it is called and where it is found: as it is now, else as it will be."""
        record = self.now or self.registration.record
        assert record is not None
        return record

    @property
    def change(self) -> Change:
        """What the epoch's end does to it."""
        if self.now == self.next:
            return Change.NONE
        if self.now is None:
            return Change.JOINS
        return Change.LEAVES if self.next is None else Change.CHANGES


@dataclass(frozen=True, slots=True)
class StakingStanding:
    """The epoch in which the next block is made, and every validator that is in its set or registered: those of the set
    first, by address, then the others.
    """

    epoch: EpochState
    parameters: StakingParameters
    validators: tuple[ValidatorStanding, ...]

    @property
    def closes_from_ms(self) -> int:
        """No block before this time closes the epoch."""
        return self.epoch.opened_ms + self.parameters.min_epoch_ms


@dataclass(frozen=True, slots=True)
class StakeStanding:
    """One operator: its validator (None: it has none) and what is on its way back, in the order in which it comes."""

    registration: Registration
    validator: ValidatorStanding | None
    returns: tuple[Return, ...]


def read_staking(view: StateView) -> StakingStanding:
    """How all stand. Raises IntegrityError for a damaged state."""
    active = {record.operator: record for record in read_validators(view)}
    standings = [_standing(item, active.get(item.operator)) for item in read_registrations(view.get)]
    standings.sort(key=lambda standing: (standing.now is None, standing.record.address))
    return StakingStanding(read_epoch(view.get), read_parameters(view).staking, tuple(standings))


def read_stake(view: StateView, operator: Address) -> StakeStanding:
    """How one operator stands; an account that runs no validator has an empty registration."""
    registration = read_registration(view.get, operator)
    validator = None
    if registration.record is not None:
        active = {record.operator: record for record in read_validators(view)}
        validator = _standing(registration, active.get(operator))
    return StakeStanding(registration, validator, _returns(view.get, registration))


def _standing(registration: Registration, now: ValidatorRecord | None) -> ValidatorStanding:
    return ValidatorStanding(registration, now, registration.record if registration.is_electable else None)


def _returns(read: Reader, registration: Registration) -> tuple[Return, ...]:
    entries = [read_agenda_entry(read, number) for number in registration.returns]
    return tuple([entry for entry in entries if isinstance(entry, Return) and entry.amount])
