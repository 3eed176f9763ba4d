"""Reading and writing what the state keeps about stake (docs/protocol.md, section 15).

Readers take the function that reads a state key, so that views and states being written are read alike.
`put_registration` keeps what follows from registrations in step: the list of operators and the counts in the epoch's
entry. Nothing here is a rule; damage in the state is an IntegrityError.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol, TypeAlias, TypeVar

from mpisa.ledger.state import damaged
from mpisa.primitives import codec
from mpisa.primitives.account import Account
from mpisa.primitives.errors import IntegrityError, Rejection
from mpisa.primitives.header import MAX_VALIDATORS
from mpisa.primitives.identifiers import ADDRESS_BYTES, Address, format_address
from mpisa.primitives.staking import AgendaEntry, EpochState, Registration, decode_agenda_entry
from mpisa.primitives.state_keys import (
    Claim,
    agenda_key,
    claim_key,
    closed_key,
    epoch_key,
    registration_key,
    registrations_key,
)

# Those that stay have at most MAX_VALIDATORS places; those that leave were in the set of this epoch.
MAX_REGISTRATIONS: Final = 2 * MAX_VALIDATORS
MAX_OPERATOR_LIST_BYTES: Final = 16_384
MAX_SMALL_VALUE_BYTES: Final = 64

Reader: TypeAlias = Callable[[bytes], bytes | None]
_T = TypeVar("_T")


class WritableState(Protocol):
    """The state that a rule changes: a block's, or one transaction's on top of it."""

    def account(self, address: Address) -> Account | None:
        """The account, or None if it doesn't exist."""
        ...

    def put_account(self, account: Account) -> None:
        """Replace the account at its address."""
        ...

    def value(self, key: bytes) -> bytes | None:
        """The value under a key that is no account's."""
        ...

    def put_value(self, key: bytes, value: bytes | None) -> None:
        """Replace the value under a key that is no account's; None removes it."""
        ...


def read_epoch(read: Reader) -> EpochState:
    """The entry about the epoch in which the next block is made."""
    return _read_required(read, epoch_key(), "epoch", EpochState.decode)


def put_epoch(state: WritableState, epoch: EpochState) -> None:
    """Replace it."""
    state.put_value(epoch_key(), epoch.encode())


def read_operators(read: Reader) -> tuple[Address, ...]:
    """The operators that have a validator registered, ascending."""
    return _read_required(read, registrations_key(), "registrations", _decode_operators)


def read_registration(read: Reader, operator: Address) -> Registration:
    """An operator's registration; an empty one where it has none."""
    data = read(registration_key(operator))
    if data is None:
        return Registration(operator)
    try:
        return Registration.decode(operator, data)
    except Rejection as damage:
        raise damaged(f"registration of {format_address(operator)}", damage) from damage


def read_registrations(read: Reader) -> tuple[Registration, ...]:
    """All that have a validator, ascending by operator."""
    return tuple([read_registration(read, operator) for operator in read_operators(read)])


def put_registration(state: WritableState, before: Registration, after: Registration) -> None:
    """Replace a registration (remove it when nothing is left in it), with what follows from it."""
    assert before.operator == after.operator
    state.put_value(registration_key(after.operator), None if after.is_empty else after.encode())
    if (before.record is None) != (after.record is None):
        _list_operator(state, after.operator, listed=after.record is not None)
    seated = after.is_seated - before.is_seated
    electable = after.is_electable - before.is_electable
    if seated or electable:
        epoch = read_epoch(state.value)
        put_epoch(state, replace(epoch, seated=epoch.seated + seated, electable=epoch.electable + electable))


def set_pending(state: WritableState) -> None:
    """Something waits for the epoch's end from now on."""
    epoch = read_epoch(state.value)
    if not epoch.pending:
        put_epoch(state, replace(epoch, pending=True))


def read_claim(read: Reader, claim: Claim, value: bytes) -> Address | None:
    """The operator that has this key, name or peer id, or None."""
    data = read(claim_key(claim, value))
    if data is None:
        return None
    try:
        item = codec.decode(data, max_bytes=MAX_SMALL_VALUE_BYTES)
        return Address(codec.expect_bytes(item, "claim", length=ADDRESS_BYTES))
    except Rejection as damage:
        raise damaged(f"claim of a {claim.value}", damage) from damage


def put_claim(state: WritableState, claim: Claim, value: bytes, operator: Address | None) -> None:
    """Give it to an operator, or free it."""
    state.put_value(claim_key(claim, value), None if operator is None else codec.encode(operator))


def read_closed(read: Reader, epoch: int) -> int | None:
    """When an earlier epoch closed (ms); None when that is so long ago that nobody is charged with it any more."""
    data = read(closed_key(epoch))
    if data is None:
        return None
    try:
        return codec.expect_int(codec.decode(data, max_bytes=MAX_SMALL_VALUE_BYTES), "closed")
    except Rejection as damage:
        raise damaged(f"closing time of epoch {epoch}", damage) from damage


def read_agenda_entry(read: Reader, number: int) -> AgendaEntry:
    """Entry `number` of the agenda, which is there."""
    return _read_required(read, agenda_key(number), f"agenda entry {number}", decode_agenda_entry)


def _read_required(read: Reader, key: bytes, what: str, decode: Callable[[bytes], _T]) -> _T:
    data = read(key)
    if data is None:
        raise IntegrityError(
            f"the state is damaged: it holds no {what}", hint="stop the node and run `mpisa node repair`"
        )
    try:
        return decode(data)
    except Rejection as damage:
        raise damaged(what, damage) from damage


def _decode_operators(data: bytes) -> tuple[Address, ...]:
    items = codec.expect_tuple(
        codec.decode(data, max_bytes=MAX_OPERATOR_LIST_BYTES), "registrations", MAX_REGISTRATIONS
    )
    return tuple([Address(codec.expect_bytes(item, "registrations", length=ADDRESS_BYTES)) for item in items])


def _list_operator(state: WritableState, operator: Address, *, listed: bool) -> None:
    operators = list(read_operators(state.value))
    place = bisect_left(operators, operator)
    if listed:
        operators.insert(place, operator)
    else:
        del operators[place]
    state.put_value(registrations_key(), codec.encode(tuple(operators)))
