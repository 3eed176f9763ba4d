"""The operations a transaction may carry, and their bytes.

Each encodes to a tuple whose first item is its code. What can be judged from the bytes alone is judged here, when an
operation is decoded or signed; what depends on the state is the ledger's rule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from mpisa.primitives import codec
from mpisa.primitives.cid import Cid
from mpisa.primitives.digest import tagged
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.identifiers import Address, ArtefactName, format_address
from mpisa.primitives.keys import (
    MAX_PUBLIC_KEY_BYTES,
    MAX_SIGNATURE_BYTES,
    PrivateKey,
    PublicKey,
    signing_message,
)
from mpisa.primitives.record import MAX_U64, ProvenanceRecord, read_optional_cid
from mpisa.primitives.validator_operations import (
    BOND,
    CHANGE_VALIDATOR,
    JOIN_VALIDATOR,
    LEAVE_VALIDATOR,
    UNBOND,
    ValidatorOperation,
    read_bond,
    read_change_validator,
    read_join_validator,
    read_leave_validator,
    read_unbond,
    validate_validator_operation,
    validator_operation_to_json,
    validator_operation_value,
)

MAX_OPERATIONS: Final = 100
MAX_NAME_LENGTH: Final = 256
MAX_OPERATION_FIELDS: Final = 7

_TRANSFER: Final = 1
_PUBLISH: Final = 2
_SET_NAME: Final = 3
_ROTATE_KEY: Final = 4
_FAUCET: Final = 5


@dataclass(frozen=True, slots=True)
class Transfer:
    """Move `amount` (smallest unit, at least 1) from the sender to another address, which need not exist yet."""

    to: Address
    amount: int


@dataclass(frozen=True, slots=True)
class Publish:
    """Put a provenance record under (subject, sender), replacing the sender's earlier record about that subject."""

    record: ProvenanceRecord


@dataclass(frozen=True, slots=True)
class SetName:
    """Let `name` point to `cid`; None removes it. The first use of an owner handle claims it for the sender."""

    name: ArtefactName
    cid: Cid | None


@dataclass(frozen=True, slots=True)
class RotateKey:
    """Replace the sender's key; `proof` is the new key's own signature, see rotate_key."""

    public_key: PublicKey
    proof: bytes


@dataclass(frozen=True, slots=True)
class Faucet:
    """Create `amount` for an address, on chains whose parameters allow it."""

    to: Address
    amount: int


Operation: TypeAlias = Transfer | Publish | SetName | RotateKey | Faucet | ValidatorOperation


def rotate_key(new_key: PrivateKey, chain_hash: bytes, sender: Address, nonce: int) -> RotateKey:
    """Build the operation that makes `new_key` the key of `sender`, for the transaction with this nonce."""
    public_key = new_key.public_key
    return RotateKey(public_key, new_key.sign(rotation_message(chain_hash, sender, nonce, public_key)))


def rotation_message(chain_hash: bytes, sender: Address, nonce: int, public_key: PublicKey) -> bytes:
    """The bytes a new key signs to show that somebody holds it."""
    digest = tagged("key-rotation", sender, nonce.to_bytes(8, "big"), public_key.encode())
    return signing_message("key-rotation", chain_hash, digest)


def operation_value(operation: Operation) -> codec.Value:
    """The operation as a codec value."""
    match operation:
        case Transfer(to, amount):
            return (_TRANSFER, to, amount)
        case Publish(record):
            return (_PUBLISH, record.to_value())
        case SetName(name, cid):
            return (_SET_NAME, str(name), None if cid is None else cid.to_bytes())
        case RotateKey(public_key, proof):
            return (_ROTATE_KEY, public_key.encode(), proof)
        case Faucet(to, amount):
            return (_FAUCET, to, amount)
        case _:
            return validator_operation_value(operation)


def read_operations(value: codec.Value) -> tuple[Operation, ...]:
    """Read a transaction's operations; raises Rejection naming the one at fault."""
    operations: list[Operation] = []
    for item in codec.expect_tuple(value, "operations", MAX_OPERATIONS):
        try:
            operations.append(_read_operation(item))
        except Rejection as rejection:
            raise _at(len(operations), rejection) from None
    return tuple(operations)


def operation_target(operation: Operation) -> tuple[object, ...]:
    """What an operation acts on: a bundle may hold one operation a target."""
    match operation:
        case Transfer(to, _):
            return (_TRANSFER, to)
        case Publish(record):
            return (_PUBLISH, record.subject)
        case SetName(name, _):
            return (_SET_NAME, name)
        case RotateKey():
            return (_ROTATE_KEY,)
        case Faucet(to, _):
            return (_FAUCET, to)
        case _:
            return (JOIN_VALIDATOR,)  # the sender's validator, whatever is done with it


def validate_operation(operation: Operation, sender: Address) -> None:
    """Raise Rejection for what is wrong whatever the state: zero amounts, transfers to oneself, a bad record."""
    match operation:
        case Transfer(to, amount):
            _validate_amount(amount)
            if to == sender:
                raise Rejection(RejectionReason.SELF_TRANSFER, "to: sender and recipient are the same account")
        case Faucet(_, amount):
            _validate_amount(amount)
        case Publish(record):
            record.validate()
        case SetName() | RotateKey():
            pass
        case _:
            validate_validator_operation(operation)


def validate_operations(operations: tuple[Operation, ...], sender: Address) -> None:
    """Raise Rejection unless there are 1 to MAX_OPERATIONS valid operations, one a target."""
    if not operations:
        raise Rejection(RejectionReason.MALFORMED, "operations: expected at least 1 item, got 0")
    if len(operations) > MAX_OPERATIONS:
        raise Rejection(
            RejectionReason.TOO_LARGE, f"operations: expected at most {MAX_OPERATIONS} items, got {len(operations)}"
        )
    seen: dict[tuple[object, ...], int] = {}
    for position, operation in enumerate(operations):
        try:
            validate_operation(operation, sender)
        except Rejection as rejection:
            raise _at(position, rejection) from None
        if len(operations) == 1:
            return
        target = operation_target(operation)
        if target in seen:
            raise Rejection(
                RejectionReason.DUPLICATE_OPERATION,
                f"operations[{position}]: acts on the same target as operations[{seen[target]}]",
            )
        seen[target] = position


def operation_to_json(operation: Operation) -> dict[str, Any]:
    """A JSON-ready form; `type` names the operation."""
    match operation:
        case Transfer(to, amount):
            return {"type": "transfer", "to": format_address(to), "amount": amount}
        case Publish(record):
            return {"type": "publish", "record": record.to_json()}
        case SetName(name, cid):
            return {"type": "set-name", "name": str(name), "cid": None if cid is None else str(cid)}
        case RotateKey(public_key, _):
            return {
                "type": "rotate-key",
                "key_kind": public_key.kind.value,
                "public_key": public_key.encode().hex(),
            }
        case Faucet(to, amount):
            return {"type": "faucet", "to": format_address(to), "amount": amount}
        case _:
            return validator_operation_to_json(operation)


def read_public_key(value: codec.Value, name: str) -> PublicKey:
    """Read a public key from its bytes; raises Rejection."""
    encoded = codec.expect_bytes(value, name, max_length=MAX_PUBLIC_KEY_BYTES)
    try:
        return PublicKey.decode(encoded)
    except Rejection as rejection:
        raise Rejection(rejection.reason, f"{name}: {rejection.detail}") from None


def _validate_amount(amount: int) -> None:
    if amount == 0:
        raise Rejection(RejectionReason.ZERO_AMOUNT, "amount: expected at least 1, got 0")
    if not 0 < amount <= MAX_U64:
        raise Rejection(RejectionReason.OUT_OF_RANGE, f"amount: expected 1..{MAX_U64}, got {amount}")


def _at(position: int, rejection: Rejection) -> Rejection:
    return Rejection(rejection.reason, f"operations[{position}].{rejection.detail}")


def _read_operation(value: codec.Value) -> Operation:
    fields = codec.expect_tuple(value, "fields", MAX_OPERATION_FIELDS)
    code = codec.expect_int(fields[0] if fields else None, "code", 0, 255)
    reader = _READERS.get(code)
    if reader is None:
        raise Rejection(RejectionReason.MALFORMED, f"code: expected 1 to {max(_READERS)}, got {code}")
    return reader(fields)


def _read_amount(fields: tuple[codec.Value, ...]) -> tuple[Address, int]:
    _, to, amount = codec.expect_tuple(fields, "fields", length=3)
    return Address(codec.expect_bytes(to, "to", length=20)), codec.expect_int(amount, "amount", 0, MAX_U64)


def _read_transfer(fields: tuple[codec.Value, ...]) -> Transfer:
    return Transfer(*_read_amount(fields))


def _read_publish(fields: tuple[codec.Value, ...]) -> Publish:
    _, record = codec.expect_tuple(fields, "fields", length=2)
    return Publish(ProvenanceRecord.from_value(record))


def _read_set_name(fields: tuple[codec.Value, ...]) -> SetName:
    _, text, cid = codec.expect_tuple(fields, "fields", length=3)
    spelled = codec.expect_str(text, "name", MAX_NAME_LENGTH)
    name = ArtefactName.parse(spelled)
    if str(name) != spelled:
        raise Rejection(RejectionReason.BAD_NAME, f"name: expected {str(name)!r}, got {spelled!r}")
    return SetName(name, read_optional_cid(cid, "cid"))


def _read_rotate_key(fields: tuple[codec.Value, ...]) -> RotateKey:
    _, key, proof = codec.expect_tuple(fields, "fields", length=3)
    return RotateKey(
        read_public_key(key, "public_key"), codec.expect_bytes(proof, "proof", max_length=MAX_SIGNATURE_BYTES)
    )


def _read_faucet(fields: tuple[codec.Value, ...]) -> Faucet:
    return Faucet(*_read_amount(fields))


_READERS: Final[dict[int, Callable[[tuple[codec.Value, ...]], Operation]]] = {
    _TRANSFER: _read_transfer,
    _PUBLISH: _read_publish,
    _SET_NAME: _read_set_name,
    _ROTATE_KEY: _read_rotate_key,
    _FAUCET: _read_faucet,
    JOIN_VALIDATOR: read_join_validator,
    LEAVE_VALIDATOR: read_leave_validator,
    BOND: read_bond,
    UNBOND: read_unbond,
    CHANGE_VALIDATOR: read_change_validator,
}
