"""secp256k1 signatures in the form an EVM contract checks cheaply: 64 bytes of EIP-2098.

A signature is r (32 bytes) and s (32 bytes) whose top bit carries yParity. It is deterministic (RFC 6979) and low-s,
and there is exactly one such encoding of it: a high s, an r or s of zero or not below the group order are refused.
Verifying recovers the key, so that an address of 20 bytes is enough to check against.
"""

from collections.abc import Callable
from typing import Final

import coincurve

from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.identifiers import Address, keccak256

KEY_BYTES: Final = 33
SIGNATURE_BYTES: Final = 64

GROUP_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_HALF_ORDER: Final = GROUP_ORDER // 2


def public_key(seed: bytes) -> bytes:
    """The 33-byte compressed public key. Raises ValueError for a seed that is zero or not below the group order."""
    return bytes(coincurve.PrivateKey(validate_seed(seed)).public_key.format(compressed=True))


def validate_seed(seed: bytes) -> bytes:
    """The seed itself. Raises ValueError unless it is 32 bytes in 1..order-1 (all but 2^-128 of random seeds are)."""
    if len(seed) != 32 or not 0 < int.from_bytes(seed, "big") < GROUP_ORDER:
        raise ValueError("no secp256k1 private key: expected 32 bytes, not zero, below the group order")
    return seed


def is_valid_key(key: bytes) -> bool:
    """Whether these 33 bytes are the compressed form of a point."""
    if len(key) != KEY_BYTES or key[0] not in (2, 3):
        return False
    try:
        coincurve.PublicKey(key)
    except ValueError:
        return False
    return True


def address_of(key: bytes) -> Address:
    """The EVM address of a compressed public key: the last 20 bytes of the Keccak-256 of x and y."""
    return Address(keccak256(coincurve.PublicKey(key).format(compressed=False)[1:])[12:])


def digest_signer(seed: bytes) -> Callable[[bytes], bytes]:
    """What makes the 64-byte signature over a 32-byte digest (ValueError for another length)."""
    key = coincurve.PrivateKey(validate_seed(seed))

    def sign_digest(digest: bytes) -> bytes:
        recoverable = key.sign_recoverable(digest, hasher=None)
        parity = recoverable[64]
        assert parity < 2, "the nonce's x is not below the group order: a chance of 2^-127"
        return bytes(recoverable[:32] + bytes((recoverable[32] | parity << 7,)) + recoverable[33:64])

    return sign_digest


def recover_key(digest: bytes, signature: bytes) -> bytes:
    """The compressed public key that signed the digest. Raises Rejection(BAD_SIGNATURE)."""
    return bytes(_recover(digest, signature).format(compressed=True))


def recover_address(digest: bytes, signature: bytes) -> Address:
    """The EVM address of the key that signed the digest. Raises Rejection(BAD_SIGNATURE)."""
    return Address(keccak256(_recover(digest, signature).format(compressed=False)[1:])[12:])


def verify_digest(key: bytes, digest: bytes, signature: bytes) -> bool:
    """Whether the signature is the compressed key's over the digest; False for bytes of any other shape."""
    try:
        return recover_key(digest, signature) == key
    except Rejection:
        return False


def _recover(digest: bytes, signature: bytes) -> coincurve.PublicKey:
    if len(digest) != 32:
        raise _bad(f"expected a digest of 32 bytes, got {len(digest)}")
    if len(signature) != SIGNATURE_BYTES:
        raise _bad(f"expected {SIGNATURE_BYTES} bytes, got {len(signature)}")
    top = signature[32]
    s_bytes = bytes((top & 0x7F,)) + signature[33:]
    if not 0 < int.from_bytes(s_bytes, "big") <= _HALF_ORDER:
        raise _bad("s is zero or above half the group order")
    if not 0 < int.from_bytes(signature[:32], "big") < GROUP_ORDER:
        raise _bad("r is zero or not below the group order")
    try:
        return coincurve.PublicKey.from_signature_and_message(
            signature[:32] + s_bytes + bytes((top >> 7,)), digest, hasher=None
        )
    except ValueError:
        raise _bad("no public key recovers from it") from None


def _bad(detail: str) -> Rejection:
    return Rejection(RejectionReason.BAD_SIGNATURE, detail)
