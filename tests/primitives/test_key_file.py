"""Key files: what was written opens again; damage, a later version and a wrong passphrase each have their own error."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.key_file import MAX_KEY_FILE_BYTES, _checksum, decode_key_file, encode_key_file, is_sealed
from mpisa.primitives.keys import KeyKind, private_key

SEED = bytes(range(1, 33))
SALT, NONCE = b"s" * 16, b"n" * 12
KEY = private_key(KeyKind.ED25519, SEED)
PLAIN = encode_key_file(KEY, passphrase=None, salt=b"", nonce=b"")
SEALED = encode_key_file(KEY, passphrase="pässword".encode(), salt=SALT, nonce=NONCE)


def refused(data: bytes, passphrase: bytes | None = None) -> str:
    with pytest.raises(Rejection) as rejection:
        decode_key_file(data, passphrase)
    return str(rejection.value)


def changed(data: bytes, *, fix_checksum: bool = True, **fields: Any) -> bytes:
    document = {**json.loads(data), **fields}
    if fix_checksum:
        document["checksum"] = _checksum(document)
    return json.dumps(document).encode()


@pytest.mark.parametrize("kind", list(KeyKind), ids=str)
def test_every_kind_opens_again(kind: KeyKind) -> None:
    key = private_key(kind, SEED)
    plain = encode_key_file(key, passphrase=None, salt=b"", nonce=b"")
    sealed = encode_key_file(key, passphrase=b"p", salt=SALT, nonce=NONCE)
    assert decode_key_file(plain, None) == decode_key_file(plain, b"unused") == key
    assert decode_key_file(sealed, b"p") == key
    assert (is_sealed(plain), is_sealed(sealed)) == (False, True)


def test_a_sealed_file_doesnt_show_the_seed() -> None:
    assert SEED.hex().encode() in PLAIN
    assert SEED.hex().encode() not in SEALED
    assert encode_key_file(KEY, passphrase="pässword".encode(), salt=SALT, nonce=NONCE) == SEALED
    assert encode_key_file(KEY, passphrase="pässword".encode(), salt=b"t" * 16, nonce=NONCE) != SEALED


def test_the_passphrase_must_be_given_and_right() -> None:
    assert refused(SEALED) == "passphrase-needed: the key file is sealed with a passphrase"
    assert refused(SEALED, b"password") == "wrong-passphrase: the passphrase doesn't open the key file"
    assert refused(SEALED, b"") == "wrong-passphrase: the passphrase doesn't open the key file"


def test_what_the_seal_binds_cant_be_changed() -> None:
    """Checksums are for accidents; someone who mends them still can't change what was sealed."""
    for fields in ({"address": "0x" + "00" * 20}, {"kind": "ml-dsa-65"}, {"salt": "00" * 16}, {"nonce": "00" * 12}):
        assert refused(changed(SEALED, **fields), "pässword".encode()).startswith("wrong-passphrase")


def test_damage_is_told_from_a_wrong_passphrase() -> None:
    flipped = json.loads(SEALED)["ciphertext"]
    flipped = ("0" if flipped[0] != "0" else "1") + flipped[1:]
    assert refused(changed(SEALED, fix_checksum=False, ciphertext=flipped), b"any") == (
        "bad-key-file: its checksum doesn't match: the file is damaged"
    )
    assert refused(changed(PLAIN, fix_checksum=False, seed="00" * 32)) == (
        "bad-key-file: its checksum doesn't match: the file is damaged"
    )


@pytest.mark.parametrize("data", [PLAIN, SEALED], ids=["plain", "sealed"])
def test_every_truncation_is_refused(data: bytes) -> None:
    for end in range(len(data.rstrip())):
        assert refused(data[:end]) == "bad-key-file: not JSON: damaged, cut short, or no key file"


@settings(deadline=None, max_examples=200)
@given(st.integers(0, len(PLAIN) - 2), st.integers(0, 255))
def test_a_changed_byte_never_opens_another_key(position: int, byte: int) -> None:
    raw = bytearray(PLAIN)
    raw[position] = byte
    try:
        assert decode_key_file(bytes(raw), None) == KEY  # white space may change
    except Rejection as rejection:
        assert rejection.reason in (RejectionReason.BAD_KEY_FILE, RejectionReason.UNSUPPORTED)  # noqa: PT017


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[]", "bad-key-file: no key file: it has no version"),
        (b"{}", "bad-key-file: no key file: it has no version"),
        (b"\xff", "bad-key-file: not JSON: damaged, cut short, or no key file"),
        (b"[" * 4096, "bad-key-file: not JSON: damaged, cut short, or no key file"),
        (b" " * (MAX_KEY_FILE_BYTES + 1), "bad-key-file: expected at most 4096 bytes, got 4097"),
        (changed(PLAIN, version=2), "unsupported: expected a key file of version 1, got 2"),
        (changed(PLAIN, version="1"), "unsupported: expected a key file of version 1, got 1"),
        (changed(PLAIN, version=True), "unsupported: expected a key file of version 1, got True"),
        (changed(PLAIN, kind="rsa"), "unsupported: unknown key kind rsa"),
        (changed(PLAIN, kind=5), "bad-key-file: expected text in every field but version and kdf"),
        (changed(PLAIN, seed="zz"), "bad-key-file: seed: expected 32 bytes in hex"),
        (changed(PLAIN, seed="00" * 31), "bad-key-file: seed: expected 32 bytes in hex"),
        (
            changed(PLAIN, kind="secp256k1", seed="00" * 32),
            "bad-key-file: no secp256k1 private key: expected 32 bytes, not zero, below the group order",
        ),
        (changed(SEALED, cipher="rot13"), "unsupported: expected the cipher aes-256-gcm, got rot13"),
        (changed(SEALED, salt="00"), "bad-key-file: salt: expected 16 bytes in hex"),
        (changed(SEALED, nonce="00"), "bad-key-file: nonce: expected 12 bytes in hex"),
        (changed(SEALED, ciphertext="00"), "bad-key-file: ciphertext: expected 48 bytes in hex"),
    ],
)
def test_other_documents_are_refused(data: bytes, message: str) -> None:
    assert refused(data, b"passphrase") == message


def test_a_costlier_derivation_is_refused_before_it_is_tried() -> None:
    kdf = {"name": "scrypt", "n": 1 << 30, "r": 8, "p": 1}
    assert refused(changed(SEALED, kdf=kdf), b"p").startswith(
        "unsupported: expected the key derivation {'name': 'scrypt'"
    )


def test_fields_are_exact() -> None:
    with pytest.raises(Rejection, match="bad-key-file: expected the fields of a plain or a sealed key file"):
        decode_key_file(changed(PLAIN, note="mine"), None)


def test_the_address_must_be_the_keys_own() -> None:
    other = "0x" + "11" * 20
    assert refused(changed(PLAIN, address=other)) == (
        f"bad-key-file: its key opens 0x{KEY.address.hex()}, but it says {other}"
    )


def test_sealing_takes_a_passphrase_a_salt_and_a_nonce() -> None:
    with pytest.raises(ValueError, match="an empty passphrase protects nothing"):
        encode_key_file(KEY, passphrase=b"", salt=SALT, nonce=NONCE)
    for salt, nonce in ((SALT[1:], NONCE), (SALT, NONCE[1:])):
        with pytest.raises(ValueError, match="expected a salt of 16 and a nonce of 12 bytes"):
            encode_key_file(KEY, passphrase=b"p", salt=salt, nonce=nonce)
