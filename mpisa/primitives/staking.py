"""What the state keeps about stake: the epoch's own entry, one registration an operator, and the agenda.

The set of an epoch (see `ValidatorRecord`) doesn't change while it lasts. What operators ask for changes their
registration at once, and the next set is made from registrations when the epoch closes. The agenda holds in order what
is to be done when its time has come: stake to return, things to forget.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from mpisa.primitives import codec
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.identifiers import ADDRESS_BYTES, Address
from mpisa.primitives.state_keys import Claim
from mpisa.primitives.validator_record import MAX_RECORD_BYTES, ValidatorRecord

MAX_EPOCH_STATE_BYTES: Final = 128
MAX_REGISTRATION_BYTES: Final = MAX_RECORD_BYTES + 512
MAX_AGENDA_ENTRY_BYTES: Final = 512
MAX_STATE_KEY_BYTES: Final = 255
# An operator that has so many entries on the agenda may ask for no more; being jailed and leaving add one each.
MAX_RETURNS: Final = 16

_RETURN: Final = 1
_FORGET: Final = 2


@dataclass(frozen=True, slots=True)
class EpochState:
    """The epoch in which the next chain block is made.

    `pending`: something waits for its end. `seated` counts registrations that aren't leaving, `electable` those of
    them that aren't jailed: the size of the next set. Agenda entries are numbered from `agenda_head` to below
    `agenda_tail`; the first is due at `agenda_due_ms` (0: there is none).
    """

    epoch: int
    opened_ms: int
    pending: bool = False
    seated: int = 0
    electable: int = 0
    agenda_head: int = 0
    agenda_tail: int = 0
    agenda_due_ms: int = 0

    def encode(self) -> bytes:
        """The state value under epoch_key()."""
        return codec.encode(
            (
                self.epoch,
                self.opened_ms,
                self.pending,
                self.seated,
                self.electable,
                self.agenda_head,
                self.agenda_tail,
                self.agenda_due_ms,
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> EpochState:
        """The inverse of encode; raises Rejection."""
        epoch, opened_ms, pending, *numbers = codec.expect_tuple(
            codec.decode(data, max_bytes=MAX_EPOCH_STATE_BYTES), "epoch", length=8
        )
        return cls(
            codec.expect_int(epoch, "epoch.epoch"),
            codec.expect_int(opened_ms, "epoch.opened_ms"),
            codec.expect_bool(pending, "epoch.pending"),
            *(codec.expect_int(number, f"epoch[{place}]") for place, number in enumerate(numbers, start=3)),
        )


@dataclass(frozen=True, slots=True)
class Registration:
    """What an operator has at stake.

    `record` is its validator as the next set will have it (None: none), with the power that `bonded` gives; `active`
    is the certificate address it has in this epoch's set (empty: it isn't in it). `leaving`: out when the epoch ends.
    `jailed_until_ms`: not in the next set, and may come back from then on (0: not jailed). `waiting` is stake to be put
    on the agenda when the epoch ends, `returns` are the numbers of this operator's entries on it.
    """

    operator: Address
    record: ValidatorRecord | None = None
    bonded: int = 0
    active: bytes = b""
    leaving: bool = False
    jailed_until_ms: int = 0
    waiting: int = 0
    returns: tuple[int, ...] = ()

    @property
    def is_seated(self) -> bool:
        """Whether it keeps its place among those that can be elected."""
        return self.record is not None and not self.leaving

    @property
    def is_electable(self) -> bool:
        """Whether the next set will have it."""
        return self.is_seated and not self.jailed_until_ms

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left to remember."""
        return self.record is None and not self.waiting and not self.returns

    def encode(self) -> bytes:
        """The state value under registration_key(operator)."""
        return codec.encode(
            (
                None if self.record is None else self.record.to_value(),
                self.bonded,
                self.active,
                self.leaving,
                self.jailed_until_ms,
                self.waiting,
                self.returns,
            )
        )

    @classmethod
    def decode(cls, operator: Address, data: bytes) -> Registration:
        """The inverse of encode; raises Rejection."""
        record, bonded, active, leaving, jailed_until_ms, waiting, returns = codec.expect_tuple(
            codec.decode(data, max_bytes=MAX_REGISTRATION_BYTES), "registration", length=7
        )
        numbers = codec.expect_tuple(returns, "registration.returns", MAX_RETURNS + 2)
        return cls(
            operator=operator,
            record=None if record is None else ValidatorRecord.from_value(record),
            bonded=codec.expect_int(bonded, "registration.bonded"),
            active=codec.expect_bytes(active, "registration.active", max_length=ADDRESS_BYTES),
            leaving=codec.expect_bool(leaving, "registration.leaving"),
            jailed_until_ms=codec.expect_int(jailed_until_ms, "registration.jailed_until_ms"),
            waiting=codec.expect_int(waiting, "registration.waiting"),
            returns=tuple(codec.expect_int(number, "registration.returns") for number in numbers),
        )


@dataclass(frozen=True, slots=True)
class Return:
    """Stake that goes back to its operator when due, unless an offence of an epoch up to `last_epoch` takes of it.

    With it the certificate address `released` (empty: none) becomes free again.
    """

    due_ms: int
    operator: Address
    amount: int
    last_epoch: int
    released: bytes = b""


@dataclass(frozen=True, slots=True)
class Forget:
    """A state entry to remove when due: an offence that was punished, an epoch that nobody can be charged with."""

    due_ms: int
    key: bytes


AgendaEntry: TypeAlias = Return | Forget


def claims_of(record: ValidatorRecord) -> tuple[tuple[Claim, bytes], ...]:
    """What no other operator's validator may have at the same time."""
    claims = (
        (Claim.CERTIFICATE, record.address),
        (Claim.CONSENSUS, record.consensus_key),
        (Claim.NAME, record.name.encode()),
        (Claim.PEER, record.peer_id.encode()),
    )
    return (*claims, (Claim.POST_QUANTUM, record.post_quantum_key)) if record.post_quantum_key else claims


def encode_agenda_entry(entry: AgendaEntry) -> bytes:
    """The state value under agenda_key(number)."""
    match entry:
        case Return(due_ms, operator, amount, last_epoch, released):
            return codec.encode((_RETURN, due_ms, operator, amount, last_epoch, released))
        case Forget(due_ms, key):
            return codec.encode((_FORGET, due_ms, key))


def decode_agenda_entry(data: bytes) -> AgendaEntry:
    """The inverse of encode_agenda_entry; raises Rejection."""
    items = codec.expect_tuple(codec.decode(data, max_bytes=MAX_AGENDA_ENTRY_BYTES), "agenda entry")
    if len(items) < 2:
        raise Rejection(RejectionReason.MALFORMED, f"agenda entry: expected at least 2 items, got {len(items)}")
    kind, due, *rest = items
    due_ms = codec.expect_int(due, "agenda entry.due_ms")
    if kind == _FORGET:
        (key,) = codec.expect_tuple(tuple(rest), "agenda entry", length=1)
        return Forget(due_ms, codec.expect_bytes(key, "agenda entry.key", max_length=MAX_STATE_KEY_BYTES))
    if kind != _RETURN:
        raise Rejection(RejectionReason.MALFORMED, f"agenda entry: expected kind 1 or 2, got {kind!r:.20}")
    operator, amount, last_epoch, released = codec.expect_tuple(tuple(rest), "agenda entry", length=4)
    return Return(
        due_ms,
        Address(codec.expect_bytes(operator, "agenda entry.operator", length=ADDRESS_BYTES)),
        codec.expect_int(amount, "agenda entry.amount"),
        codec.expect_int(last_epoch, "agenda entry.last_epoch"),
        codec.expect_bytes(released, "agenda entry.released", max_length=ADDRESS_BYTES),
    )
