"""The operations by which an account runs a validator: join, leave, bond, unbond, change keys.

They act on the sender's own validator (an account has one at most), so they name none, and a bundle holds one of them.
What is judged here needs the bytes alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from mpisa.primitives import codec
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.identifiers import Address, format_address
from mpisa.primitives.keys import MAX_SIGNATURE_BYTES, ML_DSA_65_KEY_BYTES, PrivateKey
from mpisa.primitives.possession import KeyRole, NewKey, prove_possession
from mpisa.primitives.record import MAX_U64
from mpisa.primitives.validator_record import MAX_PEER_ID_LENGTH, MAX_VALIDATOR_NAME_LENGTH

JOIN_VALIDATOR: Final = 6
LEAVE_VALIDATOR: Final = 7
BOND: Final = 8
UNBOND: Final = 9
CHANGE_VALIDATOR: Final = 10


@dataclass(frozen=True, slots=True)
class JoinValidator:
    """Make the sender's validator one of the next epoch's: `stake` is bonded from its balance.

    `certificate.key` is the address of the certificate key. A jailed validator comes back in the same way, with what it
    has bonded already counted, so that `stake` may be 0.
    """

    name: str
    peer_id: str
    stake: int
    consensus: NewKey
    certificate: NewKey
    post_quantum: NewKey | None = None


@dataclass(frozen=True, slots=True)
class LeaveValidator:
    """Take the sender's validator out of the next epoch; its stake comes back an unbonding period after that."""


@dataclass(frozen=True, slots=True)
class Bond:
    """Add to the stake of the sender's validator: its power grows with the next epoch."""

    amount: int


@dataclass(frozen=True, slots=True)
class Unbond:
    """Take of its stake: its power falls with the next epoch, and the amount comes back an unbonding period later."""

    amount: int


@dataclass(frozen=True, slots=True)
class ChangeValidator:
    """Other keys or another peer id from the next epoch on; None leaves what is there, at least one isn't None.

    `post_quantum` with an empty key and proof takes that key away.
    """

    consensus: NewKey | None = None
    certificate: NewKey | None = None
    post_quantum: NewKey | None = None
    peer_id: str | None = None


ValidatorOperation: TypeAlias = JoinValidator | LeaveValidator | Bond | Unbond | ChangeValidator
NO_KEY: Final = NewKey(b"", b"")


@dataclass(frozen=True, slots=True, repr=False)
class ValidatorKeys:
    """The private keys to register or to change to; None where there is none."""

    consensus: PrivateKey | None = None
    certificate: PrivateKey | None = None
    post_quantum: PrivateKey | None = None

    def prove(
        self, chain_hash: bytes, operator: Address, nonce: int
    ) -> tuple[NewKey | None, NewKey | None, NewKey | None]:
        """(consensus, certificate, post-quantum), each with its proof for the transaction with this nonce."""
        keys = (self.consensus, self.certificate, self.post_quantum)
        consensus, certificate, post_quantum = (
            None if key is None else prove_possession(key, role, chain_hash, operator, nonce)
            for key, role in zip(keys, KeyRole, strict=True)
        )
        return consensus, certificate, post_quantum


def join_validator(
    keys: ValidatorKeys, chain_hash: bytes, operator: Address, nonce: int, *, name: str, peer_id: str, stake: int
) -> JoinValidator:
    """The operation that registers these keys, both required ones given, for the transaction with this nonce."""
    consensus, certificate, post_quantum = keys.prove(chain_hash, operator, nonce)
    assert consensus is not None
    assert certificate is not None
    return JoinValidator(name, peer_id, stake, consensus, certificate, post_quantum)


def change_validator(
    keys: ValidatorKeys, chain_hash: bytes, operator: Address, nonce: int, *, peer_id: str | None = None
) -> ChangeValidator:
    """The operation that changes to those of these keys that are given, for the transaction with this nonce."""
    return ChangeValidator(*keys.prove(chain_hash, operator, nonce), peer_id)


def validate_validator_operation(operation: ValidatorOperation) -> None:
    """Raise Rejection for what is wrong whatever the state."""
    match operation:
        case JoinValidator():
            _validate_text(operation.name, "name", MAX_VALIDATOR_NAME_LENGTH)
            _validate_text(operation.peer_id, "peer_id", MAX_PEER_ID_LENGTH)
            operation.consensus.validate(KeyRole.CONSENSUS)
            operation.certificate.validate(KeyRole.CERTIFICATE)
            if operation.post_quantum is not None:
                operation.post_quantum.validate(KeyRole.POST_QUANTUM)
        case ChangeValidator():
            _validate_change(operation)
        case Bond(amount) | Unbond(amount):
            if amount == 0:
                raise Rejection(RejectionReason.ZERO_AMOUNT, "amount: expected at least 1, got 0")
        case LeaveValidator():
            pass


def _validate_change(operation: ChangeValidator) -> None:
    if operation == ChangeValidator():
        raise Rejection(RejectionReason.MALFORMED, "change-validator: expected at least one key or a peer id, got none")
    if operation.consensus is not None:
        operation.consensus.validate(KeyRole.CONSENSUS)
    if operation.certificate is not None:
        operation.certificate.validate(KeyRole.CERTIFICATE)
    if operation.post_quantum is not None and operation.post_quantum != NO_KEY:
        operation.post_quantum.validate(KeyRole.POST_QUANTUM)
    if operation.peer_id is not None:
        _validate_text(operation.peer_id, "peer_id", MAX_PEER_ID_LENGTH)


def validator_operation_value(operation: ValidatorOperation) -> codec.Value:
    """The operation as a codec value."""
    match operation:
        case JoinValidator(name, peer_id, stake, consensus, certificate, post_quantum):
            keys = (_key_value(consensus), _key_value(certificate), _key_value(post_quantum))
            return (JOIN_VALIDATOR, name, peer_id, stake, *keys)
        case LeaveValidator():
            return (LEAVE_VALIDATOR,)
        case Bond(amount):
            return (BOND, amount)
        case Unbond(amount):
            return (UNBOND, amount)
        case ChangeValidator(consensus, certificate, post_quantum, peer_id):
            return (
                CHANGE_VALIDATOR,
                _key_value(consensus),
                _key_value(certificate),
                _key_value(post_quantum),
                peer_id,
            )


def validator_operation_to_json(operation: ValidatorOperation) -> dict[str, Any]:
    """A JSON-ready form; `type` names the operation. Keys are hex, the certificate key its address; proofs stay out."""
    match operation:
        case JoinValidator(name, peer_id, stake):
            return {"type": "join-validator", "name": name, "stake": stake} | _keys_to_json(operation, peer_id)
        case LeaveValidator():
            return {"type": "leave-validator"}
        case Bond(amount):
            return {"type": "bond", "amount": amount}
        case Unbond(amount):
            return {"type": "unbond", "amount": amount}
        case ChangeValidator():
            return {"type": "change-validator"} | _keys_to_json(operation, operation.peer_id)


def read_join_validator(fields: tuple[codec.Value, ...]) -> JoinValidator:
    """Read the fields of an operation of this code; raises Rejection."""
    _, name, peer_id, stake, consensus, certificate, post_quantum = codec.expect_tuple(fields, "fields", length=7)
    return JoinValidator(
        codec.expect_str(name, "name", MAX_VALIDATOR_NAME_LENGTH),
        codec.expect_str(peer_id, "peer_id", MAX_PEER_ID_LENGTH),
        codec.expect_int(stake, "stake", 0, MAX_U64),
        _read_key(consensus, KeyRole.CONSENSUS),
        _read_key(certificate, KeyRole.CERTIFICATE),
        _read_optional_key(post_quantum, KeyRole.POST_QUANTUM),
    )


def read_leave_validator(fields: tuple[codec.Value, ...]) -> LeaveValidator:
    """Read the fields of an operation of this code; raises Rejection."""
    codec.expect_tuple(fields, "fields", length=1)
    return LeaveValidator()


def read_bond(fields: tuple[codec.Value, ...]) -> Bond:
    """Read the fields of an operation of this code; raises Rejection."""
    return Bond(_read_amount(fields))


def read_unbond(fields: tuple[codec.Value, ...]) -> Unbond:
    """Read the fields of an operation of this code; raises Rejection."""
    return Unbond(_read_amount(fields))


def read_change_validator(fields: tuple[codec.Value, ...]) -> ChangeValidator:
    """Read the fields of an operation of this code; raises Rejection."""
    _, consensus, certificate, post_quantum, peer_id = codec.expect_tuple(fields, "fields", length=5)
    return ChangeValidator(
        _read_optional_key(consensus, KeyRole.CONSENSUS),
        _read_optional_key(certificate, KeyRole.CERTIFICATE),
        _read_optional_key(post_quantum, KeyRole.POST_QUANTUM),
        None if peer_id is None else codec.expect_str(peer_id, "peer_id", MAX_PEER_ID_LENGTH),
    )


def _read_amount(fields: tuple[codec.Value, ...]) -> int:
    _, amount = codec.expect_tuple(fields, "fields", length=2)
    return codec.expect_int(amount, "amount", 0, MAX_U64)


def _key_value(key: NewKey | None) -> codec.Value:
    return None if key is None else (key.key, key.proof)


def _read_optional_key(value: codec.Value, role: KeyRole) -> NewKey | None:
    return None if value is None else _read_key(value, role)


def _read_key(value: codec.Value, role: KeyRole) -> NewKey:
    key, proof = codec.expect_tuple(value, role.label, length=2)
    return NewKey(
        codec.expect_bytes(key, role.label, max_length=ML_DSA_65_KEY_BYTES),
        codec.expect_bytes(proof, f"{role.label} proof", max_length=MAX_SIGNATURE_BYTES),
    )


def _keys_to_json(operation: JoinValidator | ChangeValidator, peer_id: str | None) -> dict[str, Any]:
    consensus, certificate, post_quantum = operation.consensus, operation.certificate, operation.post_quantum
    return {
        "address": None if certificate is None else format_address(certificate.key),
        "consensus_key": None if consensus is None else consensus.key.hex(),
        "post_quantum_key": None if post_quantum is None else post_quantum.key.hex(),
        "peer_id": peer_id,
    }


def _validate_text(text: str, name: str, limit: int) -> None:
    # What isn't printable may have no bytes (lone surrogates) or move a terminal's cursor.
    if not text or len(text) > limit or not text.isprintable():
        raise Rejection(
            RejectionReason.MALFORMED, f"{name}: expected 1 to {limit} printable characters, got {text!r:.40}"
        )
