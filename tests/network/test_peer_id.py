import pytest

from mpisa.network.peer_id import (
    HostKey,
    decode_base58,
    decode_public_key,
    encode_base58,
    is_signed_by,
    parse_peer_id,
    peer_id_of,
    public_key_of,
)
from mpisa.primitives.errors import Rejection

SEED_OF_ONES = "12D3KooWK99VoVxNE7XzyBwXEzW7xhK7Gpv85r9F3V3fyKSUKPH5"


def test_the_peer_id_of_a_known_key():
    key = HostKey(bytes([1]) * 32)
    assert key.peer_id == SEED_OF_ONES
    assert key.public_bytes.hex() == "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c"
    assert key.encoded_public_key.hex() == "08011220" + key.public_bytes.hex()
    assert decode_public_key(key.encoded_public_key) == key.public_bytes


def test_key_and_id_go_both_ways_and_signatures_check():
    key = HostKey(bytes(range(32)))
    assert public_key_of(key.peer_id) == key.public_bytes
    assert peer_id_of(key.public_bytes) == parse_peer_id(key.peer_id) == key.peer_id
    signature = key.sign(b"message")
    assert is_signed_by(key.public_bytes, signature, b"message")
    assert not is_signed_by(key.public_bytes, signature, b"massage")
    assert not is_signed_by(key.public_bytes, b"short", b"message")


def test_the_seed_is_in_no_repr():
    assert repr(HostKey(bytes([1]) * 32)) == f"HostKey({SEED_OF_ONES})"


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("", "expected 1 to 64 characters, got 0"),
        ("1" * 65, "expected 1 to 64 characters, got 65"),
        ("12D3KooW0", "expected base58, got '0'"),
        ("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N", "expected an Ed25519 identity multihash"),
        (SEED_OF_ONES[:-1], "expected an Ed25519 identity multihash"),
    ],
)
def test_what_is_no_ed25519_peer_id_is_refused(text, detail):
    with pytest.raises(Rejection, match=r"^malformed: peer id, ") as caught:
        parse_peer_id(text)
    assert detail in caught.value.detail


def test_foreign_host_keys_are_refused():
    with pytest.raises(Rejection, match="host key, expected Ed25519 in 36 bytes, got 37 bytes"):
        decode_public_key(bytes.fromhex("08021221") + bytes(33))


@pytest.mark.parametrize("data", [b"", b"\0", b"\0\0\1", b"hello", bytes(range(40))])
def test_base58_keeps_leading_zeros(data):
    if data:
        assert decode_base58(encode_base58(data)) == data
    else:
        assert encode_base58(data) == ""
