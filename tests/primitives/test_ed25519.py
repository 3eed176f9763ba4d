"""Ed25519's edges: the verdicts are a consensus rule, so each is pinned, the verifier's own too."""

import hashlib

import ed25519_zebra
import pytest

from mpisa.primitives import ed25519

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
BASE = (
    15112221349535400772501151409588531511454012693041857206046113283949847762202,
    46316835694926478169428394003475163141307993866256225615783033603165251855960,
)
ORDER_8 = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
SMALL_ORDER_Y = [1, P - 1, 0, int.from_bytes(ORDER_8, "little"), P - int.from_bytes(ORDER_8, "little")]
SEED = bytes(range(32))
MESSAGE = b"message"

# RFC 8032, section 7.1, tests 1 and 2: seed, public key, message, signature.
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
        "387b2eaeb4302aeeb00d291612bb0c00",
    ),
]

Point = tuple[int, int]


def add(a: Point, b: Point) -> Point:
    (x1, y1), (x2, y2) = a, b
    common = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + common, -1, P) % P
    y = (y1 * y2 + x1 * x2) * pow(1 - common, -1, P) % P
    return x, y


def multiply(scalar: int, point: Point) -> Point:
    result = (0, 1)
    for bit in f"{scalar:b}":
        result = add(result, result)
        if bit == "1":
            result = add(result, point)
    return result


def compress(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def decompress(y: int) -> Point:
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    assert x * x % P == square
    return x, y


def secret_scalar(seed: bytes) -> int:
    head = bytearray(hashlib.sha512(seed).digest()[:32])
    head[0] &= 248
    head[31] = head[31] & 127 | 64
    return int.from_bytes(head, "little")


def challenge(r: bytes, key: bytes) -> int:
    return int.from_bytes(hashlib.sha512(r + key + MESSAGE).digest(), "little") % L


def signature_with(r: bytes, nonce: int) -> bytes:
    """The signature of the seed's key whose R is given as bytes; its torsion-free part must be nonce * base."""
    key = ed25519.public_key(SEED)
    return r + ((nonce + challenge(r, key) * secret_scalar(SEED)) % L).to_bytes(32, "little")


def zebra(key: bytes, signature: bytes) -> bool:
    return bool(ed25519_zebra.ed_verify(signature, MESSAGE, key))


@pytest.mark.parametrize(("seed", "key", "message", "signature"), RFC_8032)
def test_rfc_8032(seed: str, key: str, message: str, signature: str) -> None:
    assert ed25519.public_key(bytes.fromhex(seed)).hex() == key
    assert ed25519.signer(bytes.fromhex(seed))(bytes.fromhex(message)).hex() == signature
    assert ed25519.verify(bytes.fromhex(key), bytes.fromhex(message), bytes.fromhex(signature))


def test_keys_of_small_order_are_refused_though_the_verifier_takes_them() -> None:
    neutral = (1).to_bytes(32, "little") + bytes(32)  # R neutral, S zero: "signs" any message for such a key
    encodings = [y | sign << 255 for y in SMALL_ORDER_Y for sign in (0, 1)]
    encodings += [y + P | sign << 255 for y in (0, 1) for sign in (0, 1)]
    assert len(encodings) == 14
    for encoding in encodings:
        key = encoding.to_bytes(32, "little")
        assert zebra(key, neutral)
        assert not ed25519.is_canonical_key(key)
        assert not ed25519.verify(key, MESSAGE, neutral)


def test_keys_that_are_no_canonical_encoding_are_refused() -> None:
    for y in range(P, 2**255):
        for sign in (0, 1):
            assert not ed25519.is_canonical_key((y | sign << 255).to_bytes(32, "little"))
    assert ed25519.is_canonical_key((P - 2).to_bytes(32, "little"))  # a point or not is the verifier's to say
    assert not ed25519.is_canonical_key(bytes(31))
    assert not ed25519.is_canonical_key(bytes(33))


def test_a_key_that_is_no_point_verifies_nothing() -> None:
    assert ed25519.is_canonical_key((2).to_bytes(32, "little"))
    assert not ed25519.verify((2).to_bytes(32, "little"), MESSAGE, ed25519.signer(SEED)(MESSAGE))


def test_s_at_or_above_the_group_order_is_refused() -> None:
    key, signature = ed25519.public_key(SEED), ed25519.signer(SEED)(MESSAGE)
    s = int.from_bytes(signature[32:], "little")
    assert ed25519.verify(key, MESSAGE, signature)
    for multiple in range(1, 15):
        assert not ed25519.verify(key, MESSAGE, signature[:32] + (s + multiple * L).to_bytes(32, "little"))
    assert not ed25519.is_canonical_signature(bytes(32) + L.to_bytes(32, "little"))
    assert ed25519.is_canonical_signature(bytes(32) + (L - 1).to_bytes(32, "little"))


def test_r_that_is_no_canonical_encoding_is_refused_though_the_verifier_takes_it() -> None:
    key = ed25519.public_key(SEED)
    canonical = signature_with((1).to_bytes(32, "little"), 0)
    assert zebra(key, canonical)
    assert ed25519.verify(key, MESSAGE, canonical)
    for encoding in (1 | 1 << 255, P + 1, P + 1 | 1 << 255, P - 1 | 1 << 255, P, P | 1 << 255):
        signature = signature_with(encoding.to_bytes(32, "little"), 0)
        assert zebra(key, signature)
        assert not ed25519.verify(key, MESSAGE, signature)


def test_the_verifier_is_cofactored() -> None:
    """A component of small order in R or in the key doesn't matter: another verifier would say otherwise."""
    torsion = decompress(int.from_bytes(ORDER_8, "little"))
    r = compress(add(multiply(7, BASE), torsion))
    assert ed25519.verify(ed25519.public_key(SEED), MESSAGE, signature_with(r, 7))

    scalar = secret_scalar(SEED)
    mixed = compress(add(multiply(scalar, BASE), torsion))
    r = compress(multiply(7, BASE))
    signature = r + ((7 + challenge(r, mixed) * scalar) % L).to_bytes(32, "little")
    assert ed25519.verify(mixed, MESSAGE, signature)


def test_misshapen_bytes_are_false_not_errors() -> None:
    key, signature = ed25519.public_key(SEED), ed25519.signer(SEED)(MESSAGE)
    for bad_key in (b"", key[:-1], key + b"\0"):
        assert not ed25519.verify(bad_key, MESSAGE, signature)
    for bad_signature in (b"", signature[:-1], signature + b"\0"):
        assert not ed25519.verify(key, MESSAGE, bad_signature)
