"""The state and the header of height 0, from the genesis document."""

from __future__ import annotations

from mpisa.primitives import codec
from mpisa.primitives.account import Account
from mpisa.primitives.digest import ZERO_DIGEST
from mpisa.primitives.genesis import Genesis
from mpisa.primitives.header import Header
from mpisa.primitives.identifiers import Epoch, Height
from mpisa.primitives.merkle import map_root
from mpisa.primitives.staking import EpochState, Registration, claims_of
from mpisa.primitives.state_keys import (
    account_key,
    claim_key,
    epoch_key,
    parameters_key,
    registration_key,
    registrations_key,
    validator_key,
    validators_key,
)


def genesis_state(genesis: Genesis) -> dict[bytes, bytes]:
    """Every state entry at height 0, ascending by key. Raises Rejection for a document that doesn't hold together."""
    genesis.validate()
    entries = {parameters_key(): genesis.parameters.encode()}
    entries |= _staking_state(genesis)
    for item in genesis.accounts:
        entries[account_key(item.address)] = Account(item.address, item.public_key, 0, item.balance).encode()
    return dict(sorted(entries.items()))


def _staking_state(genesis: Genesis) -> dict[bytes, bytes]:
    """The first epoch's set, and what its operators have at stake: the stake of the genesis is bonded from nothing."""
    count = len(genesis.validators)
    entries = {
        epoch_key(): EpochState(0, genesis.time_ms, seated=count, electable=count).encode(),
        validators_key(): codec.encode(tuple(item.address for item in genesis.validators)),
        registrations_key(): codec.encode(tuple(sorted(item.operator for item in genesis.validators))),
    }
    for validator in genesis.validators:
        bonded = validator.power * genesis.parameters.staking.power_unit
        registration = Registration(validator.operator, validator, bonded, validator.address)
        entries[validator_key(validator.address)] = validator.encode()
        entries[registration_key(validator.operator)] = registration.encode()
        for claim, value in claims_of(validator):
            entries[claim_key(claim, value)] = codec.encode(validator.operator)
    return entries


def genesis_header(genesis: Genesis) -> Header:
    """The header of height 0: epoch 0, which it opens and doesn't close; trusted out of band, without a certificate."""
    return Header(
        chain_hash=genesis.chain_hash,
        height=Height(0),
        time_ms=genesis.time_ms,
        epoch=Epoch(0),
        first_commit=0,
        last_commit=0,
        previous=ZERO_DIGEST,
        commit_digest=ZERO_DIGEST,
        window_root=ZERO_DIGEST,
        tx_root=ZERO_DIGEST,
        receipts_root=ZERO_DIGEST,
        state_root=map_root(genesis_state(genesis)),
        validators_hash=genesis.validator_set.hash,
        next_validators_hash=ZERO_DIGEST,
    )
