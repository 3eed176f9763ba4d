"""Rules of accounts: who may sign, which nonce is next, what is burned, how balances move.

Balances are unsigned 64-bit. A credit that would overflow is refused, so that value is only ever created by the faucet
and the genesis, and only ever destroyed as fees. The key on file signs; an account without one shows the key that its
address was derived from, and that key is then on file until the account rotates it.
"""

from __future__ import annotations

from dataclasses import replace

from mpisa.ledger.rules import Rules
from mpisa.ledger.state import Staged
from mpisa.primitives.account import Account
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.genesis import ChainParameters
from mpisa.primitives.identifiers import Address, format_address
from mpisa.primitives.keys import PublicKey
from mpisa.primitives.operations import Faucet, RotateKey, Transfer, rotation_message
from mpisa.primitives.record import MAX_U64
from mpisa.primitives.transaction import Transaction


def signing_key(account: Account | None, transaction: Transaction) -> PublicKey:
    """The key that must have signed. Raises Rejection when there is none, or another than the one given."""
    given = transaction.public_key
    if account is not None and account.public_key is not None:
        if given is not None and given != account.public_key:
            raise Rejection(
                RejectionReason.KEY_MISMATCH,
                f"public_key: {format_address(transaction.sender)} has another key on file",
            )
        return account.public_key
    if given is None:
        reason = RejectionReason.UNKNOWN_ACCOUNT if account is None else RejectionReason.MISSING_KEY
        raise Rejection(
            reason,
            f"public_key: {format_address(transaction.sender)} has no key on file, so its transaction must show it",
        )
    if given.address != transaction.sender:
        raise Rejection(
            RejectionReason.KEY_MISMATCH,
            f"public_key: expected that of {format_address(transaction.sender)}, got {format_address(given.address)}'s",
        )
    return given


def validate_nonce(expected: int, transaction: Transaction) -> None:
    """Raise Rejection(REPLAYED or NONCE_GAP) unless the transaction's nonce is the expected one."""
    if transaction.nonce < expected:
        raise Rejection(RejectionReason.REPLAYED, f"nonce: expected {expected}, got {transaction.nonce}, already used")
    if transaction.nonce > expected:
        raise Rejection(
            RejectionReason.NONCE_GAP, f"nonce: expected {expected}, got {transaction.nonce}, ahead of its turn"
        )


def validate_fee(account: Account | None, transaction: Transaction, parameters: ChainParameters) -> None:
    """Raise Rejection unless the fee is at least the chain's and the account can pay it."""
    least = parameters.minimum_fee + parameters.operation_fee * len(transaction.operations)
    if transaction.fee < least:
        raise Rejection(RejectionReason.FEE_TOO_LOW, f"fee: expected at least {least}, got {transaction.fee}")
    balance = 0 if account is None else account.balance
    if transaction.fee > balance:
        raise Rejection(
            RejectionReason.INSUFFICIENT_BALANCE, f"fee: {transaction.fee} is more than the balance of {balance}"
        )


def apply_charge(account: Account | None, transaction: Transaction, key: PublicKey) -> Account:
    """The sender's account with the nonce used, the fee burned and the key on file."""
    if account is None:
        return Account(transaction.sender, key, 1, 0)
    return Account(account.address, key, account.nonce + 1, account.balance - transaction.fee, account.handles)


def apply_transfer(staged: Staged, operation: Transfer, sender: Address) -> None:
    """Move the amount. Raises Rejection when the sender has less or the recipient's balance would overflow."""
    apply_debit(staged, sender, operation.amount, "transfer")
    _credit(staged, operation.to, operation.amount)


def apply_debit(staged: Staged, address: Address, amount: int, what: str) -> None:
    """Take the amount from an existing account. Raises Rejection(INSUFFICIENT_BALANCE)."""
    account = staged.existing_account(address)
    if account.balance < amount:
        raise Rejection(
            RejectionReason.INSUFFICIENT_BALANCE, f"{what}: {amount} is more than the balance of {account.balance}"
        )
    staged.put_account(Account(address, account.public_key, account.nonce, account.balance - amount, account.handles))


def apply_faucet(staged: Staged, operation: Faucet, rules: Rules) -> None:
    """Create the amount. Raises Rejection where the chain has no faucet or allows less an operation."""
    limit = rules.parameters.faucet_limit
    if limit == 0:
        raise Rejection(RejectionReason.FAUCET_DISABLED, "faucet: this chain has none")
    if operation.amount > limit:
        raise Rejection(
            RejectionReason.FAUCET_LIMIT, f"faucet: expected at most {limit} an operation, got {operation.amount}"
        )
    _credit(staged, operation.to, operation.amount)


def apply_rotation(staged: Staged, operation: RotateKey, transaction: Transaction) -> None:
    """Put the new key on file. Raises Rejection unless its proof was made by that key for this very transaction."""
    account = staged.existing_account(transaction.sender)
    if operation.public_key == account.public_key:
        raise Rejection(RejectionReason.KEY_MISMATCH, "rotate-key: the new key is the one on file")
    message = rotation_message(transaction.chain_hash, transaction.sender, transaction.nonce, operation.public_key)
    if not operation.public_key.verify(message, operation.proof):
        raise Rejection(
            RejectionReason.BAD_SIGNATURE, "rotate-key: the proof isn't the new key's signature for this transaction"
        )
    staged.put_account(replace(account, public_key=operation.public_key))


def _credit(staged: Staged, address: Address, amount: int) -> None:
    account = staged.account(address)
    if account is None:
        staged.put_account(Account(address, None, 0, amount))
        return
    if account.balance > MAX_U64 - amount:
        raise Rejection(
            RejectionReason.BALANCE_OVERFLOW,
            f"{format_address(address)}: {amount} more than {account.balance} is above {MAX_U64}",
        )
    staged.put_account(Account(address, account.public_key, account.nonce, account.balance + amount, account.handles))
