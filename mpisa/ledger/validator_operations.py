"""What the validator operations do (docs/protocol.md, section 15): each changes the sender's registration at once.

The set itself changes when the epoch ends. A validator's keys, name and peer id are nobody else's, and every key shows
that the sender holds it. The next set always keeps somebody: the last who would be in it can't leave.
"""

from __future__ import annotations

from dataclasses import replace

from mpisa.ledger.accounts import apply_debit
from mpisa.ledger.leaving import apply_departure, free_address
from mpisa.ledger.rules import Rules
from mpisa.ledger.staking import (
    put_claim,
    put_registration,
    read_claim,
    read_epoch,
    read_registration,
    set_pending,
)
from mpisa.ledger.state import Staged
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.header import MAX_VALIDATORS
from mpisa.primitives.identifiers import Address, format_address
from mpisa.primitives.possession import KeyProof, KeyRole, NewKey, Possession, is_possessed
from mpisa.primitives.record import MAX_U64
from mpisa.primitives.staking import MAX_RETURNS, Registration, claims_of
from mpisa.primitives.state_keys import Claim
from mpisa.primitives.transaction import Transaction
from mpisa.primitives.validator_operations import (
    NO_KEY,
    Bond,
    ChangeValidator,
    JoinValidator,
    LeaveValidator,
    Unbond,
    ValidatorOperation,
)
from mpisa.primitives.validator_record import MAX_POWER, ValidatorRecord


def apply_validator_operation(
    staged: Staged, operation: ValidatorOperation, transaction: Transaction, rules: Rules
) -> None:
    """Apply one of them for the transaction's sender. Raises Rejection."""
    match operation:
        case JoinValidator():
            apply_join(staged, operation, transaction, rules)
        case LeaveValidator():
            apply_leave(staged, transaction.sender, rules)
        case Bond():
            apply_bond(staged, operation, transaction.sender, rules)
        case Unbond():
            apply_unbond(staged, operation, transaction.sender, rules)
        case ChangeValidator():
            apply_change(staged, operation, transaction)


def apply_join(staged: Staged, operation: JoinValidator, transaction: Transaction, rules: Rules) -> None:
    """Register a validator, or bring a jailed one back."""
    before = read_registration(staged.value, transaction.sender)
    _validate_may_join(staged, before, rules)
    possession = Possession(
        _prove(operation.consensus, KeyRole.CONSENSUS, "join-validator", transaction),
        _prove(operation.certificate, KeyRole.CERTIFICATE, "join-validator", transaction),
        _prove(operation.post_quantum, KeyRole.POST_QUANTUM, "join-validator", transaction),
    )
    bonded = before.bonded + operation.stake
    power = _validate_stake("join-validator: stake", operation.stake, bonded, rules)
    record = ValidatorRecord(
        name=operation.name,
        address=Address(operation.certificate.key),
        power=power,
        consensus_key=operation.consensus.key,
        peer_id=operation.peer_id,
        proof=possession.encode(),
        operator=transaction.sender,
        post_quantum_key=b"" if operation.post_quantum is None else operation.post_quantum.key,
    )
    if operation.stake:
        apply_debit(staged, transaction.sender, operation.stake, "join-validator")
    _move_claims(staged, before, record)
    _put_changed(staged, before, replace(before, record=record, bonded=bonded, jailed_until_ms=0), "join-validator")


def apply_leave(staged: Staged, sender: Address, rules: Rules) -> None:
    """Take the sender's validator out with the epoch's end, its stake after it."""
    registration, _ = _staying(staged, sender, "leave-validator")
    if registration.is_electable and read_epoch(staged.value).electable == 1:
        raise Rejection(
            RejectionReason.LAST_VALIDATOR,
            f"leave-validator: {format_address(sender)} runs the only validator of the next set, "
            "which can't be empty; leave when another has joined",
        )
    apply_departure(staged, registration, rules)


def apply_bond(staged: Staged, operation: Bond, sender: Address, rules: Rules) -> None:
    """Move an amount from the balance to the stake."""
    before, record = _staying(staged, sender, "bond")
    bonded = before.bonded + operation.amount
    power = _validate_stake("bond: amount", operation.amount, bonded, rules)
    apply_debit(staged, sender, operation.amount, "bond")
    put_registration(staged, before, replace(before, record=replace(record, power=power), bonded=bonded))
    set_pending(staged)


def apply_unbond(staged: Staged, operation: Unbond, sender: Address, rules: Rules) -> None:
    """Let an amount of the stake wait for the epoch's end, and then for an unbonding period."""
    before, record = _staying(staged, sender, "unbond")
    if operation.amount > before.bonded:
        raise Rejection(
            RejectionReason.INSUFFICIENT_STAKE,
            f"unbond: {operation.amount} is more than the stake of {before.bonded}",
        )
    _validate_returns(before, "unbond")
    bonded = before.bonded - operation.amount
    power = _validate_stake("unbond: amount", operation.amount, bonded, rules)
    after = replace(
        before, record=replace(record, power=power), bonded=bonded, waiting=before.waiting + operation.amount
    )
    put_registration(staged, before, after)
    set_pending(staged)


def apply_change(staged: Staged, operation: ChangeValidator, transaction: Transaction) -> None:
    """Replace keys or peer id from the next epoch on."""
    before, record = _staying(staged, transaction.sender, "change-validator")
    changed = _changed_record(record, operation, transaction)
    if replace(changed, proof=record.proof) == record:
        raise Rejection(RejectionReason.KEY_MISMATCH, "change-validator: the keys are those that are registered")
    _move_claims(staged, before, changed)
    _put_changed(staged, before, replace(before, record=changed), "change-validator")


def _put_changed(staged: Staged, before: Registration, after: Registration, what: str) -> None:
    """Put a registration whose validator may have another address: the one before stays charged, if it was in a set."""
    assert after.record is not None
    if before.record is not None and before.record.address != after.record.address:
        _validate_returns(before, what)  # the address before becomes free with an entry of its own
        free_address(staged, after, before.record.address)
    put_registration(staged, before, after)
    set_pending(staged)


def _changed_record(record: ValidatorRecord, operation: ChangeValidator, transaction: Transaction) -> ValidatorRecord:
    possession = Possession.decode(record.proof)
    if operation.consensus is not None:
        proof = _prove(operation.consensus, KeyRole.CONSENSUS, "change-validator", transaction)
        possession = replace(possession, consensus=proof)
        record = replace(record, consensus_key=operation.consensus.key)
    if operation.certificate is not None:
        proof = _prove(operation.certificate, KeyRole.CERTIFICATE, "change-validator", transaction)
        possession = replace(possession, certificate=proof)
        record = replace(record, address=Address(operation.certificate.key))
    if operation.post_quantum == NO_KEY:
        possession = replace(possession, post_quantum=None)
        record = replace(record, post_quantum_key=b"")
    elif operation.post_quantum is not None:
        proof = _prove(operation.post_quantum, KeyRole.POST_QUANTUM, "change-validator", transaction)
        possession = replace(possession, post_quantum=proof)
        record = replace(record, post_quantum_key=operation.post_quantum.key)
    if operation.peer_id is not None:
        record = replace(record, peer_id=operation.peer_id)
    return replace(record, proof=possession.encode())


def _validate_may_join(staged: Staged, registration: Registration, rules: Rules) -> None:
    operator = format_address(registration.operator)
    if registration.leaving:
        raise _is_leaving(registration.operator, "join-validator")
    if registration.record is not None and not registration.jailed_until_ms:
        raise Rejection(
            RejectionReason.ALREADY_VALIDATOR, f"join-validator: {operator} runs {registration.record.name} already"
        )
    if registration.jailed_until_ms > rules.context.time_ms:
        raise Rejection(
            RejectionReason.VALIDATOR_JAILED,
            f"join-validator: {operator} may come back at {registration.jailed_until_ms}, "
            f"the chain's time is {rules.context.time_ms}",
        )
    _validate_returns(registration, "join-validator")
    if registration.record is None and read_epoch(staged.value).seated >= MAX_VALIDATORS:
        raise Rejection(RejectionReason.VALIDATOR_SET_FULL, f"join-validator: all {MAX_VALIDATORS} places are taken")


def _staying(staged: Staged, sender: Address, what: str) -> tuple[Registration, ValidatorRecord]:
    """The sender's registration, which isn't leaving. Raises Rejection(NOT_VALIDATOR or VALIDATOR_LEAVING)."""
    registration = read_registration(staged.value, sender)
    if registration.record is None:
        raise Rejection(RejectionReason.NOT_VALIDATOR, f"{what}: {format_address(sender)} runs no validator")
    if registration.leaving:
        raise _is_leaving(sender, what)
    return registration, registration.record


def _is_leaving(sender: Address, what: str) -> Rejection:
    return Rejection(
        RejectionReason.VALIDATOR_LEAVING,
        f"{what}: the validator of {format_address(sender)} leaves when this epoch ends",
    )


def _validate_returns(registration: Registration, what: str) -> None:
    if len(registration.returns) >= MAX_RETURNS:
        raise Rejection(
            RejectionReason.TOO_MANY_RETURNS,
            f"{what}: expected fewer than {MAX_RETURNS} amounts on their way back, got {len(registration.returns)}",
        )


def _validate_stake(what: str, amount: int, bonded: int, rules: Rules) -> int:
    """The power that `bonded` gives once `amount` has come or gone. Raises Rejection."""
    staking = rules.parameters.staking
    if amount % staking.power_unit:
        raise Rejection(
            RejectionReason.STAKE_NOT_WHOLE, f"{what}: expected a multiple of {staking.power_unit}, got {amount}"
        )
    if bonded < staking.minimum_stake:
        raise Rejection(
            RejectionReason.STAKE_TOO_LOW, f"{what}: expected a stake of at least {staking.minimum_stake}, got {bonded}"
        )
    power = bonded // staking.power_unit
    if power > MAX_POWER or bonded > MAX_U64:
        raise Rejection(
            RejectionReason.POWER_TOO_HIGH,
            f"{what}: expected a power up to {MAX_POWER} and a stake up to {MAX_U64}, got {power} and {bonded}",
        )
    return power


def _prove(new: NewKey | None, role: KeyRole, what: str, transaction: Transaction) -> KeyProof | None:
    if new is None:
        return None
    chain_hash, sender, nonce = transaction.chain_hash, transaction.sender, transaction.nonce
    if not is_possessed(role, new.key, new.proof, chain_hash, sender, nonce):
        raise Rejection(
            RejectionReason.BAD_POSSESSION,
            f"{what}: the proof isn't the {role.label}'s signature for this transaction",
        )
    return KeyProof(nonce, new.proof)


def _move_claims(staged: Staged, before: Registration, record: ValidatorRecord) -> None:
    """Take what the record names, and free what the one before it named; its address stays taken where offences under
    it still count, see free_address.
    """
    wanted = claims_of(record)
    for claim, value in wanted:
        holder = read_claim(staged.value, claim, value)
        if holder is not None and holder != before.operator:
            raise _is_taken(claim, value, holder)
    for claim, value in () if before.record is None else claims_of(before.record):
        if claim is not Claim.CERTIFICATE:
            put_claim(staged, claim, value, None)
    for claim, value in wanted:
        put_claim(staged, claim, value, before.operator)


def _is_taken(claim: Claim, value: bytes, holder: Address) -> Rejection:
    by = f"belongs to the validator of {format_address(holder)}"
    match claim:
        case Claim.NAME:
            return Rejection(RejectionReason.NAME_TAKEN, f"name: {value.decode()!r} {by}")
        case Claim.PEER:
            return Rejection(RejectionReason.PEER_IN_USE, f"peer_id: {value.decode()!r} {by}")
        case Claim.CERTIFICATE:
            return Rejection(RejectionReason.KEY_IN_USE, f"certificate key: {format_address(value)} {by}")
        case Claim.CONSENSUS:
            return Rejection(RejectionReason.KEY_IN_USE, f"consensus key: {value.hex()} {by}")
        case Claim.POST_QUANTUM:
            return Rejection(RejectionReason.KEY_IN_USE, f"post-quantum key: {value[:16].hex()}... {by}")
