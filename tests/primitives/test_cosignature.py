"""Co-signatures of closing headers: who may give one, and what they add up to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mpisa.primitives.cosignature import Cosignature, cosign, cosigned_power
from mpisa.primitives.digest import ZERO_DIGEST, sha256
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.header import Header, Validator, ValidatorSet
from mpisa.primitives.identifiers import Address, Epoch, Height, format_address
from mpisa.primitives.keys import KeyKind, PrivateKey, PublicKey, private_key

KEYS = {
    Address(bytes((number,)) * 20): private_key(KeyKind.ML_DSA_65, sha256(bytes((number,)))) for number in (1, 2, 3)
}
ADDRESSES = sorted(KEYS)
VALIDATORS = ValidatorSet(tuple(Validator(address, power) for address, power in zip(ADDRESSES, (1, 2, 4), strict=True)))
PUBLIC: dict[Address, PublicKey] = {address: key.public_key for address, key in KEYS.items()}
CLOSING = Header(
    chain_hash=sha256(b"chain"),
    height=Height(7),
    time_ms=1,
    epoch=Epoch(2),
    first_commit=1,
    last_commit=1,
    previous=ZERO_DIGEST,
    commit_digest=ZERO_DIGEST,
    window_root=ZERO_DIGEST,
    tx_root=ZERO_DIGEST,
    receipts_root=ZERO_DIGEST,
    state_root=ZERO_DIGEST,
    validators_hash=VALIDATORS.hash,
    next_validators_hash=sha256(b"next"),
)


def signed(*numbers: int, header: Header = CLOSING) -> list[Cosignature]:
    return [cosign(KEYS[ADDRESSES[number]], ADDRESSES[number], header) for number in numbers]


def test_the_power_behind_co_signatures() -> None:
    assert cosigned_power(CLOSING, [], PUBLIC, VALIDATORS) == 0
    assert cosigned_power(CLOSING, signed(0, 2), PUBLIC, VALIDATORS) == 5
    assert cosigned_power(CLOSING, signed(2, 1, 0), PUBLIC, VALIDATORS) == 7


STRANGER = Address(b"\x09" * 20)
WRONG: dict[str, list[Cosignature]] = {
    f"{format_address(STRANGER)} is no validator of epoch 2": [Cosignature(STRANGER, bytes(3309))],
    f"{format_address(ADDRESSES[1])} is there twice": signed(1, 1),
    f"{format_address(ADDRESSES[0])} didn't sign header 7": [
        replace(signed(0)[0], signature=signed(1)[0].signature),
    ],
    f"{format_address(ADDRESSES[2])} didn't sign header 7": signed(2, header=replace(CLOSING, height=Height(8))),
}


@pytest.mark.parametrize("detail", sorted(WRONG))
def test_each_false_one_is_refused(detail: str) -> None:
    with pytest.raises(Rejection) as caught:
        cosigned_power(CLOSING, WRONG[detail], PUBLIC, VALIDATORS)
    assert (caught.value.reason, caught.value.detail) == (RejectionReason.BAD_CERTIFICATE, f"co-signature: {detail}")


def test_a_cut_signature_and_a_missing_key_are_refused() -> None:
    cut = [Cosignature(ADDRESSES[0], signed(0)[0].signature[:-1])]
    with pytest.raises(Rejection, match=r"didn't sign header 7"):
        cosigned_power(CLOSING, cut, PUBLIC, VALIDATORS)
    with pytest.raises(Rejection, match=r"has no ML-DSA-65 key in its record"):
        cosigned_power(CLOSING, signed(0), {}, VALIDATORS)


def test_only_closing_headers_and_only_with_ml_dsa() -> None:
    other: PrivateKey = private_key(KeyKind.ED25519, sha256(b"ed"))
    with pytest.raises(ValueError, match=r"not ed25519"):
        cosign(other, ADDRESSES[0], CLOSING)
    with pytest.raises(ValueError, match=r"header 7 closes no epoch"):
        cosign(KEYS[ADDRESSES[0]], ADDRESSES[0], replace(CLOSING, next_validators_hash=ZERO_DIGEST))
