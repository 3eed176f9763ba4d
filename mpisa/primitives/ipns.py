"""IPNS: names that are public keys, and the records that their owners sign to say where a name points.

A record is a protobuf message. What counts is its field `data`, DAG-CBOR under `signatureV2`; the older fields around
it may be there for older readers, and then must say the same. A record without `signatureV2` is refused, whatever else
it has. Names and records follow specs.ipfs.tech, "IPNS record and protocol". Ed25519 and RSA keys (2048 to 8192 bits)
are verified; names of other keys are read and written, their records refused.
"""

import re
from dataclasses import dataclass
from typing import Final

import libipld
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from mpisa.primitives.cid import IDENTITY, SHA2_256, Cid, encode_varint, read_varint
from mpisa.primitives.dag_pb import decode_varint, read_bytes
from mpisa.primitives.ed25519 import verify
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.ipld import Value, decode_dag_cbor

LIBP2P_KEY: Final = 0x72
MAX_RECORD_BYTES: Final = 10 * 1024
MAX_NAME_CHARACTERS: Final = 256
_SIGNED: Final = b"ipns-signature:"
_ED25519_KEY: Final = bytes.fromhex("08011220")
"""What a libp2p public key begins with when it is Ed25519; 32 bytes follow."""

_RSA_KEY: Final = bytes.fromhex("080012")
"""What it begins with when it is RSA; its length and DER follow."""

_UNTIL: Final = 0
"""The only kind of validity: until a time."""

_VALUE, _SIGNATURE_V1, _KIND, _VALIDITY, _SEQUENCE, _TTL, _KEY, _SIGNATURE, _DATA = range(1, 10)
_NUMBERS: Final = (_KIND, _SEQUENCE, _TTL)
_TIME: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?(?:Z|([+-])([0-9]{2}):([0-9]{2}))",
    re.ASCII,
)
_MONTH_DAYS: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


@dataclass(frozen=True, slots=True)
class IpnsRecord:
    """A record as it was read, signature not checked yet.

    `value`: the path that the name points to; `validity`: until when, as text, and `expires_ms`, the same in ms since
    1970; `ttl_ns`: how long it may be cached, in ns; `raw`: the whole message.
    """

    value: str
    validity: str
    expires_ms: int
    sequence: int
    ttl_ns: int
    data: bytes
    signature: bytes
    public_key: bytes | None
    raw: bytes

    def supersedes(self, other: "IpnsRecord") -> bool:
        """Whether this one counts when both are valid: higher sequence, then the later end, then the larger bytes."""
        return (self.sequence, self.expires_ms, self.raw) > (other.sequence, other.expires_ms, other.raw)


def parse_name(text: str) -> Cid:
    """The name in any of its forms: CIDv1 of a libp2p key, or the multihash alone in base58 (12D3Koo..., Qm...).

    Raises Rejection(BAD_CID).
    """
    if len(text) > MAX_NAME_CHARACTERS:
        raise _bad_name(text, f"expected at most {MAX_NAME_CHARACTERS} characters, got {len(text)}")
    if text.startswith(("1", "Qm")):
        try:
            _, raw = libipld.decode_multibase("z" + text)
            code, offset = read_varint(raw, 0)
            size, offset = read_varint(raw, offset)
        except ValueError as error:
            raise _bad_name(text, str(error)) from None
        # As the CID it stands for, so that one reader checks digests.
        head = b"".join(encode_varint(number) for number in (1, LIBP2P_KEY, code, size))
        cid = Cid.from_bytes(head + raw[offset:])
    else:
        cid = Cid.parse(text)
    if cid.version != 1 or cid.codec != LIBP2P_KEY or cid.digest_code not in (IDENTITY, SHA2_256):
        raise _bad_name(text, "no CID of a libp2p key")
    return cid


def name_text(name: Cid) -> str:
    """The form that all others are redirected to: CIDv1 in base36."""
    return str(libipld.encode_multibase("k", name.to_bytes()))


def decode_record(raw: bytes) -> IpnsRecord:
    """Read a record; signature and time are not checked. Raises Rejection(BAD_RECORD, TOO_LARGE)."""
    if len(raw) > MAX_RECORD_BYTES:
        raise Rejection(RejectionReason.TOO_LARGE, f"IPNS record of {len(raw)} bytes, at most {MAX_RECORD_BYTES}")
    try:
        blobs, numbers = _fields(raw)
        data = blobs.get(_DATA, b"")
        signature = blobs.get(_SIGNATURE, b"")
        if not data or not signature:
            raise _bad("no data under a signature of version 2")
        signed = decode_dag_cbor(data)
    except Rejection as error:
        if error.reason is RejectionReason.BAD_RECORD:
            raise
        raise _bad(error.detail) from None
    record = _from_data(signed, data, signature, blobs.get(_KEY), raw)
    if _VALUE in blobs or _SIGNATURE_V1 in blobs:
        _check_older_fields(record, blobs, numbers)
    return record


def verify_record(name: Cid, record: IpnsRecord, now_ms: int) -> None:
    """Check that the name's owner signed the record and that it has not run out.

    Raises Rejection(BAD_SIGNATURE, KEY_MISMATCH, UNSUPPORTED, EXPIRED).
    """
    key = _key_of(name, record)
    shown = f"IPNS record of {name_text(name)}"
    if key.startswith(_ED25519_KEY) and len(key) == len(_ED25519_KEY) + 32:
        valid = verify(key[len(_ED25519_KEY) :], _SIGNED + record.data, record.signature)
    elif key.startswith(_RSA_KEY):
        valid = _verify_rsa(key, record)
    else:
        raise Rejection(RejectionReason.UNSUPPORTED, f"{shown}: the key is neither Ed25519 nor RSA")
    if not valid:
        raise Rejection(RejectionReason.BAD_SIGNATURE, f"{shown}: the signature is not its key's")
    if record.expires_ms < now_ms:
        raise Rejection(RejectionReason.EXPIRED, f"{shown}: it ran out at {record.validity}")


def _verify_rsa(key: bytes, record: IpnsRecord) -> bool:
    der, end = read_bytes(key, len(_RSA_KEY), "the RSA key")
    try:
        public = load_der_public_key(der)
        if end != len(key) or not isinstance(public, RSAPublicKey) or not 2048 <= public.key_size <= 8192:
            return False
        public.verify(record.signature, _SIGNED + record.data, PKCS1v15(), SHA256())
    except (ValueError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _key_of(name: Cid, record: IpnsRecord) -> bytes:
    """The public key, from the name where it holds it, else from the record."""
    if name.digest_code == IDENTITY:
        if record.public_key is not None and record.public_key != name.digest:
            raise Rejection(RejectionReason.KEY_MISMATCH, f"IPNS record of {name_text(name)} brings another key")
        return name.digest
    if record.public_key is None or not name.matches(record.public_key):
        raise Rejection(RejectionReason.KEY_MISMATCH, f"IPNS record of {name_text(name)} doesn't bring its key")
    return record.public_key


def _fields(raw: bytes) -> tuple[dict[int, bytes], dict[int, int]]:
    """The fields by number, each at most once; unknown ones of the two wire types are passed over."""
    blobs: dict[int, bytes] = {}
    numbers: dict[int, int] = {}
    offset = 0
    while offset < len(raw):
        tag, offset = decode_varint(raw, offset)
        field, wire = tag >> 3, tag & 7
        if field in blobs or field in numbers:
            raise _bad(f"field {field} is there twice")
        if wire == 0 and (field in _NUMBERS or field > _DATA):
            numbers[field], offset = decode_varint(raw, offset)
        elif wire == 2 and field not in _NUMBERS and field > 0:
            blobs[field], offset = read_bytes(raw, offset, f"field {field}")
        else:
            raise _bad(f"field {field} of wire type {wire}")
    return blobs, numbers


def _from_data(signed: Value, data: bytes, signature: bytes, key: bytes | None, raw: bytes) -> IpnsRecord:
    if not isinstance(signed, dict):
        raise _bad("the data is no map")
    value, validity = signed.get("Value"), signed.get("Validity")
    kind, sequence, ttl = signed.get("ValidityType"), signed.get("Sequence"), signed.get("TTL", 0)
    if not isinstance(value, bytes) or not isinstance(validity, bytes):
        raise _bad("Value and Validity must be bytes")
    if not all(isinstance(number, int) and not isinstance(number, bool) for number in (kind, sequence, ttl)):
        raise _bad("ValidityType, Sequence and TTL must be integers")
    assert isinstance(sequence, int)
    assert isinstance(ttl, int)
    if kind != _UNTIL:
        raise _bad(f"validity of type {kind!r}, expected {_UNTIL}: until a time")
    if sequence < 0 or ttl < 0:
        raise _bad("Sequence and TTL can't be negative")
    text, until = _utf8(value, "Value"), _utf8(validity, "Validity")
    return IpnsRecord(text, until, _milliseconds(until), sequence, ttl, data, signature, key, raw)


def _check_older_fields(record: IpnsRecord, blobs: dict[int, bytes], numbers: dict[int, int]) -> None:
    """An older reader believes these: were they others, a signature could be passed off for something else."""
    if (
        blobs.get(_VALUE, b"") != record.value.encode()
        or blobs.get(_VALIDITY, b"") != record.validity.encode()
        or numbers.get(_KIND, 0) != _UNTIL
        or numbers.get(_SEQUENCE, 0) != record.sequence
        or numbers.get(_TTL, 0) != record.ttl_ns
    ):
        raise _bad("the fields of version 1 say something else than the signed data")


def _utf8(raw: bytes, what: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise _bad(f"{what} is not UTF-8") from None


def _milliseconds(text: str) -> int:
    """RFC 3339 with up to nanoseconds, in ms since 1970, rounded down; no clock and no calendar module needed."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise _bad(f"validity {text[:60]!r} is no RFC 3339 time")
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    days = _MONTH_DAYS[month - 1] - (month == 2 and not leap) if 1 <= month <= 12 else 0
    if not 1 <= day <= days or hour > 23 or minute > 59 or second > 60:
        raise _bad(f"validity {text[:60]!r} is no time")
    # Days since 1970-01-01, with years that begin in March, so that the leap day is a year's last.
    shifted = year - (month < 3)
    era_days = shifted * 365 + shifted // 4 - shifted // 100 + shifted // 400
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    seconds = (era_days + day_of_year - 719_468) * 86_400 + hour * 3600 + minute * 60 + second
    if found[8] is not None:
        offset = int(found[9]) * 3600 + int(found[10]) * 60
        seconds += offset if found[8] == "-" else -offset
    return seconds * 1000 + int((found[7] or "").ljust(3, "0")[:3])


def _bad(detail: str) -> Rejection:
    return Rejection(RejectionReason.BAD_RECORD, f"IPNS record: {detail}")


def _bad_name(text: str, detail: str) -> Rejection:
    return Rejection(RejectionReason.BAD_CID, f"IPNS name {text[:80]!r}: {detail}")
