"""The agenda: what is to be done once its time has come, in order (docs/protocol.md, section 15).

Every entry is due one unbonding period after the block that makes it, so that entries come due in the order in which
they are numbered: the first is the only one to look at. A block settles a bounded number of them; the rest waits for
the next block.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from mpisa.ledger.rules import Rules
from mpisa.ledger.staking import (
    WritableState,
    put_claim,
    put_epoch,
    put_registration,
    read_agenda_entry,
    read_epoch,
    read_registration,
)
from mpisa.primitives.account import Account
from mpisa.primitives.identifiers import Address
from mpisa.primitives.record import MAX_U64
from mpisa.primitives.staking import AgendaEntry, Registration, Return, encode_agenda_entry
from mpisa.primitives.state_keys import Claim, agenda_key

MAX_SETTLED_A_BLOCK: Final = 64


def due_ms(rules: Rules) -> int:
    """When an entry that this block makes is due."""
    return rules.context.time_ms + rules.parameters.staking.unbonding_ms


def append_entry(state: WritableState, entry: AgendaEntry) -> int:
    """Put an entry at the agenda's end, and give its number."""
    epoch = read_epoch(state.value)
    number = epoch.agenda_tail
    state.put_value(agenda_key(number), encode_agenda_entry(entry))
    is_first = epoch.agenda_head == number
    put_epoch(
        state, replace(epoch, agenda_tail=number + 1, agenda_due_ms=entry.due_ms if is_first else epoch.agenda_due_ms)
    )
    return number


def settle_due(state: WritableState, rules: Rules) -> None:
    """Do what is due at this block's time, at most MAX_SETTLED_A_BLOCK entries."""
    for _ in range(MAX_SETTLED_A_BLOCK):
        epoch = read_epoch(state.value)
        if epoch.agenda_head == epoch.agenda_tail or epoch.agenda_due_ms > rules.context.time_ms:
            return
        number = epoch.agenda_head
        entry = read_agenda_entry(state.value, number)
        _remove_first(state)
        if isinstance(entry, Return):
            _settle_return(state, number, entry, rules)
        else:
            state.put_value(entry.key, None)


def is_address_held(state: WritableState, registration: Registration, address: bytes) -> bool:
    """Whether the operator's validator has the address, or had it so lately that offences under it still count."""
    if address == registration.active or (registration.record is not None and registration.record.address == address):
        return True
    for number in registration.returns:
        entry = read_agenda_entry(state.value, number)
        if isinstance(entry, Return) and entry.released == address:
            return True
    return False


def _remove_first(state: WritableState) -> None:
    epoch = read_epoch(state.value)
    state.put_value(agenda_key(epoch.agenda_head), None)
    head = epoch.agenda_head + 1
    due_ms = 0 if head == epoch.agenda_tail else read_agenda_entry(state.value, head).due_ms
    put_epoch(state, replace(epoch, agenda_head=head, agenda_due_ms=due_ms))


def _settle_return(state: WritableState, number: int, entry: Return, rules: Rules) -> None:
    before = read_registration(state.value, entry.operator)
    after = replace(before, returns=tuple(item for item in before.returns if item != number))
    if not _credit(state, entry.operator, entry.amount):
        # A balance is full: nothing is lost, it is tried again a period later.
        again = replace(entry, due_ms=due_ms(rules))
        after = replace(after, returns=(*after.returns, append_entry(state, again)))
    elif entry.released and not is_address_held(state, after, entry.released):
        put_claim(state, Claim.CERTIFICATE, entry.released, None)
    put_registration(state, before, after)


def _credit(state: WritableState, address: Address, amount: int) -> bool:
    account = state.account(address) or Account(address, None, 0, 0)
    if account.balance > MAX_U64 - amount:
        return False
    if amount:
        state.put_account(replace(account, balance=account.balance + amount))
    return True
