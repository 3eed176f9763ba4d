"""When an epoch ends, and what its last block does (docs/protocol.md, section 15).

The rule looks at the state and the block's time alone. A block is its epoch's last when, after everything in it,
something waits for the end, the epoch is old enough, and the next set has somebody in it. That block turns the
registrations into the next set: what leaves goes to the agenda, and what stays and isn't jailed is elected.
"""

from __future__ import annotations

from dataclasses import replace

from mpisa.ledger.agenda import append_entry, due_ms
from mpisa.ledger.leaving import release_stake
from mpisa.ledger.rules import Rules
from mpisa.ledger.staking import (
    WritableState,
    put_epoch,
    put_registration,
    read_epoch,
    read_registrations,
)
from mpisa.primitives import codec
from mpisa.primitives.staking import Forget, Registration
from mpisa.primitives.state_keys import closed_key, offence_key, validator_key, validators_key
from mpisa.primitives.validator_record import ValidatorRecord


def is_last_block(state: WritableState, rules: Rules) -> bool:
    """Whether the block whose transactions `state` holds closes its epoch."""
    epoch = read_epoch(state.value)
    age_ms = rules.context.time_ms - epoch.opened_ms
    return epoch.pending and epoch.electable > 0 and age_ms >= rules.parameters.staking.min_epoch_ms


def close_epoch(state: WritableState, rules: Rules) -> tuple[ValidatorRecord, ...]:
    """Write the next epoch's set, and give it: ascending by address."""
    context = rules.context
    registrations = read_registrations(state.value)
    elected = []
    for registration in registrations:
        _keep_offences(state, registration, rules)
        settled = release_stake(state, registration, rules)
        if settled.is_electable:
            assert settled.record is not None
            elected.append(settled.record)
            settled = replace(settled, active=settled.record.address)
        put_registration(state, registration, settled)
    elected.sort(key=lambda record: record.address)
    for registration in registrations:
        if registration.active:
            state.put_value(validator_key(registration.active), None)
    for record in elected:
        state.put_value(validator_key(record.address), record.encode())
    state.put_value(validators_key(), codec.encode(tuple(record.address for record in elected)))
    state.put_value(closed_key(context.epoch), codec.encode(context.time_ms))
    append_entry(state, Forget(due_ms(rules), closed_key(context.epoch)))
    epoch = read_epoch(state.value)
    put_epoch(state, replace(epoch, epoch=context.epoch + 1, opened_ms=context.time_ms, pending=False))
    return tuple(elected)


def _keep_offences(state: WritableState, registration: Registration, rules: Rules) -> None:
    """What was punished in its own epoch is remembered as long as that epoch's offences count."""
    for punishable in (False, True):
        key = offence_key(registration.operator, rules.context.epoch, punishable)
        if state.value(key) is not None:
            append_entry(state, Forget(due_ms(rules), key))
