"""The validator set, as the state holds it: one entry a validator, and the list of their addresses to find them by."""

from __future__ import annotations

from typing import Final

from mpisa.ledger.state import StateView, damaged
from mpisa.primitives import codec
from mpisa.primitives.errors import IntegrityError, Rejection
from mpisa.primitives.header import MAX_VALIDATORS, Validator, ValidatorSet
from mpisa.primitives.identifiers import Address, format_address
from mpisa.primitives.state_keys import validator_key, validators_key
from mpisa.primitives.validator_record import ValidatorRecord

MAX_ADDRESS_LIST_BYTES: Final = 16_384


def read_validators(view: StateView) -> tuple[ValidatorRecord, ...]:
    """The validators, ascending by address: the order of authority indices. Raises IntegrityError."""
    data = view.get(validators_key())
    if data is None:
        raise IntegrityError(
            "the state is damaged: it holds no validator set", hint="stop the node and run `mpisa node repair`"
        )
    try:
        items = codec.expect_tuple(codec.decode(data, max_bytes=MAX_ADDRESS_LIST_BYTES), "validators", MAX_VALIDATORS)
        return tuple(
            _read_validator(view, Address(codec.expect_bytes(item, "validators.address", length=20))) for item in items
        )
    except Rejection as damage:
        raise damaged("validators", damage) from damage


def read_validator_set(view: StateView) -> ValidatorSet:
    """Addresses and powers, as certificates are checked against. Raises IntegrityError."""
    return ValidatorSet(tuple(Validator(item.address, item.power) for item in read_validators(view)))


def _read_validator(view: StateView, address: Address) -> ValidatorRecord:
    data = view.get(validator_key(address))
    if data is None:
        raise IntegrityError(
            f"the state is damaged: it holds no entry for validator {format_address(address)}",
            hint="stop the node and run `mpisa node repair`",
        )
    return ValidatorRecord.decode(data)
