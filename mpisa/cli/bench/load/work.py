"""What the clients send: transfers of one unit between their own accounts, each with a payload of PAYLOAD_BYTES.

The payload is the transaction's memo, which every node stores, orders and certifies and none looks into: the ledger has
no operation of plain bytes, and a transfer is its cheapest one that changes two accounts. A bundle carries its payload
once. Everything is signed before the clock starts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from mpisa.primitives.digest import sha256
from mpisa.primitives.keys import KeyKind, PrivateKey, private_key
from mpisa.primitives.operations import Transfer
from mpisa.primitives.transaction import SignedTransaction, Transaction, sign_transaction

PAYLOAD_BYTES = 200
VALIDITY_MS = 3_600_000


@dataclass(slots=True)
class Account:
    """A key and the next nonce to sign with it."""

    key: PrivateKey
    nonce: int = 0
    address: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.address = self.key.public_key.address


def make_accounts(seed: bytes, count: int) -> list[Account]:
    """The accounts of one client; the same for the same seed."""
    return [Account(private_key(KeyKind.ED25519, sha256(seed, number.to_bytes(4, "big")))) for number in range(count)]


def payload(number: int) -> str:
    """PAYLOAD_BYTES characters that no other number has."""
    return f"{number:016x}".ljust(PAYLOAD_BYTES, "p")


def sign(
    accounts: list[Account], at: int, chain_hash: bytes, operations: int = 1, *, show_key: bool = False
) -> SignedTransaction:
    """The next transaction of account `at`, to the accounts behind it."""
    account = accounts[at]
    signed = sign_transaction(
        Transaction(
            chain_hash=chain_hash,
            sender=account.key.public_key.address,
            nonce=account.nonce,
            expires_ms=time.time_ns() // 1_000_000 + VALIDITY_MS,
            operations=tuple(
                Transfer(accounts[(at + 1 + step) % len(accounts)].key.public_key.address, 1)
                for step in range(operations)
            ),
            public_key=account.key.public_key if show_key else None,
            memo=payload(account.nonce),
        ),
        account.key,
    )
    account.nonce += 1
    return signed


def sign_all(accounts: list[Account], count: int, chain_hash: bytes, operations: int) -> list[SignedTransaction]:
    """`count` transactions, accounts taking turns."""
    return [sign(accounts, number % len(accounts), chain_hash, operations) for number in range(count)]
