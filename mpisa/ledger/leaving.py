"""How a validator leaves, by its own wish or as a punishment, and how stake leaves with it.

Stake that gave power goes to the agenda when the epoch ends that it had power in, and not before: it answers for what
was done in that epoch. A validator that isn't in the set yet leaves at once.
"""

from __future__ import annotations

from dataclasses import replace

from mpisa.ledger.agenda import append_entry, due_ms, is_address_held
from mpisa.ledger.rules import Rules
from mpisa.ledger.staking import WritableState, put_claim, put_registration, set_pending
from mpisa.primitives.staking import Registration, Return, claims_of
from mpisa.primitives.state_keys import Claim


def apply_departure(state: WritableState, registration: Registration, rules: Rules) -> None:
    """Take a validator out: now if it is in no set, else with the epoch's end. Others may have its name and keys, but
    not its address, under which it is still charged.
    """
    record = registration.record
    assert record is not None
    for claim, value in claims_of(record):
        if claim is not Claim.CERTIFICATE:
            put_claim(state, claim, value, None)
    leaving = replace(registration, leaving=True)
    if not registration.active:
        leaving = release_stake(state, leaving, rules)
    put_registration(state, registration, leaving)
    set_pending(state)


def release_stake(state: WritableState, registration: Registration, rules: Rules) -> Registration:
    """A registration as it is once what waited in it is on the agenda; it is in no set then. The caller puts it."""
    settled = replace(registration, waiting=0, active=b"")
    amount, released = registration.waiting, registration.active
    if registration.leaving:
        assert registration.record is not None
        amount += registration.bonded
        settled = replace(settled, record=None, bonded=0, leaving=False, jailed_until_ms=0)
        if not released:
            released = registration.record.address
        elif registration.record.address != released:
            free_address(state, settled, registration.record.address)
    elif registration.is_electable and registration.record is not None and registration.record.address == released:
        released = b""  # it stays in the set under this address
    if amount or released:
        entry = Return(due_ms(rules), registration.operator, amount, rules.context.epoch, released)
        settled = replace(settled, returns=(*settled.returns, append_entry(state, entry)))
    return settled


def free_address(state: WritableState, registration: Registration, address: bytes) -> None:
    """Let others have a certificate address that was in no set, unless it was in one before."""
    if not is_address_held(state, registration, address):
        put_claim(state, Claim.CERTIFICATE, address, None)
