"""Keys of accounts and authorities: three schemes behind one small interface.

Ed25519 signs vertices and is the usual account key; secp256k1 signs headers, since an EVM contract can check it, and
lets EVM users keep their keys; ML-DSA-65 (FIPS 204) is for accounts that must outlive quantum computers. A private key
is always a seed of 32 bytes, which the caller supplies.

What gets signed is never a bare digest: `signing_message` puts the domain tag and the chain hash before it.
"""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey

from mpisa.primitives import ed25519, secp256k1
from mpisa.primitives.digest import tag_prefix, tagged
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.identifiers import ADDRESS_BYTES, Address

SEED_BYTES: Final = 32
ML_DSA_65_KEY_BYTES: Final = 1952
ML_DSA_65_SIGNATURE_BYTES: Final = 3309


class KeyKind(StrEnum):
    """The signature scheme of a key."""

    ED25519 = "ed25519"
    SECP256K1 = "secp256k1"
    ML_DSA_65 = "ml-dsa-65"


KIND_BYTES: Final = {KeyKind.ED25519: 1, KeyKind.SECP256K1: 2, KeyKind.ML_DSA_65: 3}
KEY_BYTES: Final = {
    KeyKind.ED25519: ed25519.KEY_BYTES,
    KeyKind.SECP256K1: secp256k1.KEY_BYTES,
    KeyKind.ML_DSA_65: ML_DSA_65_KEY_BYTES,
}
SIGNATURE_BYTES: Final = {
    KeyKind.ED25519: ed25519.SIGNATURE_BYTES,
    KeyKind.SECP256K1: secp256k1.SIGNATURE_BYTES,
    KeyKind.ML_DSA_65: ML_DSA_65_SIGNATURE_BYTES,
}
MAX_SIGNATURE_BYTES: Final = max(SIGNATURE_BYTES.values())
MAX_PUBLIC_KEY_BYTES: Final = 1 + max(KEY_BYTES.values())
_KIND_OF_BYTE: Final = {byte: kind for kind, byte in KIND_BYTES.items()}


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A scheme and its key bytes: 32 (Ed25519), 33 (secp256k1, compressed) or 1952 (ML-DSA-65)."""

    kind: KeyKind
    data: bytes

    def encode(self) -> bytes:
        """The kind byte (1, 2, 3) and the key."""
        return bytes((KIND_BYTES[self.kind],)) + self.data

    @classmethod
    def decode(cls, raw: bytes) -> "PublicKey":
        """From `encode`'s form. Raises Rejection(BAD_KEY) for a misshapen key, or one that would accept any message.

        An Ed25519 key that is no point passes, since finding out costs half a verification: it verifies nothing.
        """
        kind = _KIND_OF_BYTE.get(raw[0]) if raw else None
        if kind is None:
            raise _bad_key(f"expected a kind byte of 1 to {len(_KIND_OF_BYTE)}, got {raw[:1].hex() or 'nothing'}")
        data = bytes(raw[1:])
        if len(data) != KEY_BYTES[kind]:
            raise _bad_key(f"{kind.value}: expected {KEY_BYTES[kind]} bytes, got {len(data)}")
        if kind is KeyKind.ED25519 and not ed25519.is_canonical_key(data):
            raise _bad_key("ed25519: not the canonical encoding of a point, or of small order")
        if kind is KeyKind.SECP256K1 and not secp256k1.is_valid_key(data):
            raise _bad_key("secp256k1: not the compressed form of a point")
        return cls(kind, data)

    @property
    def address(self) -> Address:
        """The account address: that of the EVM for secp256k1, else the head of a tagged hash of kind and key."""
        if self.kind is KeyKind.SECP256K1:
            return secp256k1.address_of(self.data)
        return Address(tagged("address", self.encode())[:ADDRESS_BYTES])

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Whether the signature is this key's over the message; False, never an error, for anything misshapen."""
        if len(signature) != SIGNATURE_BYTES[self.kind]:
            return False
        match self.kind:
            case KeyKind.ED25519:
                return ed25519.verify(self.data, message, signature)
            case KeyKind.SECP256K1:
                return secp256k1.verify_digest(self.data, hashlib.sha256(message).digest(), signature)
            case KeyKind.ML_DSA_65:
                return _verify_ml_dsa(self.data, message, signature)


class PrivateKey:
    """A scheme and a secret seed of 32 bytes. Its text never shows the seed."""

    __slots__ = ("_sign", "kind", "public_key", "seed")

    kind: KeyKind
    seed: bytes
    public_key: PublicKey
    _sign: Callable[[bytes], bytes]

    def __init__(self, kind: KeyKind, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a private key takes a seed of {SEED_BYTES} bytes, got {len(seed)}")
        self.kind = kind
        self.seed = bytes(seed)
        self.public_key = PublicKey(kind, _derive(kind, self.seed))
        self._sign = _signer(kind, self.seed)

    @property
    def address(self) -> Address:
        """The address of the account that this key opens."""
        return self.public_key.address

    def sign(self, message: bytes) -> bytes:
        """The signature over the message; deterministic but for ML-DSA-65, whose library adds hedging randomness."""
        return self._sign(hashlib.sha256(message).digest() if self.kind is KeyKind.SECP256K1 else message)

    def sign_digest(self, digest: bytes) -> bytes:
        """The EIP-2098 signature over a 32-byte digest, as headers are signed. Raises ValueError but for secp256k1."""
        if self.kind is not KeyKind.SECP256K1:
            raise ValueError(f"only secp256k1 signs digests, not {self.kind.value}")
        return self._sign(digest)

    def __repr__(self) -> str:
        return f"PrivateKey({self.kind.value}, {self.public_key.address.hex()})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PrivateKey):
            return NotImplemented
        return self.kind is other.kind and hmac.compare_digest(self.seed, other.seed)

    def __hash__(self) -> int:
        return hash(self.public_key)


def private_key(kind: KeyKind, seed: bytes) -> PrivateKey:
    """The key of a seed of 32 bytes. Raises ValueError for another length, or no secp256k1 scalar."""
    return PrivateKey(kind, seed)


def signing_message(tag: str, chain_hash: bytes, digest: bytes) -> bytes:
    """The bytes to sign for a purpose on one chain: domain tag, chain hash, digest."""
    return tag_prefix(tag) + chain_hash + digest


def _derive(kind: KeyKind, seed: bytes) -> bytes:
    match kind:
        case KeyKind.ED25519:
            return ed25519.public_key(seed)
        case KeyKind.SECP256K1:
            return secp256k1.public_key(seed)
        case KeyKind.ML_DSA_65:
            return MLDSA65PrivateKey.from_seed_bytes(seed).public_key().public_bytes_raw()


def _signer(kind: KeyKind, seed: bytes) -> Callable[[bytes], bytes]:
    match kind:
        case KeyKind.ED25519:
            return ed25519.signer(seed)
        case KeyKind.SECP256K1:
            return secp256k1.digest_signer(seed)
        case KeyKind.ML_DSA_65:
            return MLDSA65PrivateKey.from_seed_bytes(seed).sign


def _verify_ml_dsa(key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        MLDSA65PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _bad_key(detail: str) -> Rejection:
    return Rejection(RejectionReason.BAD_KEY, detail)
