"""The transition: a view of the state and ordered bytes give changes and a receipt for everything, in order.

A transaction goes through four gates: its bytes (decoding), its signature (authentication), its turn (admission:
expiry, nonce, fee) and its operations. Stopped at one of the first three, it changes nothing. After them its nonce is
used and its fee burned whatever happens; its operations take effect together or not at all.

Before the transactions come the block's offences and what the agenda has due; after them, where the rule says so, the
epoch's end.

Nothing in the bytes makes this raise: what does is a damaged state (IntegrityError).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from mpisa.ledger.accounts import (
    apply_charge,
    apply_faucet,
    apply_rotation,
    apply_transfer,
    signing_key,
    validate_fee,
    validate_nonce,
)
from mpisa.ledger.agenda import settle_due
from mpisa.ledger.closing import close_epoch, is_last_block
from mpisa.ledger.names import apply_set_name
from mpisa.ledger.offences import Offence, Punishment, apply_offences
from mpisa.ledger.parameters import read_parameters
from mpisa.ledger.payload import decode_payload
from mpisa.ledger.provenance import apply_publish
from mpisa.ledger.rules import BlockContext, Rules
from mpisa.ledger.state import BlockState, Change, KeptAccounts, Staged, StateView
from mpisa.ledger.validator_operations import apply_validator_operation
from mpisa.primitives.account import Account
from mpisa.primitives.digest import tagged
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.keys import PublicKey
from mpisa.primitives.operations import Faucet, Operation, Publish, RotateKey, SetName, Transfer
from mpisa.primitives.receipt import Receipt, ReceiptStatus
from mpisa.primitives.transaction import SignedTransaction, Transaction, decode_transaction, raw_hash
from mpisa.primitives.validator_record import ValidatorRecord

__all__ = [
    "BlockContext",
    "BlockResult",
    "SignatureCheck",
    "TransactionDecoder",
    "apply_transaction",
    "execute_block",
    "execute_payloads",
    "validate_admission",
    "validate_authentic",
    "verify_signature",
]

# Whether a key signed a transaction. An answer may be remembered under (sha256 of the raw bytes, key), never under the
# hash alone: the same body with another signature has the same hash.
SignatureCheck: TypeAlias = Callable[[SignedTransaction, PublicKey], bool]
# decode_transaction itself, or one that remembers what it decoded: the same value or Rejection for the same bytes.
TransactionDecoder: TypeAlias = Callable[[bytes], SignedTransaction]


@dataclass(frozen=True, slots=True)
class BlockResult:
    """What a chain block does: changes ascending by key (None removes), and `receipts[i]` for `transactions[i]`.

    Receipts of payloads that couldn't be decoded follow behind those of the transactions. With `next_validators` it is
    its epoch's last block: they are the set of the next epoch, ascending by address, which `changes` already hold.
    """

    changes: tuple[Change, ...]
    transactions: tuple[bytes, ...]
    receipts: tuple[Receipt, ...]
    next_validators: tuple[ValidatorRecord, ...] | None = None
    punishments: tuple[Punishment, ...] = ()


def verify_signature(signed: SignedTransaction, key: PublicKey) -> bool:
    """The SignatureCheck that remembers nothing."""
    return signed.verify(key)


def execute_block(
    view: StateView,
    raws: Sequence[bytes],
    context: BlockContext,
    *,
    signature_ok: SignatureCheck | None = None,
    decode: TransactionDecoder = decode_transaction,
    offences: tuple[Offence, ...] = (),
    kept: KeptAccounts | None = None,
) -> BlockResult:
    """Execute raw transactions in order on top of `view`, offences before them, the epoch's end after them.

    Raises IntegrityError for a damaged state only.
    """
    rules = Rules(context, read_parameters(view))
    state = BlockState(view, kept)
    check = verify_signature if signature_ok is None else signature_ok
    punishments = apply_offences(state, offences, rules)
    settle_due(state, rules)
    receipts = tuple([_execute(state, raw, rules, check, decode) for raw in raws])
    next_validators = close_epoch(state, rules) if is_last_block(state, rules) else None
    return BlockResult(state.changes(), tuple(raws), receipts, next_validators, punishments)


def execute_payloads(
    view: StateView,
    payloads: Sequence[bytes],
    context: BlockContext,
    *,
    signature_ok: SignatureCheck | None = None,
    decode: TransactionDecoder = decode_transaction,
    offences: tuple[Offence, ...] = (),
    kept: KeptAccounts | None = None,
) -> BlockResult:
    """Execute the payloads of a chain block's vertices in order; one that can't be decoded gives a receipt only."""
    raws: list[bytes] = []
    refused: list[Receipt] = []
    for payload in payloads:
        try:
            raws.extend(decode_payload(payload))
        except Rejection as rejection:
            refused.append(_rejected(tagged("payload", payload), rejection))
    result = execute_block(view, raws, context, signature_ok=signature_ok, decode=decode, offences=offences, kept=kept)
    return replace(result, receipts=(*result.receipts, *refused))


def validate_authentic(
    account: Account | None, signed: SignedTransaction, context: BlockContext, check: SignatureCheck
) -> PublicKey:
    """The key that signed. Raises Rejection for another chain's transaction, a wrong key or a false signature."""
    transaction = signed.transaction
    if transaction.chain_hash != context.chain_hash:
        raise Rejection(
            RejectionReason.WRONG_CHAIN,
            f"chain_hash: expected {context.chain_hash.hex()}, got {transaction.chain_hash.hex()}",
        )
    key = signing_key(account, transaction)
    if not check(signed, key):
        raise Rejection(RejectionReason.BAD_SIGNATURE, f"signature: not made by the sender's {key.kind.value} key")
    return key


def validate_admission(
    account: Account | None, transaction: Transaction, rules: Rules, *, expected_nonce: int | None = None
) -> None:
    """Raise Rejection unless the transaction is in time, in turn and paid for."""
    if rules.context.time_ms >= transaction.expires_ms:
        raise Rejection(
            RejectionReason.EXPIRED,
            f"expires_ms: {transaction.expires_ms} isn't after the chain's time {rules.context.time_ms}",
        )
    if expected_nonce is None:
        expected_nonce = 0 if account is None else account.nonce
    validate_nonce(expected_nonce, transaction)
    validate_fee(account, transaction, rules.parameters)


def apply_transaction(state: BlockState, signed: SignedTransaction, key: PublicKey, rules: Rules) -> None:
    """Use the nonce, burn the fee, then apply all operations or raise the Rejection of the one that failed."""
    transaction = signed.transaction
    state.put_account(apply_charge(state.account(transaction.sender), transaction, key))
    staged = Staged(state)
    for position, operation in enumerate(transaction.operations):
        try:
            _apply_operation(staged, operation, signed, rules)
        except Rejection as rejection:
            raise Rejection(rejection.reason, f"operations[{position}].{rejection.detail}") from None
    staged.commit()


def _execute(state: BlockState, raw: bytes, rules: Rules, check: SignatureCheck, decode: TransactionDecoder) -> Receipt:
    try:
        signed = decode(raw)
        account = state.account(signed.transaction.sender)
        key = validate_authentic(account, signed, rules.context, check)
    except Rejection as rejection:
        return _rejected(raw_hash(raw), rejection)
    try:
        validate_admission(account, signed.transaction, rules)
    except Rejection as rejection:
        return _rejected(signed.hash, rejection)
    fee = signed.transaction.fee
    try:
        apply_transaction(state, signed, key, rules)
    except Rejection as rejection:
        return _rejected(signed.hash, rejection, nonce_used=True, fee=fee)
    return Receipt(signed.hash, ReceiptStatus.APPLIED, nonce_used=True, fee=fee)


def _apply_operation(staged: Staged, operation: Operation, signed: SignedTransaction, rules: Rules) -> None:
    transaction = signed.transaction
    match operation:
        case Transfer():
            apply_transfer(staged, operation, transaction.sender)
        case Publish():
            apply_publish(staged, operation, transaction.sender, signed.hash, rules)
        case SetName():
            apply_set_name(staged, operation, transaction.sender, signed.hash, rules)
        case RotateKey():
            apply_rotation(staged, operation, transaction)
        case Faucet():
            apply_faucet(staged, operation, rules)
        case _:
            apply_validator_operation(staged, operation, transaction, rules)


def _rejected(tx_hash: bytes, rejection: Rejection, *, nonce_used: bool = False, fee: int = 0) -> Receipt:
    return Receipt(tx_hash, ReceiptStatus.REJECTED, rejection.reason, rejection.detail, nonce_used, fee)
