"""A block's state, and the accounts kept from one block to the next."""

from __future__ import annotations

import pytest

from mpisa.ledger.state import BlockState, KeptAccounts
from mpisa.primitives.account import Account
from mpisa.primitives.errors import IntegrityError
from mpisa.primitives.identifiers import Address
from mpisa.primitives.state_keys import account_key

ALICE, BOB = Address(b"a" * 20), Address(b"b" * 20)


def test_what_a_block_wrote_the_next_does_not_decode() -> None:
    kept = KeptAccounts()
    first = BlockState({}, kept)
    account = Account(ALICE, None, 1, 5)
    first.put_account(account)
    stored = {key: value for key, value in first.changes() if value is not None}
    assert stored == {account_key(ALICE): account.encode()}
    assert BlockState(stored, kept).account(ALICE) is account
    assert BlockState(stored).account(ALICE) == account


def test_other_bytes_or_another_address_are_decoded() -> None:
    kept = KeptAccounts()
    rich, poor = Account(ALICE, None, 1, 5), Account(ALICE, None, 1, 4)
    kept.put(rich, rich.encode())
    assert BlockState({account_key(ALICE): poor.encode()}, kept).account(ALICE) == poor
    assert BlockState({account_key(BOB): rich.encode()}, kept).account(BOB) == Account(BOB, None, 1, 5)
    with pytest.raises(IntegrityError, match="the state is damaged: account 0x"):
        BlockState({account_key(ALICE): b"?"}, kept).account(ALICE)


def test_the_bound_holds() -> None:
    kept = KeptAccounts(bound=8)
    for nonce in range(100):
        account = Account(ALICE, None, nonce, 0)
        kept.put(account, account.encode())
        assert kept.get(ALICE, account.encode()) is account
    assert len(kept) <= 8
