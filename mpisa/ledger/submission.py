"""What a node can tell a submitter at once: the gates of the transition, asked against the latest executed state.

A transaction that passes may still be rejected by the time its turn comes; one that fails here would fail now. While
the sender has transactions waiting, only the gates before the operations are asked, since those may change the rest.
"""

from __future__ import annotations

from mpisa.ledger.parameters import read_parameters
from mpisa.ledger.rules import BlockContext, Rules
from mpisa.ledger.state import BlockState, StateView
from mpisa.ledger.transition import (
    SignatureCheck,
    apply_transaction,
    validate_admission,
    validate_authentic,
    verify_signature,
)
from mpisa.primitives.transaction import SignedTransaction, decode_transaction


def validate_for_submission(
    view: StateView,
    raw: bytes,
    context: BlockContext,
    *,
    pending_nonce: int | None = None,
    signature_ok: SignatureCheck | None = None,
) -> SignedTransaction:
    """The decoded transaction. Raises Rejection with the reason for which it would be rejected now.

    `pending_nonce` is the sender's next nonce behind the transactions it has waiting (None or the account's own: none
    wait). `context` is that of the next block as far as it is known: the time is the submitter's node's.
    """
    signed = decode_transaction(raw)
    rules = Rules(context, read_parameters(view))
    check = verify_signature if signature_ok is None else signature_ok
    validate_signed(BlockState(view), signed, rules, pending_nonce=pending_nonce, signature_ok=check)
    return signed


def validate_signed(
    state: BlockState,
    signed: SignedTransaction,
    rules: Rules,
    *,
    pending_nonce: int | None,
    signature_ok: SignatureCheck,
) -> None:
    """The same for a transaction that is decoded already, on a state of its own. Raises Rejection."""
    transaction = signed.transaction
    account = state.account(transaction.sender)
    key = validate_authentic(account, signed, rules.context, signature_ok)
    account_nonce = 0 if account is None else account.nonce
    expected = account_nonce if pending_nonce is None else max(pending_nonce, account_nonce)
    validate_admission(account, transaction, rules, expected_nonce=expected)
    if expected == account_nonce:
        apply_transaction(state, signed, key, rules)
