"""Proofs of possession: bytes another implementation can make again, bound to everything they are about."""

import hashlib
from dataclasses import replace

import pytest

from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.identifiers import Address
from mpisa.primitives.keys import KeyKind, private_key
from mpisa.primitives.possession import (
    KeyProof,
    KeyRole,
    NewKey,
    Possession,
    is_possessed,
    possession_message,
    prove_possession,
)

CHAIN = bytes(range(32))
OPERATOR = Address(bytes(range(20)))
KEYS = {
    KeyRole.CONSENSUS: private_key(KeyKind.ED25519, bytes([1]) * 32),
    KeyRole.CERTIFICATE: private_key(KeyKind.SECP256K1, bytes([2]) * 32),
    KeyRole.POST_QUANTUM: private_key(KeyKind.ML_DSA_65, bytes([3]) * 32),
}


def test_the_message_is_what_the_protocol_says():
    key = KEYS[KeyRole.CONSENSUS].public_key.data
    fields = b"\x01" + OPERATOR + (7).to_bytes(8, "big") + key
    digest = hashlib.sha256(b"MPISA/validator-key/1\0" + fields).digest()
    assert possession_message(KeyRole.CONSENSUS, CHAIN, OPERATOR, 7, key) == b"MPISA/validator-key/1\0" + CHAIN + digest
    assert [role.value for role in KeyRole] == [1, 2, 3]


@pytest.mark.parametrize("role", list(KeyRole))
def test_a_proof_is_good_for_its_own_key_role_operator_nonce_and_chain(role):
    new = prove_possession(KEYS[role], role, CHAIN, OPERATOR, 7)
    assert is_possessed(role, new.key, new.proof, CHAIN, OPERATOR, 7)
    assert not is_possessed(role, new.key, new.proof, CHAIN, OPERATOR, 8)
    assert not is_possessed(role, new.key, new.proof, bytes(32), OPERATOR, 7)
    assert not is_possessed(role, new.key, new.proof, CHAIN, Address(bytes(20)), 7)
    assert not is_possessed(role, new.key, new.proof[:-1], CHAIN, OPERATOR, 7)
    assert not is_possessed(role, new.key, bytes(len(new.proof)), CHAIN, OPERATOR, 7)


def test_one_keys_proof_for_a_role_is_none_for_another():
    """An Ed25519 key signs as an account's key elsewhere; a role of its own keeps the two apart."""
    new = prove_possession(KEYS[KeyRole.CONSENSUS], KeyRole.CONSENSUS, CHAIN, OPERATOR, 7)
    other = possession_message(KeyRole.POST_QUANTUM, CHAIN, OPERATOR, 7, new.key)
    assert not KEYS[KeyRole.CONSENSUS].public_key.verify(other, new.proof)


def test_the_certificate_key_is_named_by_its_address():
    key = KEYS[KeyRole.CERTIFICATE]
    assert prove_possession(key, KeyRole.CERTIFICATE, CHAIN, OPERATOR, 0).key == key.address


@pytest.mark.parametrize(
    ("role", "kind", "message"),
    [
        (KeyRole.CONSENSUS, KeyKind.SECP256K1, "consensus key: expected a key of kind ed25519, got secp256k1"),
        (KeyRole.CERTIFICATE, KeyKind.ED25519, "certificate key: expected a key of kind secp256k1, got ed25519"),
        (KeyRole.POST_QUANTUM, KeyKind.ED25519, "post-quantum key: expected a key of kind ml-dsa-65, got ed25519"),
    ],
)
def test_a_key_of_another_kind_is_our_own_bug(role, kind, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        prove_possession(private_key(kind, bytes([9]) * 32), role, CHAIN, OPERATOR, 0)


@pytest.mark.parametrize(
    ("role", "new", "message"),
    [
        (KeyRole.CONSENSUS, NewKey(bytes(31), bytes(64)), "bad-key: consensus key: expected 32 bytes, got 31"),
        (
            KeyRole.CONSENSUS,
            NewKey(bytes(32), bytes(64)),
            "bad-key: consensus key: not the canonical encoding of a point, or of small order",
        ),
        (KeyRole.CERTIFICATE, NewKey(bytes(33), bytes(64)), "bad-key: certificate key: expected 20 bytes, got 33"),
        (
            KeyRole.CERTIFICATE,
            NewKey(bytes(20), bytes(65)),
            "malformed: certificate key: expected a proof of 64 bytes, got 65",
        ),
        (KeyRole.POST_QUANTUM, NewKey(bytes(32), b""), "bad-key: post-quantum key: expected 1952 bytes, got 32"),
        (
            KeyRole.POST_QUANTUM,
            NewKey(bytes(1952), bytes(64)),
            "malformed: post-quantum key: expected a proof of 3309 bytes, got 64",
        ),
    ],
)
def test_misshapen_keys_and_proofs_are_named(role, new, message):
    with pytest.raises(Rejection) as refusal:
        new.validate(role)
    assert str(refusal.value) == message


def test_proofs_come_back_from_a_records_bytes():
    proofs = {role: KeyProof(3, prove_possession(key, role, CHAIN, OPERATOR, 3).proof) for role, key in KEYS.items()}
    whole = Possession(proofs[KeyRole.CONSENSUS], proofs[KeyRole.CERTIFICATE], proofs[KeyRole.POST_QUANTUM])
    assert Possession.decode(whole.encode()) == whole
    assert len(whole.encode()) < 4_096
    partly = replace(whole, consensus=None)
    assert Possession.decode(partly.encode()) == partly
    assert (Possession().encode(), Possession.decode(b"")) == (b"", Possession())


@pytest.mark.parametrize("data", [b"\x00", b"\x93\xc0\xc0", b"\x93\xc0\xc0\x07", b"\x94\xc0\xc0\xc0\xc0"])
def test_other_bytes_are_no_proofs(data):
    with pytest.raises(Rejection) as refusal:
        Possession.decode(data)
    assert refusal.value.reason is RejectionReason.MALFORMED
