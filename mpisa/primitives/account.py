"""What the state keeps about accounts and names: the value bytes under account, name and owner keys."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from mpisa.primitives import codec
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.identifiers import Address, format_address
from mpisa.primitives.keys import KEY_BYTES, KIND_BYTES, MAX_PUBLIC_KEY_BYTES, PublicKey
from mpisa.primitives.record import MAX_U64, read_cid

MAX_ACCOUNT_BYTES: Final = 4_096
MAX_KEYS_REMEMBERED: Final = 4_096
MAX_NAME_ENTRY_BYTES: Final = 256
MAX_HANDLES: Final = 65_535

_KIND_OF_BYTE: Final = {byte: kind for kind, byte in KIND_BYTES.items()}


@dataclass(frozen=True, slots=True)
class Account:
    """An account: `nonce` is the next unused one, `balance` counts smallest units, `handles` the owner names held.

    `public_key` is None until the account's first transaction puts its key on file: whoever received a transfer but
    never sent anything is known by address only.
    """

    address: Address
    public_key: PublicKey | None
    nonce: int
    balance: int
    handles: int = 0

    def encode(self) -> bytes:
        """The state value under account_key(address)."""
        key = None if self.public_key is None else self.public_key.encode()
        return codec.encode((key, self.nonce, self.balance, self.handles))

    @classmethod
    def decode(cls, address: Address, data: bytes) -> Account:
        """The inverse of encode; raises Rejection."""
        key, nonce, balance, handles = codec.expect_tuple(
            codec.decode(data, max_bytes=MAX_ACCOUNT_BYTES), "account", length=4
        )
        public_key = None
        if key is not None:
            public_key = _stored_key(codec.expect_bytes(key, "account.public_key", max_length=MAX_PUBLIC_KEY_BYTES))
        return cls(
            address=address,
            public_key=public_key,
            nonce=codec.expect_int(nonce, "account.nonce", 0, MAX_U64),
            balance=codec.expect_int(balance, "account.balance", 0, MAX_U64),
            handles=codec.expect_int(handles, "account.handles", 0, MAX_HANDLES),
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready form."""
        key = self.public_key
        return {
            "address": format_address(self.address),
            "key_kind": None if key is None else key.kind.value,
            "public_key": None if key is None else key.encode().hex(),
            "nonce": self.nonce,
            "balance": self.balance,
            "handles": self.handles,
        }


@dataclass(frozen=True, slots=True)
class NameEntry:
    """What `owner/model@tag` points to, and the transaction that last set it."""

    cid: Cid
    account: Address
    height: int
    time_ms: int
    tx_hash: bytes

    def encode(self) -> bytes:
        """The state value under name_key(name)."""
        return codec.encode((self.cid.to_bytes(), self.account, self.height, self.time_ms, self.tx_hash))

    @classmethod
    def decode(cls, data: bytes) -> NameEntry:
        """The inverse of encode; raises Rejection."""
        cid, account, height, time_ms, tx_hash = codec.expect_tuple(
            codec.decode(data, max_bytes=MAX_NAME_ENTRY_BYTES), "name entry", length=5
        )
        return cls(
            cid=read_cid(cid, "name entry.cid"),
            account=Address(codec.expect_bytes(account, "name entry.account", length=20)),
            height=codec.expect_int(height, "name entry.height", 0, MAX_U64),
            time_ms=codec.expect_int(time_ms, "name entry.time_ms", 0, MAX_U64),
            tx_hash=codec.expect_bytes(tx_hash, "name entry.tx_hash", length=32),
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready form."""
        return {
            "cid": str(self.cid),
            "account": format_address(self.account),
            "height": self.height,
            "time_ms": self.time_ms,
            "tx": self.tx_hash.hex(),
        }


@dataclass(frozen=True, slots=True)
class OwnerEntry:
    """The account that holds an owner handle, and the height at which it claimed it."""

    account: Address
    height: int

    def encode(self) -> bytes:
        """The state value under owner_key(owner)."""
        return codec.encode((self.account, self.height))

    @classmethod
    def decode(cls, data: bytes) -> OwnerEntry:
        """The inverse of encode; raises Rejection."""
        account, height = codec.expect_tuple(
            codec.decode(data, max_bytes=MAX_NAME_ENTRY_BYTES), "owner entry", length=2
        )
        return cls(
            account=Address(codec.expect_bytes(account, "owner entry.account", length=20)),
            height=codec.expect_int(height, "owner entry.height", 0, MAX_U64),
        )


@lru_cache(MAX_KEYS_REMEMBERED)
def _stored_key(encoded: bytes) -> PublicKey:
    """A key from the state: what costs, whether it is a point of its curve, was checked when it was put on file."""
    kind = _KIND_OF_BYTE.get(encoded[0]) if encoded else None
    if kind is None or len(encoded) != 1 + KEY_BYTES[kind]:
        raise Rejection(RejectionReason.BAD_KEY, f"account.public_key: {len(encoded)} bytes are no key of a known kind")
    return PublicKey(kind, encoded[1:])
