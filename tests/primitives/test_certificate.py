"""Certificates: the shared vectors, and every way to pretend a quorum refused with its own reason."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.header import (
    MAX_CERTIFICATE_BYTES,
    MAX_VALIDATORS,
    Certificate,
    Header,
    Validator,
    ValidatorSet,
    decode_header,
    header_digest,
    is_signed_by,
    make_certificate,
    sign_header,
    signed_power,
    verify_certificate,
)
from mpisa.primitives.identifiers import Address
from mpisa.primitives.keys import KeyKind, PrivateKey, private_key
from mpisa.primitives.secp256k1 import GROUP_ORDER

CHAIN = json.loads((Path(__file__).parents[1] / "vectors" / "chain.json").read_text())


def certificate_of(vector: dict[str, Any]) -> Certificate:
    return Certificate.decode(vector["bitmap"].to_bytes(32, "big") + bytes.fromhex(vector["signatures"]))


@pytest.mark.parametrize("vector", CHAIN["certificates"], ids=lambda vector: f"power {vector['total_power']}")
def test_the_vectors(vector: dict[str, Any]) -> None:
    validators = ValidatorSet.decode(bytes.fromhex(vector["validators"]))
    certificate = certificate_of(vector)
    digest = bytes.fromhex(vector["digest"])
    assert validators.encode().hex() == vector["validators"]
    assert validators.hash.hex() == vector["validators_hash"]
    assert validators.total_power == vector["total_power"]
    power = signed_power(certificate, digest, validators)
    assert power == vector["signed_power"]
    assert validators.is_quorum(power) == vector["quorum"]
    assert certificate.encode() == vector["bitmap"].to_bytes(32, "big") + bytes.fromhex(vector["signatures"])
    for index, signature in zip(certificate.signers(), certificate.signatures, strict=True):
        assert is_signed_by(validators.validators[index].address, digest, signature)
        assert not is_signed_by(bytes(20), digest, signature)
        assert not is_signed_by(validators.validators[index].address, digest, signature[:-1])
    for position in range(0, 64 * len(certificate.signatures), 7):
        raw = bytearray(certificate.encode())
        raw[32 + position] ^= 1
        with pytest.raises(Rejection) as refused:
            signed_power(Certificate.decode(bytes(raw)), digest, validators)
        assert refused.value.reason is RejectionReason.BAD_CERTIFICATE


def key(number: int) -> PrivateKey:
    return private_key(KeyKind.SECP256K1, number.to_bytes(32, "big"))


KEYS = sorted((key(number) for number in range(1, 5)), key=lambda each: each.address)
FOUR = ValidatorSet.of(Validator(each.address, 1) for each in KEYS)
HEADER = replace(decode_header(bytes.fromhex(CHAIN["headers"][0]["bytes"])), validators_hash=FOUR.hash)


def signed_by(*indices: int, header: Header = HEADER) -> Certificate:
    return make_certificate({index: sign_header(KEYS[index], header) for index in indices})


def refused(certificate: Certificate, validators: ValidatorSet = FOUR, header: Header = HEADER) -> str:
    with pytest.raises(Rejection) as rejection:
        verify_certificate(header, certificate, validators)
    return str(rejection.value)


def test_a_quorum_is_more_than_two_thirds() -> None:
    for indices in ((0, 1, 2), (1, 2, 3), (0, 1, 2, 3)):
        verify_certificate(HEADER, signed_by(*indices), FOUR)
    for indices in ((), (0,), (2, 3)):
        assert refused(signed_by(*indices)) == f"no-quorum: expected more than 2/3 of a power of 4, got {len(indices)}"


def test_power_counts_not_heads() -> None:
    powers = (7, 1, 1, 3)  # 8 of 12 is two thirds exactly: not enough
    validators = ValidatorSet.of(Validator(each.address, power) for each, power in zip(KEYS, powers, strict=True))
    header = replace(HEADER, validators_hash=validators.hash)
    assert refused(signed_by(0, 1, header=header), validators, header) == (
        "no-quorum: expected more than 2/3 of a power of 12, got 8"
    )
    verify_certificate(header, signed_by(0, 1, 2, header=header), validators)
    verify_certificate(header, signed_by(0, 3, header=header), validators)


def test_powers_of_64_bits_dont_overflow() -> None:
    validators = ValidatorSet.of(Validator(each.address, (1 << 64) - 1) for each in KEYS)
    header = replace(HEADER, validators_hash=validators.hash)
    verify_certificate(header, signed_by(0, 1, 2, header=header), validators)
    assert refused(signed_by(0, 1, header=header), validators, header).startswith("no-quorum")


def test_signatures_are_for_one_header_by_one_set() -> None:
    certificate = signed_by(0, 1, 2)
    other = replace(HEADER, time_ms=HEADER.time_ms + 1)
    assert refused(certificate, header=other).startswith("bad-certificate: signature of validator 0: expected 0x")
    three = ValidatorSet(FOUR.validators[:3])
    assert refused(certificate, three) == (
        f"bad-certificate: expected the validator set {FOUR.hash.hex()}, got {three.hash.hex()}"
    )


def test_bits_and_signatures_must_agree() -> None:
    first, second, third = signed_by(0, 1, 2).signatures
    cases = [
        (Certificate(0b111, (first, second)), "its bitmap names 3 signatures, got 2"),
        (Certificate(0b111, (first, second, third, third)), "its bitmap names 3 signatures, got 4"),
        (Certificate(0b10111, (first, second, third, third)), "its bitmap names validators beyond the set's 4"),
        (
            Certificate(1 << 255 | 0b111, (first, second, third, third)),
            "its bitmap names validators beyond the set's 4",
        ),
        (Certificate(-1, (first,)), "its bitmap names validators beyond the set's 4"),
    ]
    for certificate, detail in cases:
        assert refused(certificate) == f"bad-certificate: {detail}"


def test_a_wrong_order_or_a_repeated_signature_is_refused() -> None:
    first, second, third = signed_by(0, 1, 2).signatures
    for signatures in ((second, first, third), (first, first, first), (first, second, first)):
        assert refused(Certificate(0b111, signatures)).startswith("bad-certificate: signature of validator")


def test_one_bad_signature_spoils_a_certificate_that_has_enough_others() -> None:
    first, second, third, fourth = signed_by(0, 1, 2, 3).signatures
    cases = [
        (bytes(64), "s is zero or above half the group order"),
        (fourth[:-1], "expected 64 bytes, got 63"),
        (fourth + b"\0", "expected 64 bytes, got 65"),
        (bytes(32) + fourth[32:], "r is zero or not below the group order"),
        (fourth[:32] + (GROUP_ORDER // 2 + 1).to_bytes(32, "big"), "s is zero or above half the group order"),
    ]
    for bad, detail in cases:
        assert refused(Certificate(0b1111, (first, second, third, bad))) == (
            f"bad-certificate: signature of validator 3: {detail}"
        )


def test_certificates_are_read_from_their_exact_length() -> None:
    raw = signed_by(0, 1, 2).encode()
    assert Certificate.decode(raw) == signed_by(0, 1, 2)
    for bad, detail in [
        (b"", "expected a bitmap of 32 bytes, got 0 bytes in all"),
        (raw[:-1], "its bitmap names 3 signatures, so 224 bytes, got 223"),
        (raw + b"\0", "its bitmap names 3 signatures, so 224 bytes, got 225"),
        (b"\x80" + raw[1:], "its bitmap names 4 signatures, so 288 bytes, got 224"),
    ]:
        with pytest.raises(Rejection) as rejection:
            Certificate.decode(bad)
        assert str(rejection.value) == f"bad-certificate: {detail}"
    largest = Certificate((1 << 256) - 1, (bytes(64),) * 256)
    assert len(largest.encode()) == MAX_CERTIFICATE_BYTES
    assert Certificate.decode(largest.encode()) == largest


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300) | st.binary(max_size=64 * 3).map(lambda tail: bytes(31) + b"\x07" + tail))
def test_random_bytes_are_a_certificate_or_rejected(raw: bytes) -> None:
    try:
        certificate = Certificate.decode(raw)
    except Rejection:
        return
    assert certificate.encode() == raw
    refused(certificate)


def validators(count: int) -> list[Validator]:
    return [Validator(Address(number.to_bytes(20, "big")), number) for number in range(1, count + 1)]


def test_a_validator_set_holds_1_to_256() -> None:
    full = ValidatorSet(tuple(validators(MAX_VALIDATORS)))
    assert ValidatorSet.decode(full.encode()) == full
    assert (len(full), full.index_of(bytes(19) + b"\x05"), full.index_of(bytes(20))) == (256, 4, None)
    for count in (0, MAX_VALIDATORS + 1):
        with pytest.raises(Rejection) as rejection:
            ValidatorSet(tuple(validators(count)))
        assert str(rejection.value) == f"bad-certificate: validator set: expected 1 to 256 validators, got {count}"


@pytest.mark.parametrize(
    ("records", "detail"),
    [
        ([(2, 1), (1, 1)], f"expected distinct ascending addresses, none zero, got 0x{1:040x}"),
        ([(1, 1), (1, 1)], f"expected distinct ascending addresses, none zero, got 0x{1:040x}"),
        ([(0, 1)], f"expected distinct ascending addresses, none zero, got 0x{0:040x}"),
        ([(1, 0)], f"0x{1:040x}: expected a power of 1..2^64-1, got 0"),
    ],
)
def test_validators_ascend_and_none_is_zero(records: list[tuple[int, int]], detail: str) -> None:
    raw = b"".join(address.to_bytes(20, "big") + power.to_bytes(8, "big") for address, power in records)
    with pytest.raises(Rejection) as rejection:
        ValidatorSet.decode(raw)
    assert str(rejection.value) == f"bad-certificate: validator set: {detail}"


def test_a_power_above_64_bits_and_short_addresses_are_refused() -> None:
    for validator, detail in [
        (Validator(Address(b"\x01" * 20), 1 << 64), f"0x{'01' * 20}: expected a power of 1..2^64-1, got {1 << 64}"),
        (Validator(Address(b"\x01" * 19), 1), "expected addresses of 20 bytes, got 19"),
    ]:
        with pytest.raises(Rejection) as rejection:
            ValidatorSet((validator,))
        assert str(rejection.value) == f"bad-certificate: validator set: {detail}"


def test_records_come_whole() -> None:
    raw = FOUR.encode()
    for bad in (b"", raw[:-1], raw + b"\0", bytes(28 * 257)):
        with pytest.raises(Rejection) as rejection:
            ValidatorSet.decode(bad)
        assert str(rejection.value) == (
            f"bad-certificate: validator set: expected 1 to 256 records of 28 bytes, got {len(bad)} bytes"
        )


def test_only_secp256k1_signs_headers() -> None:
    with pytest.raises(ValueError, match="only secp256k1 signs digests, not ed25519"):
        sign_header(private_key(KeyKind.ED25519, bytes(32)), HEADER)
    assert is_signed_by(KEYS[0].address, header_digest(HEADER), sign_header(KEYS[0], HEADER))
