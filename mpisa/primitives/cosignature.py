"""Co-signatures: closing headers signed a second time, with keys that outlast quantum computers.

A certificate is made of secp256k1 signatures, since an EVM contract can check those. Who breaks that curve one day
could sign a false closing header of an old epoch, and lead a client that follows the chain from genesis astray. A
validator with an ML-DSA-65 key in its record signs each closing header with that one too. Optional: a client checks
what it is shown, and decides how much co-signed power it asks for (docs/protocol.md, section 17).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.header import Header, ValidatorSet, header_hash
from mpisa.primitives.identifiers import Address, format_address
from mpisa.primitives.keys import ML_DSA_65_SIGNATURE_BYTES, KeyKind, PrivateKey, PublicKey, signing_message

COSIGNATURE_TAG: Final = "closing"


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A validator's ML-DSA-65 signature (3,309 bytes) of a closing header; `address` is that of its certificate key."""

    address: Address
    signature: bytes


def cosigned_message(header: Header) -> bytes:
    """The bytes that a co-signature is over: tag, chain hash, header hash."""
    return signing_message(COSIGNATURE_TAG, header.chain_hash, header_hash(header))


def cosign(key: PrivateKey, address: Address, header: Header) -> Cosignature:
    """The co-signature of a closing header. Raises ValueError for another kind of key, or of header: our own bug."""
    if key.kind is not KeyKind.ML_DSA_65:
        raise ValueError(f"closing headers are co-signed with ML-DSA-65, not {key.kind.value}")
    if not header.closes_epoch:
        raise ValueError(f"header {header.height} closes no epoch")
    return Cosignature(address, key.sign(cosigned_message(header)))


def cosigned_power(
    header: Header, cosignatures: Iterable[Cosignature], keys: Mapping[Address, PublicKey], validators: ValidatorSet
) -> int:
    """The power of the validators that co-signed; `keys` are the ML-DSA-65 keys of those that have one.

    Raises Rejection: BAD_CERTIFICATE where one is by no member, by one without such a key, there twice, or false.
    """
    message = cosigned_message(header)
    seen: set[Address] = set()
    power = 0
    for item in cosignatures:
        index = validators.index_of(item.address)
        who = format_address(item.address)
        if index is None:
            raise _bad(f"{who} is no validator of epoch {header.epoch}")
        if item.address in seen:
            raise _bad(f"{who} is there twice")
        key = keys.get(item.address)
        if key is None or key.kind is not KeyKind.ML_DSA_65:
            raise _bad(f"{who} has no ML-DSA-65 key in its record")
        if len(item.signature) != ML_DSA_65_SIGNATURE_BYTES or not key.verify(message, item.signature):
            raise _bad(f"{who} didn't sign header {header.height}")
        seen.add(item.address)
        power += validators.validators[index].power
    return power


def _bad(detail: str) -> Rejection:
    return Rejection(RejectionReason.BAD_CERTIFICATE, f"co-signature: {detail}")
