"""Proofs that somebody holds the keys of a validator (docs/protocol.md, section 15).

Each key signs for its own role, bound to the chain, to the operator that registers it and to the nonce of the
transaction that does: a proof is good for that one transaction, and nobody can register a key that isn't theirs. What
is signed is the domain tag, the chain hash, and `tagged("validator-key", role | operator | nonce u64 | key)`, where
the certificate key is named by its address.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from mpisa.primitives import codec, ed25519, secp256k1
from mpisa.primitives.digest import sha256, tagged
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.identifiers import ADDRESS_BYTES, Address
from mpisa.primitives.keys import (
    ML_DSA_65_KEY_BYTES,
    SIGNATURE_BYTES,
    KeyKind,
    PrivateKey,
    PublicKey,
    signing_message,
)
from mpisa.primitives.validator_record import MAX_PROOF_BYTES, ValidatorRecord


class KeyRole(Enum):
    """What a validator's key is for; the value is the role's byte in what is signed."""

    CONSENSUS = 1
    CERTIFICATE = 2
    POST_QUANTUM = 3

    @property
    def label(self) -> str:
        """The role in words."""
        return _LABELS[self]


_LABELS: Final = {
    KeyRole.CONSENSUS: "consensus key",
    KeyRole.CERTIFICATE: "certificate key",
    KeyRole.POST_QUANTUM: "post-quantum key",
}
_KINDS: Final = {
    KeyRole.CONSENSUS: KeyKind.ED25519,
    KeyRole.CERTIFICATE: KeyKind.SECP256K1,
    KeyRole.POST_QUANTUM: KeyKind.ML_DSA_65,
}
_KEY_BYTES: Final = {
    KeyRole.CONSENSUS: ed25519.KEY_BYTES,
    KeyRole.CERTIFICATE: ADDRESS_BYTES,
    KeyRole.POST_QUANTUM: ML_DSA_65_KEY_BYTES,
}
_ROLES: Final = tuple(KeyRole)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A validator's key as an operation brings it: its bytes (of a certificate key the address) and its signature."""

    key: bytes
    proof: bytes

    def validate(self, role: KeyRole) -> None:
        """Raise Rejection(BAD_KEY) for what can't be a key of this role, MALFORMED for a misshapen proof."""
        name = role.label
        if len(self.key) != _KEY_BYTES[role]:
            raise Rejection(RejectionReason.BAD_KEY, f"{name}: expected {_KEY_BYTES[role]} bytes, got {len(self.key)}")
        if role is KeyRole.CONSENSUS and not ed25519.is_canonical_key(self.key):
            raise Rejection(
                RejectionReason.BAD_KEY, f"{name}: not the canonical encoding of a point, or of small order"
            )
        expected = SIGNATURE_BYTES[_KINDS[role]]
        if len(self.proof) != expected:
            raise Rejection(
                RejectionReason.MALFORMED, f"{name}: expected a proof of {expected} bytes, got {len(self.proof)}"
            )


@dataclass(frozen=True, slots=True)
class KeyProof:
    """A signature of possession with the nonce of the transaction that it was made for."""

    nonce: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class Possession:
    """The proofs that a validator's record carries, one a key; None for a key that the genesis named."""

    consensus: KeyProof | None = None
    certificate: KeyProof | None = None
    post_quantum: KeyProof | None = None

    def encode(self) -> bytes:
        """The record's `proof`: no bytes where there is none at all."""
        proofs = (self.consensus, self.certificate, self.post_quantum)
        if proofs == (None, None, None):
            return b""
        return codec.encode(tuple(None if item is None else (item.nonce, item.signature) for item in proofs))

    @classmethod
    def decode(cls, data: bytes) -> Possession:
        """The inverse of encode; raises Rejection."""
        if not data:
            return cls()
        items = codec.expect_tuple(codec.decode(data, max_bytes=MAX_PROOF_BYTES), "proof", length=len(_ROLES))
        return cls(*(_read_proof(item, role) for item, role in zip(items, _ROLES, strict=True)))


def possession_message(role: KeyRole, chain_hash: bytes, operator: Address, nonce: int, key: bytes) -> bytes:
    """The bytes that a validator's key signs."""
    digest = tagged("validator-key", bytes((role.value,)), operator, nonce.to_bytes(8, "big"), key)
    return signing_message("validator-key", chain_hash, digest)


def prove_possession(key: PrivateKey, role: KeyRole, chain_hash: bytes, operator: Address, nonce: int) -> NewKey:
    """The key with its proof, for the operator's transaction with this nonce. Raises ValueError for another kind."""
    if key.kind is not _KINDS[role]:
        raise ValueError(f"{role.label}: expected a key of kind {_KINDS[role].value}, got {key.kind.value}")
    name = key.address if role is KeyRole.CERTIFICATE else key.public_key.data
    return NewKey(name, key.sign(possession_message(role, chain_hash, operator, nonce, name)))


def is_possessed(role: KeyRole, key: bytes, signature: bytes, chain_hash: bytes, operator: Address, nonce: int) -> bool:
    """Whether the key itself made the signature for this transaction."""
    message = possession_message(role, chain_hash, operator, nonce, key)
    if role is KeyRole.CERTIFICATE:
        try:
            return secp256k1.recover_address(sha256(message), signature) == key
        except Rejection:
            return False
    return PublicKey(_KINDS[role], key).verify(message, signature)


def verify_record(record: ValidatorRecord, chain_hash: bytes) -> tuple[KeyRole, ...]:
    """Check the proofs in a record of the state, and give the roles whose key has one.

    Those of keys that the genesis document named have none. Raises Rejection(BAD_POSSESSION) for a false one.
    """
    possession = Possession.decode(record.proof)
    proven = []
    for role, key, proof in (
        (KeyRole.CONSENSUS, record.consensus_key, possession.consensus),
        (KeyRole.CERTIFICATE, record.address, possession.certificate),
        (KeyRole.POST_QUANTUM, record.post_quantum_key, possession.post_quantum),
    ):
        if proof is None:
            continue
        if not is_possessed(role, key, proof.signature, chain_hash, record.operator, proof.nonce):
            raise Rejection(RejectionReason.BAD_POSSESSION, f"{record.name}: the {role.label} didn't make its proof")
        proven.append(role)
    return tuple(proven)


def _read_proof(value: codec.Value, role: KeyRole) -> KeyProof | None:
    if value is None:
        return None
    nonce, signature = codec.expect_tuple(value, "proof", length=2)
    length = SIGNATURE_BYTES[_KINDS[role]]
    return KeyProof(codec.expect_int(nonce, "proof.nonce"), codec.expect_bytes(signature, "proof", length=length))
