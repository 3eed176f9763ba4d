"""Three schemes behind one interface: what they sign verifies, nothing else does, and seeds stay secret."""

import hashlib

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from mpisa.primitives.errors import Rejection
from mpisa.primitives.identifiers import format_address
from mpisa.primitives.keys import (
    KEY_BYTES,
    SIGNATURE_BYTES,
    KeyKind,
    PrivateKey,
    PublicKey,
    private_key,
    signing_message,
)

SEED = bytes(range(1, 33))
KINDS = list(KeyKind)


@pytest.fixture(scope="module", params=KINDS, ids=str)
def key(request: pytest.FixtureRequest) -> PrivateKey:
    return private_key(request.param, SEED)


def test_a_signature_verifies_for_its_key_and_message_alone(key: PrivateKey) -> None:
    signature = key.sign(b"message")
    public = key.public_key
    assert len(signature) == SIGNATURE_BYTES[key.kind]
    assert public.verify(b"message", signature)
    assert not public.verify(b"massage", signature)
    assert not private_key(key.kind, SEED[::-1]).public_key.verify(b"message", signature)
    for position in (0, 31, 32, 63, len(signature) - 1):
        flipped = bytearray(signature)
        flipped[position] ^= 1
        assert not public.verify(b"message", bytes(flipped))


def test_misshapen_signatures_are_false_not_errors(key: PrivateKey) -> None:
    signature = key.sign(b"message")
    for misshapen in (b"", signature[:-1], signature + b"\0", bytes(len(signature)), b"\xff" * len(signature)):
        assert not key.public_key.verify(b"message", misshapen)


def test_public_keys_are_encoded_with_their_kind(key: PrivateKey) -> None:
    encoded = key.public_key.encode()
    assert encoded[0] == 1 + KINDS.index(key.kind)
    assert len(encoded) == 1 + KEY_BYTES[key.kind]
    assert PublicKey.decode(encoded) == key.public_key


def test_the_same_seed_gives_the_same_key_and_signature(key: PrivateKey) -> None:
    again = private_key(key.kind, SEED)
    assert again == key
    assert hash(again) == hash(key)
    assert again != private_key(key.kind, SEED[::-1])
    assert key != "key"
    if key.kind is not KeyKind.ML_DSA_65:
        assert again.sign(b"message") == key.sign(b"message")


def test_text_never_shows_the_seed(key: PrivateKey) -> None:
    for text in (repr(key), str(key), f"{key}"):
        assert SEED.hex() not in text
        assert repr(SEED) not in text
        assert text == f"PrivateKey({key.kind.value}, {key.address.hex()})"


def test_addresses() -> None:
    # The well-known address of the secret 1.
    one = private_key(KeyKind.SECP256K1, (1).to_bytes(32, "big"))
    assert format_address(one.address) == "0x7e5f4552091a69125d5dfcb7b8c2659029395bdf"
    for kind, byte in ((KeyKind.ED25519, b"\x01"), (KeyKind.ML_DSA_65, b"\x03")):
        public = private_key(kind, SEED).public_key
        assert public.address == hashlib.sha256(b"MPISA/address/1\0" + byte + public.data).digest()[:20]


@pytest.mark.parametrize(
    ("raw", "detail"),
    [
        (b"", "expected a kind byte of 1 to 3, got nothing"),
        (b"\x00" + bytes(32), "expected a kind byte of 1 to 3, got 00"),
        (b"\x04" + bytes(32), "expected a kind byte of 1 to 3, got 04"),
        (b"\x01" + bytes(31), "ed25519: expected 32 bytes, got 31"),
        (b"\x01" + b"\x01" + bytes(31), "ed25519: not the canonical encoding of a point, or of small order"),
        (b"\x01" + b"\xff" * 32, "ed25519: not the canonical encoding of a point, or of small order"),
        (b"\x02" + bytes(32), "secp256k1: expected 33 bytes, got 32"),
        (b"\x02" + bytes(33), "secp256k1: not the compressed form of a point"),
        (b"\x02\x04" + b"\x11" * 32, "secp256k1: not the compressed form of a point"),
        (b"\x02\x02" + b"\xff" * 32, "secp256k1: not the compressed form of a point"),
        (b"\x03" + bytes(1951), "ml-dsa-65: expected 1952 bytes, got 1951"),
    ],
)
def test_misshapen_keys_and_those_that_accept_anything_are_refused(raw: bytes, detail: str) -> None:
    with pytest.raises(Rejection) as refused:
        PublicKey.decode(raw)
    assert str(refused.value) == f"bad-key: {detail}"


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=40) | st.binary(min_size=32, max_size=33).map(lambda tail: bytes((len(tail) - 31,)) + tail))
def test_any_bytes_are_a_key_or_rejected(raw: bytes) -> None:
    try:
        key = PublicKey.decode(raw)
    except Rejection as rejection:
        event(rejection.reason.value)
        return
    assert key.encode() == raw
    assert len(key.address) == 20
    assert not key.verify(b"message", bytes(SIGNATURE_BYTES[key.kind]))


def test_seeds_are_checked() -> None:
    for kind in KINDS:
        with pytest.raises(ValueError, match="a private key takes a seed of 32 bytes, got 31"):
            private_key(kind, SEED[:31])
    for seed in (bytes(32), b"\xff" * 32):
        with pytest.raises(ValueError, match="no secp256k1 private key"):
            private_key(KeyKind.SECP256K1, seed)


def test_only_secp256k1_signs_digests() -> None:
    for kind in (KeyKind.ED25519, KeyKind.ML_DSA_65):
        with pytest.raises(ValueError, match=f"only secp256k1 signs digests, not {kind.value}"):
            private_key(kind, SEED).sign_digest(bytes(32))


def test_what_is_signed_names_purpose_and_chain() -> None:
    assert signing_message("vertex", b"c" * 32, b"d" * 32) == b"MPISA/vertex/1\0" + b"c" * 32 + b"d" * 32
