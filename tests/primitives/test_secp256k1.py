"""secp256k1 in 64 bytes: the published examples of EIP-2098, and exactly one encoding a signature."""

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from mpisa.primitives import secp256k1
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.identifiers import keccak256

N = secp256k1.GROUP_ORDER
SEED = bytes.fromhex("1234567890123456789012345678901234567890123456789012345678901234")
DIGEST = bytes(range(32))

# The two examples of EIP-2098: message, r, s with yParity in its top bit.
EIP_2098 = [
    (
        b"Hello World",
        "68a020a209d3d56c46f38cc50a33f704f4a9a10a59377f8dd762ac66910e9b90",
        "7e865ad05c4035ab5792787d4a0297a43617ae897930a6fe4d822b8faea52064",
    ),
    (
        b"It's a small(er) world",
        "9328da16089fcba9bececa81663203989f2df5fe1faa6291a45381c81bd17f76",
        "939c6d6b623b42da56557e5e734a43dc83345ddfadec52cbe24d0cc64f550793",
    ),
]


def sign(digest: bytes) -> bytes:
    return secp256k1.digest_signer(SEED)(digest)


@pytest.mark.parametrize(("message", "r", "parity_and_s"), EIP_2098)
def test_the_examples_of_eip_2098(message: bytes, r: str, parity_and_s: str) -> None:
    digest = keccak256(b"\x19Ethereum Signed Message:\n" + str(len(message)).encode() + message)
    assert sign(digest).hex() == r + parity_and_s
    assert secp256k1.recover_address(digest, sign(digest)) == secp256k1.address_of(secp256k1.public_key(SEED))


@settings(deadline=None, max_examples=100)
@given(st.binary(min_size=32, max_size=32))
def test_signatures_are_low_s_and_recover_their_key(digest: bytes) -> None:
    signature = sign(digest)
    assert len(signature) == 64
    assert 0 < int.from_bytes(signature[32:], "big") & ((1 << 255) - 1) <= N // 2
    assert secp256k1.recover_key(digest, signature) == secp256k1.public_key(SEED)
    assert secp256k1.verify_digest(secp256k1.public_key(SEED), digest, signature)


def rejected(signature: bytes, digest: bytes = DIGEST) -> str:
    assert not secp256k1.verify_digest(secp256k1.public_key(SEED), digest, signature)
    with pytest.raises(Rejection) as refused:
        secp256k1.recover_address(digest, signature)
    assert refused.value.reason is RejectionReason.BAD_SIGNATURE
    return refused.value.detail


def test_the_high_s_twin_is_no_second_encoding() -> None:
    """(r, n - s) and the other parity recover the same key in 65 bytes; in 64 its top bit is taken for parity."""
    for salt in range(8):
        digest = keccak256(bytes((salt,)))
        signature = sign(digest)
        s = int.from_bytes(signature[32:], "big") & ((1 << 255) - 1)
        twin = signature[:32] + (N - s).to_bytes(32, "big")
        assert not secp256k1.verify_digest(secp256k1.public_key(SEED), digest, twin)


def test_s_is_accepted_up_to_half_the_order_and_no_further() -> None:
    r = sign(DIGEST)[:32]
    half = N // 2
    assert secp256k1.recover_key(DIGEST, r + half.to_bytes(32, "big"))
    assert rejected(r + (half + 1).to_bytes(32, "big")) == "s is zero or above half the group order"
    assert rejected(r + bytes(32)) == "s is zero or above half the group order"
    assert rejected(r + (1 << 255).to_bytes(32, "big")) == "s is zero or above half the group order"


def test_r_must_be_a_number_below_the_order() -> None:
    s = sign(DIGEST)[32:]
    assert rejected(bytes(32) + s) == "r is zero or not below the group order"
    assert rejected(N.to_bytes(32, "big") + s) == "r is zero or not below the group order"
    assert rejected(b"\xff" * 32 + s) == "r is zero or not below the group order"
    assert rejected((5).to_bytes(32, "big") + s) == "no public key recovers from it"  # no point has this x


def test_lengths_are_exact() -> None:
    signature = sign(DIGEST)
    assert rejected(signature[:-1]) == "expected 64 bytes, got 63"
    assert rejected(signature + b"\0") == "expected 64 bytes, got 65"
    assert rejected(b"") == "expected 64 bytes, got 0"
    assert rejected(signature, b"short") == "expected a digest of 32 bytes, got 5"
    with pytest.raises(ValueError, match="32 bytes"):
        sign(b"short")


def test_the_other_parity_recovers_another_key() -> None:
    signature = bytearray(sign(DIGEST))
    signature[32] ^= 0x80
    assert secp256k1.recover_key(DIGEST, bytes(signature)) != secp256k1.public_key(SEED)
    assert not secp256k1.verify_digest(secp256k1.public_key(SEED), DIGEST, bytes(signature))


@settings(deadline=None, max_examples=200)
@given(st.binary(min_size=64, max_size=64))
def test_random_bytes_recover_a_key_or_are_rejected(signature: bytes) -> None:
    try:
        key = secp256k1.recover_key(DIGEST, signature)
    except Rejection as rejection:
        event(rejection.detail)
        return
    assert secp256k1.is_valid_key(key)
    assert secp256k1.verify_digest(key, DIGEST, signature)
