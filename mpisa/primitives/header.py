"""The chain's header and what certifies it, in bytes that Python and Solidity both read.

A header is 340 bytes, big-endian, of fixed layout; its hash is their sha256. A certificate is a bitmap and the
signatures of a quorum of the header's validator set: bit i stands for record i, and the signatures come in the order
of the bits. A quorum is more than 2/3 of the power. Signatures are never hashed into state: two certificates of one
header may differ.

A header of height 0 is the genesis: it has no certificate and is trusted out of band.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Final

from mpisa.primitives import secp256k1
from mpisa.primitives.digest import DIGEST_BYTES, ZERO_DIGEST, sha256, tagged
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.identifiers import ADDRESS_BYTES, Address, Epoch, Height, format_address
from mpisa.primitives.keys import PrivateKey

HEADER_BYTES: Final = 340
HEADER_MAGIC: Final = b"MPISA/hdr/1\0"
_LAYOUT: Final = struct.Struct(">12s32s5Q32s32s32s32s32s32s32s32s")
_DIGEST_FIELDS: Final = (0, 6, 7, 8, 9, 10, 11, 12, 13)

MAX_VALIDATORS: Final = 256
MAX_POWER: Final = (1 << 64) - 1
VALIDATOR_BYTES: Final = ADDRESS_BYTES + 8
BITMAP_BYTES: Final = MAX_VALIDATORS // 8
MAX_CERTIFICATE_BYTES: Final = BITMAP_BYTES + MAX_VALIDATORS * secp256k1.SIGNATURE_BYTES


@dataclass(frozen=True, slots=True)
class Header:
    """One chain block's header. Digests are 32 bytes; `time_ms` counts milliseconds since 1970 UTC.

    `next_validators_hash` is zero but in an epoch's closing header; `state_root` is the one after this block.
    """

    chain_hash: bytes
    height: Height
    time_ms: int
    epoch: Epoch
    first_commit: int
    last_commit: int
    previous: bytes
    commit_digest: bytes
    window_root: bytes
    tx_root: bytes
    receipts_root: bytes
    state_root: bytes
    validators_hash: bytes
    next_validators_hash: bytes

    @property
    def closes_epoch(self) -> bool:
        """Whether this header names the next epoch's validators."""
        return self.next_validators_hash != ZERO_DIGEST

    @property
    def hash(self) -> bytes:
        """The header hash: 32 bytes."""
        return header_hash(self)


_FIELD_NAMES: Final = tuple(field.name for field in fields(Header))


def encode_header(header: Header) -> bytes:
    """The header's 340 bytes. Raises ValueError for a field that doesn't fit: our own bug."""
    values = tuple(getattr(header, name) for name in _FIELD_NAMES)
    for index in _DIGEST_FIELDS:
        if len(values[index]) != DIGEST_BYTES:
            raise ValueError(f"header.{_FIELD_NAMES[index]}: expected {DIGEST_BYTES} bytes, got {len(values[index])}")
    try:
        return _LAYOUT.pack(HEADER_MAGIC, *values)
    except struct.error as error:
        raise ValueError(f"header: expected numbers of 64 bits: {error}") from None


def decode_header(raw: bytes) -> Header:
    """The header of these bytes. Raises Rejection(BAD_HEADER)."""
    if len(raw) != HEADER_BYTES:
        raise Rejection(RejectionReason.BAD_HEADER, f"expected {HEADER_BYTES} bytes, got {len(raw)}")
    magic, *values = _LAYOUT.unpack(raw)
    if magic != HEADER_MAGIC:
        raise Rejection(RejectionReason.BAD_HEADER, f"expected it to start with {HEADER_MAGIC!r}, got {magic!r}")
    return Header(*values)


def header_hash(header: Header) -> bytes:
    """sha256 of the header's bytes."""
    return sha256(encode_header(header))


@dataclass(frozen=True, slots=True, order=True)
class Validator:
    """One record of a validator set: who signs headers (a secp256k1 address), and its power, 1..2^64-1."""

    address: Address
    power: int


@dataclass(frozen=True)
class ValidatorSet:
    """1 to 256 validators in ascending order of address, each with an address and power that aren't zero."""

    validators: tuple[Validator, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.validators) <= MAX_VALIDATORS:
            raise _bad_set(f"expected 1 to {MAX_VALIDATORS} validators, got {len(self.validators)}")
        previous = bytes(ADDRESS_BYTES)
        for validator in self.validators:
            if len(validator.address) != ADDRESS_BYTES:
                raise _bad_set(f"expected addresses of {ADDRESS_BYTES} bytes, got {len(validator.address)}")
            if validator.address <= previous:
                raise _bad_set(
                    f"expected distinct ascending addresses, none zero, got {format_address(validator.address)}"
                )
            if not 1 <= validator.power <= MAX_POWER:
                raise _bad_set(
                    f"{format_address(validator.address)}: expected a power of 1..2^64-1, got {validator.power}"
                )
            previous = validator.address

    @classmethod
    def of(cls, validators: Iterable[Validator]) -> "ValidatorSet":
        """The set of these validators, given in any order. Raises Rejection(BAD_CERTIFICATE)."""
        return cls(tuple(sorted(validators)))

    @classmethod
    def decode(cls, raw: bytes) -> "ValidatorSet":
        """From `encode`'s form. Raises Rejection(BAD_CERTIFICATE)."""
        if not raw or len(raw) % VALIDATOR_BYTES or len(raw) > MAX_VALIDATORS * VALIDATOR_BYTES:
            raise _bad_set(f"expected 1 to {MAX_VALIDATORS} records of {VALIDATOR_BYTES} bytes, got {len(raw)} bytes")
        records = [raw[i : i + VALIDATOR_BYTES] for i in range(0, len(raw), VALIDATOR_BYTES)]
        return cls(
            tuple([Validator(Address(r[:ADDRESS_BYTES]), int.from_bytes(r[ADDRESS_BYTES:], "big")) for r in records])
        )

    def encode(self) -> bytes:
        """The records, ascending: address (20 bytes) and power (8 bytes, big-endian)."""
        return b"".join([validator.address + validator.power.to_bytes(8, "big") for validator in self.validators])

    @cached_property
    def hash(self) -> bytes:
        """sha256 of the records, as headers name the set."""
        return sha256(self.encode())

    @cached_property
    def total_power(self) -> int:
        """The power of all validators."""
        return sum(validator.power for validator in self.validators)

    @cached_property
    def _indices(self) -> dict[Address, int]:
        return {validator.address: index for index, validator in enumerate(self.validators)}

    def index_of(self, address: bytes) -> int | None:
        """The index of this address, or None."""
        return self._indices.get(Address(address))

    def is_quorum(self, power: int) -> bool:
        """Whether this power is more than 2/3 of the whole."""
        return 3 * power > 2 * self.total_power

    def __len__(self) -> int:
        return len(self.validators)


def certificate_digest(chain_hash: bytes, height: int, header_hash: bytes) -> bytes:
    """What validators sign: sha256("MPISA/certificate/1\\0" | chain hash | height u64 | header hash)."""
    return tagged("certificate", chain_hash, height.to_bytes(8, "big"), header_hash)


def header_digest(header: Header) -> bytes:
    """The certificate digest of a header."""
    return certificate_digest(header.chain_hash, header.height, header_hash(header))


@dataclass(frozen=True, slots=True)
class Certificate:
    """Who signed, as a bitmap over the validator set, and their 64-byte signatures in the order of the bits."""

    bitmap: int
    signatures: tuple[bytes, ...]

    def encode(self) -> bytes:
        """The bitmap (32 bytes, big-endian) and the signatures, joined."""
        return self.bitmap.to_bytes(BITMAP_BYTES, "big") + b"".join(self.signatures)

    @classmethod
    def decode(cls, raw: bytes) -> "Certificate":
        """From `encode`'s form. Raises Rejection(BAD_CERTIFICATE) where bitmap and signatures don't agree."""
        if len(raw) < BITMAP_BYTES:
            raise _bad(f"expected a bitmap of {BITMAP_BYTES} bytes, got {len(raw)} bytes in all")
        bitmap = int.from_bytes(raw[:BITMAP_BYTES], "big")
        expected = BITMAP_BYTES + secp256k1.SIGNATURE_BYTES * bitmap.bit_count()
        if len(raw) != expected:
            raise _bad(f"its bitmap names {bitmap.bit_count()} signatures, so {expected} bytes, got {len(raw)}")
        step = secp256k1.SIGNATURE_BYTES
        return cls(bitmap, tuple([bytes(raw[i : i + step]) for i in range(BITMAP_BYTES, len(raw), step)]))

    def signers(self) -> tuple[int, ...]:
        """The indices of the bits set, ascending: the signatures' order."""
        return tuple([index for index in range(self.bitmap.bit_length()) if self.bitmap >> index & 1])


def make_certificate(signatures: dict[int, bytes]) -> Certificate:
    """The certificate of signatures by validator index."""
    indices = sorted(signatures)
    return Certificate(sum(1 << index for index in indices), tuple([signatures[index] for index in indices]))


def sign_header(key: PrivateKey, header: Header) -> bytes:
    """A validator's 64-byte signature of a header. Raises ValueError unless the key is secp256k1."""
    return key.sign_digest(header_digest(header))


def is_signed_by(address: bytes, digest: bytes, signature: bytes) -> bool:
    """Whether the validator of this address signed the certificate digest."""
    try:
        return secp256k1.recover_address(digest, signature) == address
    except Rejection:
        return False


def signed_power(certificate: Certificate, digest: bytes, validators: ValidatorSet) -> int:
    """The power behind valid signatures of the digest. Raises Rejection(BAD_CERTIFICATE) if any of it is wrong."""
    _validate_shape(certificate, validators)
    power = 0
    for index, signature in zip(certificate.signers(), certificate.signatures, strict=True):
        validator = validators.validators[index]
        try:
            signer = secp256k1.recover_address(digest, signature)
        except Rejection as rejection:
            raise _bad(f"signature of validator {index}: {rejection.detail}") from None
        if signer != validator.address:
            raise _bad(
                f"signature of validator {index}: expected {format_address(validator.address)}, "
                f"got {format_address(signer)}"
            )
        power += validator.power
    return power


def verify_certificate(header: Header, certificate: Certificate, validators: ValidatorSet) -> None:
    """Raises Rejection unless a quorum of the header's own validator set signed it.

    BAD_CERTIFICATE: another set, stray bits, or any signature wrong; NO_QUORUM: 2/3 of the power or less signed. The
    caller knows by other means (the epoch's rules) that this is the right set.
    """
    if validators.hash != header.validators_hash:
        raise _bad(f"expected the validator set {header.validators_hash.hex()}, got {validators.hash.hex()}")
    _validate_shape(certificate, validators)
    claimed = sum(validators.validators[index].power for index in certificate.signers())
    if not validators.is_quorum(claimed):
        raise Rejection(
            RejectionReason.NO_QUORUM, f"expected more than 2/3 of a power of {validators.total_power}, got {claimed}"
        )
    signed_power(certificate, header_digest(header), validators)


def _validate_shape(certificate: Certificate, validators: ValidatorSet) -> None:
    if certificate.bitmap < 0 or certificate.bitmap >> len(validators):
        raise _bad(f"its bitmap names validators beyond the set's {len(validators)}")
    if certificate.bitmap.bit_count() != len(certificate.signatures):
        raise _bad(f"its bitmap names {certificate.bitmap.bit_count()} signatures, got {len(certificate.signatures)}")


def _bad(detail: str) -> Rejection:
    return Rejection(RejectionReason.BAD_CERTIFICATE, detail)


def _bad_set(detail: str) -> Rejection:
    return Rejection(RejectionReason.BAD_CERTIFICATE, f"validator set: {detail}")
