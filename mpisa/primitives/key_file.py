"""A private key as a small JSON document, optionally sealed with a passphrase.

The secret is the seed in hex, or its AES-256-GCM under a key that scrypt makes from the passphrase; kind, address and
scrypt's cost are authenticated with it. A checksum over the document tells a damaged file from a wrong passphrase. Salt
and nonce are arguments and must be fresh; reading, writing and file modes are the caller's.
"""

import json
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from mpisa.primitives.digest import tagged
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.identifiers import format_address
from mpisa.primitives.keys import SEED_BYTES, KeyKind, PrivateKey, private_key

KEY_FILE_VERSION: Final = 1
MAX_KEY_FILE_BYTES: Final = 4_096
SALT_BYTES: Final = 16
NONCE_BYTES: Final = 12
SCRYPT_N: Final = 1 << 15
SCRYPT_R: Final = 8
SCRYPT_P: Final = 1
_SEALED_SEED_BYTES: Final = SEED_BYTES + 16
_PLAIN_FIELDS: Final = {"version", "kind", "address", "seed", "checksum"}
_SEALED_FIELDS: Final = {"version", "kind", "address", "cipher", "kdf", "salt", "nonce", "ciphertext", "checksum"}
_CIPHER: Final = "aes-256-gcm"
_KDF: Final = {"name": "scrypt", "n": SCRYPT_N, "r": SCRYPT_R, "p": SCRYPT_P}


def encode_key_file(key: PrivateKey, *, passphrase: bytes | None, salt: bytes, nonce: bytes) -> bytes:
    """The document. With a passphrase it takes a fresh salt (16 bytes) and nonce (12 bytes); ValueError otherwise."""
    document: dict[str, object] = {
        "version": KEY_FILE_VERSION,
        "kind": key.kind.value,
        "address": format_address(key.address),
    }
    if passphrase is None:
        document["seed"] = key.seed.hex()
    else:
        if not passphrase:
            raise ValueError("an empty passphrase protects nothing")
        if len(salt) != SALT_BYTES or len(nonce) != NONCE_BYTES:
            raise ValueError(f"expected a salt of {SALT_BYTES} and a nonce of {NONCE_BYTES} bytes")
        document["cipher"] = _CIPHER
        document["kdf"] = _KDF
        document["salt"] = salt.hex()
        document["nonce"] = nonce.hex()
        sealing_key = AESGCM(_stretch(passphrase, salt))
        document["ciphertext"] = sealing_key.encrypt(nonce, key.seed, _authenticated(document)).hex()
    document["checksum"] = _checksum(document)
    return json.dumps(document, indent=2).encode("ascii") + b"\n"


def is_sealed(data: bytes) -> bool:
    """Whether the key file needs a passphrase. Raises Rejection(BAD_KEY_FILE or UNSUPPORTED)."""
    return "ciphertext" in _parse(data)


def decode_key_file(data: bytes, passphrase: bytes | None) -> PrivateKey:
    """The key in the document; the passphrase is needed, and used, only where it is sealed.

    Raises Rejection: BAD_KEY_FILE (damaged), UNSUPPORTED (of a later version), PASSPHRASE_NEEDED, WRONG_PASSPHRASE.
    """
    document = _parse(data)
    kind = KeyKind(str(document["kind"]))
    if "seed" in document:
        seed = _hex(document, "seed", SEED_BYTES)
    else:
        salt, nonce = _hex(document, "salt", SALT_BYTES), _hex(document, "nonce", NONCE_BYTES)
        ciphertext = _hex(document, "ciphertext", _SEALED_SEED_BYTES)
        if passphrase is None:
            raise Rejection(RejectionReason.PASSPHRASE_NEEDED, "the key file is sealed with a passphrase")
        try:
            seed = AESGCM(_stretch(passphrase, salt)).decrypt(nonce, ciphertext, _authenticated(document))
        except InvalidTag:
            raise Rejection(RejectionReason.WRONG_PASSPHRASE, "the passphrase doesn't open the key file") from None
    try:
        key = private_key(kind, seed)
    except ValueError as error:
        raise _bad(str(error)) from None
    if format_address(key.address) != document["address"]:
        raise _bad(f"its key opens {format_address(key.address)}, but it says {document['address']!s:.80}")
    return key


def _parse(data: bytes) -> dict[str, object]:
    """The document, its version, fields, kind, cipher and checksum checked."""
    if len(data) > MAX_KEY_FILE_BYTES:
        raise _bad(f"expected at most {MAX_KEY_FILE_BYTES} bytes, got {len(data)}")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise _bad("not JSON: damaged, cut short, or no key file") from None
    if not isinstance(document, dict) or "version" not in document:
        raise _bad("no key file: it has no version")
    version = document["version"]
    if version != KEY_FILE_VERSION or type(version) is not int:
        raise Rejection(
            RejectionReason.UNSUPPORTED,
            f"expected a key file of version {KEY_FILE_VERSION}, got {version!s:.40}",
            hint="a later MPISA may have written it: upgrade",
        )
    if set(document) not in (_PLAIN_FIELDS, _SEALED_FIELDS):
        raise _bad(f"expected the fields of a plain or a sealed key file, got {sorted(document)!s:.200}")
    if not all(isinstance(document[name], str) for name in document if name not in ("version", "kdf")):
        raise _bad("expected text in every field but version and kdf")
    if document.get("kdf", _KDF) != _KDF:
        raise Rejection(RejectionReason.UNSUPPORTED, f"expected the key derivation {_KDF}")
    if document["checksum"] != _checksum(document):
        raise _bad("its checksum doesn't match: the file is damaged")
    if document["kind"] not in list(KeyKind):
        raise Rejection(RejectionReason.UNSUPPORTED, f"unknown key kind {document['kind']!s:.40}")
    if document.get("cipher", _CIPHER) != _CIPHER:
        raise Rejection(RejectionReason.UNSUPPORTED, f"expected the cipher {_CIPHER}, got {document['cipher']!s:.40}")
    return document


def _stretch(passphrase: bytes, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P).derive(passphrase)


def _authenticated(document: dict[str, object]) -> bytes:
    """What the seal binds besides the seed."""
    return _canonical(
        {name: document[name] for name in ("version", "kind", "address", "cipher", "kdf", "salt", "nonce")}
    )


def _checksum(document: dict[str, object]) -> str:
    return tagged("key-file", _canonical({name: document[name] for name in document if name != "checksum"})).hex()


def _canonical(document: dict[str, object]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode("ascii")


def _hex(document: dict[str, object], name: str, length: int) -> bytes:
    text = document[name]
    try:
        data = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        data = b""
    if len(data) != length:
        raise _bad(f"{name}: expected {length} bytes in hex")
    return data


def _bad(detail: str) -> Rejection:
    return Rejection(RejectionReason.BAD_KEY_FILE, detail)
