"""Peer ids of Ed25519 host keys, as the libp2p peer id specification writes them.

A peer id is the identity multihash of the protobuf `PublicKey{type: Ed25519, data: 32 bytes}`, shown in base58. So
the key can be read back from the id, and a signature can be checked knowing the id alone. Other key types are
refused.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mpisa.network.ports import PeerId
from mpisa.primitives.errors import Rejection, RejectionReason

KEY_PREFIX = bytes.fromhex("08011220")
"""Protobuf of a PublicKey whose type is Ed25519 (1) and whose data is 32 bytes."""

MULTIHASH_PREFIX = bytes.fromhex("0024")
"""Identity multihash of 36 bytes."""

MAX_PEER_ID_TEXT = 64
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


class HostKey:
    """The node's libp2p identity: signs, and knows its peer id. Its repr shows the id only."""

    def __init__(self, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_bytes: bytes = self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.peer_id = peer_id_of(self.public_bytes)

    def __repr__(self) -> str:
        return f"HostKey({self.peer_id})"

    @property
    def encoded_public_key(self) -> bytes:
        """The public key in libp2p's protobuf encoding."""
        return KEY_PREFIX + self.public_bytes

    def sign(self, message: bytes) -> bytes:
        return self._private.sign(message)


def peer_id_of(public_key: bytes) -> PeerId:
    """The peer id of a raw 32-byte Ed25519 public key."""
    assert len(public_key) == 32
    return PeerId(encode_base58(MULTIHASH_PREFIX + KEY_PREFIX + public_key))


def public_key_of(peer_id: str) -> bytes:
    """The raw public key inside a peer id. Raises Rejection(MALFORMED) for anything but an Ed25519 identity peer id."""
    raw = decode_base58(peer_id)
    prefix = MULTIHASH_PREFIX + KEY_PREFIX
    if len(raw) != len(prefix) + 32 or not raw.startswith(prefix):
        raise Rejection(
            RejectionReason.MALFORMED, f"peer id, expected an Ed25519 identity multihash, got {peer_id[:80]!r}"
        )
    return raw[len(prefix) :]


def parse_peer_id(text: str) -> PeerId:
    """A PeerId from text; checks that it is one."""
    public_key_of(text)
    return PeerId(text)


def decode_public_key(encoded: bytes) -> bytes:
    """The raw key of a libp2p protobuf public key. Raises Rejection(MALFORMED) unless it is Ed25519."""
    if len(encoded) != len(KEY_PREFIX) + 32 or not encoded.startswith(KEY_PREFIX):
        raise Rejection(RejectionReason.MALFORMED, f"host key, expected Ed25519 in 36 bytes, got {len(encoded)} bytes")
    return encoded[len(KEY_PREFIX) :]


def is_signed_by(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether a raw Ed25519 key signed the message."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def encode_base58(data: bytes) -> str:
    number = int.from_bytes(data, "big")
    digits = []
    while number:
        number, digit = divmod(number, 58)
        digits.append(BASE58[digit])
    zeros = len(data) - len(data.lstrip(b"\0"))
    return "1" * zeros + "".join(reversed(digits))


def decode_base58(text: str) -> bytes:
    """Raises Rejection for foreign characters and for more than `MAX_PEER_ID_TEXT` of them."""
    if not text or len(text) > MAX_PEER_ID_TEXT:
        raise Rejection(
            RejectionReason.MALFORMED, f"peer id, expected 1 to {MAX_PEER_ID_TEXT} characters, got {len(text)}"
        )
    number = 0
    for character in text:
        digit = BASE58.find(character)
        if digit < 0:
            raise Rejection(RejectionReason.MALFORMED, f"peer id, expected base58, got {character!r} in {text!r}")
        number = number * 58 + digit
    zeros = len(text) - len(text.lstrip("1"))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
