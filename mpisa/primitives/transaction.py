"""Transactions: what an account signs, and its bytes.

The body is the canonical encoding of the unsigned fields; the raw transaction is the two-item array (body, signature)
with the body's array nested, not wrapped, so that one decoding reads both. The hash covers the body alone: signing
again (ML-DSA draws randomness) gives the same hash. What is signed is the domain-tagged hash under the chain hash.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from mpisa.primitives import codec
from mpisa.primitives.digest import tagged
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.identifiers import Address, format_address
from mpisa.primitives.keys import (
    MAX_SIGNATURE_BYTES,
    PrivateKey,
    PublicKey,
    signing_message,
)
from mpisa.primitives.operations import (
    Operation,
    operation_to_json,
    operation_value,
    read_operations,
    read_public_key,
    validate_operations,
)
from mpisa.primitives.record import MAX_U64

MAX_TRANSACTION_BYTES: Final = 65_536
MAX_TRANSACTION_DEPTH: Final = 10
MAX_MEMO_BYTES: Final = 256
MAX_NONCE: Final = (1 << 63) - 1
TRANSACTION_VERSION: Final = 1

_PAIR_PREFIX: Final = b"\x92"
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Transaction:
    """One signature's worth of operations: applied together or not at all.

    `expires_ms` (Unix time in ms): applied only in chain blocks whose time is lower. `nonce` is the account's next
    unused one. `fee` is burned. `public_key` is needed until the account's key is on file.
    """

    chain_hash: bytes
    sender: Address
    nonce: int
    expires_ms: int
    operations: tuple[Operation, ...]
    fee: int = 0
    public_key: PublicKey | None = None
    memo: str | None = None

    def validate(self) -> None:
        """Raise Rejection for what is wrong whatever the state is."""
        if self.memo is not None:
            _validate_memo(self.memo)
        validate_operations(self.operations, self.sender)

    def encode_body(self) -> bytes:
        """The canonical unsigned bytes."""
        return codec.encode(
            (
                TRANSACTION_VERSION,
                self.chain_hash,
                self.sender,
                self.nonce,
                self.expires_ms,
                self.fee,
                tuple(operation_value(operation) for operation in self.operations),
                None if self.public_key is None else self.public_key.encode(),
                self.memo,
            )
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready form."""
        return {
            "chain_hash": self.chain_hash.hex(),
            "sender": format_address(self.sender),
            "nonce": self.nonce,
            "expires_ms": self.expires_ms,
            "fee": self.fee,
            "operations": [operation_to_json(operation) for operation in self.operations],
            "public_key": None if self.public_key is None else self.public_key.encode().hex(),
            "memo": self.memo,
        }


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    """A transaction with its signature, the unsigned bytes it covers, and their hash."""

    transaction: Transaction
    signature: bytes
    body: bytes
    hash: bytes

    @property
    def raw(self) -> bytes:
        """The bytes that travel."""
        return _PAIR_PREFIX + self.body + codec.encode(self.signature)

    def verify(self, public_key: PublicKey) -> bool:
        """Whether `public_key` made the signature."""
        return public_key.verify(transaction_message(self.transaction.chain_hash, self.hash), self.signature)


def transaction_hash(body: bytes) -> bytes:
    """The hash of a transaction, from its unsigned bytes."""
    return tagged("transaction", body)


def raw_hash(raw: bytes) -> bytes:
    """What a receipt names raw bytes by until they prove to be a transaction with a good signature.

    Tagged: the plain sha256 of chosen bytes can be any transaction's hash.
    """
    return tagged("raw-transaction", raw)


def transaction_message(chain_hash: bytes, digest: bytes) -> bytes:
    """The bytes that the sender's key signs, given the transaction's hash."""
    return signing_message("transaction", chain_hash, digest)


def sign_transaction(transaction: Transaction, key: PrivateKey) -> SignedTransaction:
    """Validate and sign; raises Rejection for a transaction that no node would take."""
    transaction.validate()
    body = transaction.encode_body()
    digest = transaction_hash(body)
    signature = key.sign(transaction_message(transaction.chain_hash, digest))
    signed = SignedTransaction(transaction, signature, body, digest)
    _validate_size(len(signed.raw))
    return signed


def encode_transaction(signed: SignedTransaction) -> bytes:
    """The bytes that travel; the inverse of decode_transaction."""
    return signed.raw


def decode_transaction(raw: bytes) -> SignedTransaction:
    """Decode and validate; raises Rejection. The signature is not checked here."""
    _validate_size(len(raw))
    value = codec.decode(raw, max_bytes=MAX_TRANSACTION_BYTES, max_depth=MAX_TRANSACTION_DEPTH)
    fields, signature = codec.expect_tuple(value, "transaction", length=2)
    signature_bytes = codec.expect_bytes(signature, "transaction.signature", max_length=MAX_SIGNATURE_BYTES)
    transaction = _read_body(fields)
    transaction.validate()
    # Canonical bytes: the pair's one-byte head, the body, the signature's head of 2 bytes (3 from 256 on) and content.
    signature_head = 2 if len(signature_bytes) < 256 else 3
    body = raw[len(_PAIR_PREFIX) : len(raw) - signature_head - len(signature_bytes)]
    return SignedTransaction(transaction, signature_bytes, body, transaction_hash(body))


def _read_body(value: codec.Value) -> Transaction:
    version, chain_hash, sender, nonce, expires_ms, fee, operations, public_key, memo = codec.expect_tuple(
        value, "transaction.body", length=9
    )
    if version != TRANSACTION_VERSION or version is True:
        raise Rejection(
            RejectionReason.MALFORMED, f"transaction.version: expected {TRANSACTION_VERSION}, got {version!r:.20}"
        )
    return Transaction(
        chain_hash=codec.expect_bytes(chain_hash, "transaction.chain_hash", length=32),
        sender=Address(codec.expect_bytes(sender, "transaction.sender", length=20)),
        nonce=codec.expect_int(nonce, "transaction.nonce", 0, MAX_NONCE),
        expires_ms=codec.expect_int(expires_ms, "transaction.expires_ms", 0, MAX_U64),
        operations=read_operations(operations),
        fee=codec.expect_int(fee, "transaction.fee", 0, MAX_U64),
        public_key=None if public_key is None else read_public_key(public_key, "transaction.public_key"),
        memo=None if memo is None else codec.expect_str(memo, "transaction.memo", MAX_MEMO_BYTES),
    )


def _validate_size(size: int) -> None:
    if size > MAX_TRANSACTION_BYTES:
        raise Rejection(
            RejectionReason.TOO_LARGE, f"transaction: expected at most {MAX_TRANSACTION_BYTES} bytes, got {size}"
        )


def _validate_memo(memo: str) -> None:
    size = len(memo.encode())
    if size > MAX_MEMO_BYTES:
        raise Rejection(
            RejectionReason.TOO_LARGE, f"transaction.memo: expected at most {MAX_MEMO_BYTES} bytes, got {size}"
        )
    if _CONTROL.search(memo) is not None:
        raise Rejection(RejectionReason.MALFORMED, "transaction.memo: expected no control characters")
