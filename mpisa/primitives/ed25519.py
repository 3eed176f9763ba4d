"""Ed25519 with one verdict on every input: a consensus rule, not a library's taste.

Libraries differ on edge cases, so one verifier is pinned (py-ed25519-zebra: ZIP 215, cofactored), and what it would
still take is narrowed before it runs: a key and R must be canonical encodings (y below the field's prime, no negative
zero), S must be below the group order, and keys of small order, which accept messages nobody signed, are refused.
"""

from collections.abc import Callable
from typing import Final

import ed25519_zebra
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64

_FIELD_PRIME: Final = 2**255 - 19
_GROUP_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_Y_MASK: Final = (1 << 255) - 1
# The y of the points whose order divides 8: the neutral point, order 2, order 4, and the two of order 8.
_ORDER_EIGHT_Y: Final = 0x5FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER_Y: Final = frozenset((1, _FIELD_PRIME - 1, 0, _ORDER_EIGHT_Y, _FIELD_PRIME - _ORDER_EIGHT_Y))


def public_key(seed: bytes) -> bytes:
    """The 32-byte public key of a 32-byte seed."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def signer(seed: bytes) -> Callable[[bytes], bytes]:
    """What makes the 64-byte signature of a message (RFC 8032, deterministic), with the key expanded once."""
    return Ed25519PrivateKey.from_private_bytes(seed).sign


def is_canonical_key(key: bytes) -> bool:
    """Whether these bytes are the one encoding of a y below the prime that isn't of small order.

    Whether a point has this y is left to the verifier.
    """
    return len(key) == KEY_BYTES and _is_canonical_point(key) and _y(key) not in _SMALL_ORDER_Y


def is_canonical_signature(signature: bytes) -> bool:
    """Whether R is a canonical encoding and S is below the group order."""
    return (
        len(signature) == SIGNATURE_BYTES
        and int.from_bytes(signature[32:], "little") < _GROUP_ORDER
        and _is_canonical_point(signature[:32])
    )


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the signature is the key's over the message; False, never an error, for bytes of any other shape."""
    return (
        is_canonical_signature(signature)
        and is_canonical_key(key)
        and bool(ed25519_zebra.ed_verify(signature, message, key))
    )


def _y(point: bytes) -> int:
    return int.from_bytes(point, "little") & _Y_MASK


def _is_canonical_point(point: bytes) -> bool:
    y = _y(point)
    if y >= _FIELD_PRIME:
        return False
    # x = 0 exactly where y = 1 or y = -1; its sign bit must not be set.
    return not (point[31] & 0x80 and y in (1, _FIELD_PRIME - 1))
