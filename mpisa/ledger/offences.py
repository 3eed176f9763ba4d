"""Offences of validators that ordered evidence has shown: what consensus found and verified, as the ledger takes it.

The ledger judges no evidence: whoever hands in an `Offence` has checked the signatures in it against the committee of
its epoch. Rules of punishment: docs/protocol.md, section 15.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from mpisa.ledger.agenda import append_entry, due_ms
from mpisa.ledger.leaving import apply_departure
from mpisa.ledger.rules import Rules
from mpisa.ledger.staking import (
    WritableState,
    put_registration,
    read_agenda_entry,
    read_claim,
    read_closed,
    read_registration,
    set_pending,
)
from mpisa.primitives import codec
from mpisa.primitives.identifiers import Address, Epoch
from mpisa.primitives.staking import Forget, Registration, Return, encode_agenda_entry
from mpisa.primitives.staking_parameters import MILLION
from mpisa.primitives.state_keys import Claim, agenda_key, offence_key, validator_key


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


@dataclass(frozen=True, slots=True)
class Punishment:
    """What an offence led to: `burned` of the operator's stake, and for a jailed one when it may come back (else 0)."""

    offence: Offence
    operator: Address
    burned: int
    jailed_until_ms: int


def apply_offences(state: WritableState, offences: Sequence[Offence], rules: Rules) -> tuple[Punishment, ...]:
    """Punish what isn't punished yet and still counts, in the order given.

    A validator is slashed once for an epoch, and jailed once, however many offences show it: a key that runs twice by
    mistake signs twice in every round.
    """
    punishments = []
    for offence in offences:
        operator = _charged(state, offence, rules)
        if operator is None:
            continue
        key = offence_key(operator, offence.epoch, offence.kind in PUNISHABLE)
        if state.value(key) is not None:
            continue
        state.put_value(key, codec.encode((offence.kind.value, offence.position, offence.digest)))
        if offence.epoch != rules.context.epoch:
            append_entry(state, Forget(due_ms(rules), key))
        punish = _slash if offence.kind in PUNISHABLE else _jail
        punishments.append(punish(state, offence, read_registration(state.value, operator), rules))
    return tuple(punishments)


def _charged(state: WritableState, offence: Offence, rules: Rules) -> Address | None:
    """The operator that answers for an offence; None where it is too old, or its stake is gone."""
    current = rules.context.epoch
    if offence.epoch > current:
        return None
    if offence.epoch == current:
        if state.value(validator_key(offence.address)) is None:
            return None
    else:
        closed_ms = read_closed(state.value, offence.epoch)
        if closed_ms is None or rules.context.time_ms > closed_ms + rules.parameters.staking.unbonding_ms:
            return None
    return read_claim(state.value, Claim.CERTIFICATE, offence.address)


def _slash(state: WritableState, offence: Offence, before: Registration, rules: Rules) -> Punishment:
    part = rules.parameters.staking.slash_ppm
    burned = 0
    for number in before.returns:
        entry = read_agenda_entry(state.value, number)
        if isinstance(entry, Return) and entry.last_epoch >= offence.epoch:
            cut = _cut(entry.amount, part)
            burned += cut
            state.put_value(agenda_key(number), encode_agenda_entry(replace(entry, amount=entry.amount - cut)))
    bonded, waiting = _cut(before.bonded, part), _cut(before.waiting, part)
    after = replace(before, bonded=before.bonded - bonded, waiting=before.waiting - waiting)
    put_registration(state, before, after)
    if after.is_seated:
        apply_departure(state, after, rules)
    return Punishment(offence, before.operator, burned + bonded + waiting, 0)


def _jail(state: WritableState, offence: Offence, before: Registration, rules: Rules) -> Punishment:
    if not before.is_seated:
        return Punishment(offence, before.operator, 0, 0)
    until_ms = rules.context.time_ms + rules.parameters.staking.jail_ms
    put_registration(state, before, replace(before, jailed_until_ms=until_ms))
    set_pending(state)
    return Punishment(offence, before.operator, 0, until_ms)


def _cut(amount: int, part_ppm: int) -> int:
    """The part of an amount, rounded up: the least stake feels it too."""
    return -(-amount * part_ppm // MILLION)
