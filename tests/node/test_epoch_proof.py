"""What leads from one epoch's validators to the next: an honest proof; every other is refused with its reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from mpisa.node.epoch_proof import (
    MAX_STATE_KEY_BYTES,
    MAX_VALUE_BYTES,
    Entry,
    EpochProof,
    prove_entries,
    verify_epoch_proof,
)
from mpisa.node.epoch_record import EpochRecord
from mpisa.node.snapshots import MAX_EPOCHS, decode_epochs
from mpisa.primitives import codec, merkle
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.header import MAX_VALIDATORS, Certificate, Header, make_certificate, sign_header
from mpisa.primitives.identifiers import Epoch, Height
from mpisa.primitives.keys import KeyKind, PrivateKey
from mpisa.primitives.state_keys import validator_key, validators_key
from mpisa.primitives.validator_record import ValidatorRecord
from tests.node.cluster import key_of

CHAIN, OTHER_CHAIN = b"c" * 32, b"o" * 32
QUORUM = 3


def keys_of(name: str) -> list[PrivateKey]:
    """Four certificate keys, ascending by address."""
    keys = [key_of(f"{name} {number}", KeyKind.SECP256K1) for number in range(4)]
    return sorted(keys, key=lambda key: key.public_key.address)


def records_of(name: str) -> tuple[ValidatorRecord, ...]:
    return tuple(
        ValidatorRecord(f"{name}{at}", key.public_key.address, 1, bytes([at + 1]) * 32, f"peer {name} {at}")
        for at, key in enumerate(keys_of(name))
    )


def record(epoch: int, name: str) -> EpochRecord:
    """The epoch of this set, which began above height 10 * epoch."""
    return EpochRecord(Epoch(epoch), Height(10 * epoch), b"", records_of(name))


def certify(header: Header, name: str, signers: int = QUORUM) -> Certificate:
    return make_certificate({at: sign_header(key, header) for at, key in enumerate(keys_of(name)[:signers])})


def state_of(name: str) -> dict[bytes, bytes]:
    """A state with this validator set, and something else."""
    found = {validator_key(item.address): item.encode() for item in records_of(name)}
    addresses = codec.encode(tuple(item.address for item in records_of(name)))
    return found | {validators_key(): addresses, b"something": b"else"}


def proof_of(epoch: int, old: str, new: str, chain_hash: bytes = CHAIN) -> EpochProof:
    """`old` closes the epoch at height 10 * (epoch + 1) and hands over to `new`."""
    state = state_of(new)
    tree = merkle.build(state)
    header = Header(
        chain_hash=chain_hash,
        height=Height(10 * (epoch + 1)),
        time_ms=1_000 * (epoch + 1),
        epoch=Epoch(epoch),
        first_commit=1,
        last_commit=20,
        previous=b"p" * 32,
        commit_digest=b"d" * 32,
        window_root=b"w" * 32,
        tx_root=b"t" * 32,
        receipts_root=b"r" * 32,
        state_root=merkle.root_hash(tree),
        validators_hash=record(epoch, old).validator_set.hash,
        next_validators_hash=record(epoch + 1, new).validator_set.hash,
    )
    entries = prove_entries([item.address for item in records_of(new)], state.get, lambda key: merkle.prove(tree, key))
    return EpochProof(header, certify(header, old), entries)


def reason_of(proof: EpochProof, known: EpochRecord) -> tuple[RejectionReason, str]:
    with pytest.raises(Rejection) as caught:
        verify_epoch_proof(proof, known, CHAIN)
    return caught.value.reason, str(caught.value)


def test_an_honest_chain_of_proofs_leads_to_a_wholly_disjoint_set_and_back() -> None:
    known = record(0, "a")
    for epoch, (old, new) in enumerate([("a", "b"), ("b", "c"), ("c", "a")]):
        known = verify_epoch_proof(proof_of(epoch, old, new), known, CHAIN)
        assert known == record(epoch + 1, new)
        assert EpochProof.from_value(proof_of(epoch, old, new).to_value()) == proof_of(epoch, old, new)


def test_a_missing_link_is_refused() -> None:
    assert reason_of(proof_of(1, "b", "c"), record(0, "a")) == (
        RejectionReason.WRONG_EPOCH,
        "wrong-epoch: epoch proof: expected a header of epoch 0 above height 0, got epoch 1, height 20",
    )


def test_proofs_in_another_order_are_refused_even_where_the_same_set_comes_back() -> None:
    proofs = [proof_of(0, "a", "b"), proof_of(1, "b", "a"), proof_of(2, "a", "c")]
    assert reason_of(proofs[2], record(0, "a"))[0] is RejectionReason.WRONG_EPOCH
    assert reason_of(proofs[0], record(2, "a"))[0] is RejectionReason.WRONG_EPOCH
    assert verify_epoch_proof(proofs[0], record(0, "a"), CHAIN) == record(1, "b")


def test_a_header_at_or_below_the_beginning_of_its_epoch_is_refused() -> None:
    known = replace(record(1, "b"), base=Height(20))
    assert reason_of(proof_of(1, "b", "c"), known) == (
        RejectionReason.WRONG_EPOCH,
        "wrong-epoch: epoch proof: expected a header of epoch 1 above height 20, got epoch 1, height 20",
    )


def test_another_chain_of_the_same_validators_is_refused() -> None:
    """A devnet made anew with the same keys: everything in the proof is signed by the right set."""
    assert reason_of(proof_of(0, "a", "b", OTHER_CHAIN), record(0, "a")) == (
        RejectionReason.WRONG_CHAIN,
        f"wrong-chain: epoch proof: expected a header of chain {CHAIN.hex()}, got {OTHER_CHAIN.hex()}",
    )


def test_another_anchor_is_refused() -> None:
    """The proof of a chain that began with another set."""
    proof, known = proof_of(0, "b", "c"), record(0, "a")
    assert reason_of(proof, known) == (
        RejectionReason.BAD_CERTIFICATE,
        f"bad-certificate: expected the validator set {proof.header.validators_hash.hex()}, "
        f"got {known.validator_set.hash.hex()}",
    )


def certified_by(name: str, signers: int = QUORUM) -> Callable[[EpochProof], EpochProof]:
    return lambda proof: replace(proof, certificate=certify(proof.header, name, signers))


def with_header(**fields: object) -> Callable[[EpochProof], EpochProof]:
    """Another header, signed by the set that has to."""

    def change(proof: EpochProof) -> EpochProof:
        header = replace(proof.header, **fields)  # type: ignore[arg-type]
        return replace(proof, header=header, certificate=certify(header, "a"))

    return change


def unsigned(proof: EpochProof) -> EpochProof:
    """Another header under the honest one's certificate."""
    return replace(proof, header=replace(proof.header, state_root=b"s" * 32))


def stray_signer(proof: EpochProof) -> EpochProof:
    return replace(proof, certificate=replace(proof.certificate, bitmap=proof.certificate.bitmap | 1 << 4))


def entries_of(name: str) -> Callable[[EpochProof], EpochProof]:
    """The entries of another state."""
    return lambda proof: replace(proof, entries=proof_of(0, "a", name).entries)


def another_value(proof: EpochProof) -> EpochProof:
    first, second, *rest = proof.entries
    richer = replace(records_of("b")[0], power=100).encode()
    return replace(proof, entries=(first, replace(second, value=richer), *rest))


def without_a_validator(proof: EpochProof) -> EpochProof:
    return replace(proof, entries=proof.entries[:-1])


def without_the_list(proof: EpochProof) -> EpochProof:
    return replace(proof, entries=proof.entries[1:])


def an_absence(proof: EpochProof) -> EpochProof:
    """A proof that a key isn't there, for one that is said to be there."""
    absent = merkle.prove(merkle.build(state_of("b")), b"nothing")
    return replace(proof, entries=(*proof.entries, Entry(b"nothing", b"", absent.encode())))


def no_proof(proof: EpochProof) -> EpochProof:
    first, *rest = proof.entries
    return replace(proof, entries=(replace(first, proof=b"\xff" * 40), *rest))


def proven_set_of(name: str) -> Callable[[EpochProof], EpochProof]:
    """The header's state holds one set, the header names another: both signed by the right validators."""
    other = proof_of(0, "a", name)

    def change(proof: EpochProof) -> EpochProof:
        header = replace(other.header, next_validators_hash=proof.header.next_validators_hash)
        return EpochProof(header, certify(header, "a"), other.entries)

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(certified_by("b"), RejectionReason.BAD_CERTIFICATE, id="certificate of the next set"),
        pytest.param(certified_by("a", 2), RejectionReason.NO_QUORUM, id="too few signatures"),
        pytest.param(unsigned, RejectionReason.BAD_CERTIFICATE, id="another header"),
        pytest.param(stray_signer, RejectionReason.BAD_CERTIFICATE, id="a signer beyond the set"),
        pytest.param(with_header(next_validators_hash=bytes(32)), RejectionReason.BAD_HEADER, id="closes no epoch"),
        pytest.param(with_header(state_root=b"s" * 32), RejectionReason.BAD_PROOF, id="another state"),
        pytest.param(with_header(state_root=bytes(32)), RejectionReason.BAD_PROOF, id="no state"),
        pytest.param(entries_of("c"), RejectionReason.BAD_PROOF, id="entries of another state"),
        pytest.param(another_value, RejectionReason.BAD_PROOF, id="another value"),
        pytest.param(without_a_validator, RejectionReason.BAD_PROOF, id="a validator left out"),
        pytest.param(without_the_list, RejectionReason.BAD_PROOF, id="the list left out"),
        pytest.param(an_absence, RejectionReason.BAD_PROOF, id="a proof of absence"),
        pytest.param(no_proof, RejectionReason.MALFORMED, id="no proof"),
        pytest.param(proven_set_of("c"), RejectionReason.BAD_PROOF, id="another set than the header names"),
    ],
)
def test_what_the_set_before_did_not_certify_is_refused(
    change: Callable[[EpochProof], EpochProof], reason: RejectionReason
) -> None:
    assert reason_of(change(proof_of(0, "a", "b")), record(0, "a"))[0] is reason


def test_what_is_too_long_is_refused_before_anything_is_verified() -> None:
    proof = proof_of(0, "a", "b")
    assert decode_epochs(codec.encode((proof.to_value(),))) == (proof,)
    entry = proof.entries[0]
    for hostile in (
        (proof.to_value(),) * (MAX_EPOCHS + 1),
        (replace(proof, entries=(entry,) * (MAX_VALIDATORS + 2)).to_value(),),
        (replace(proof, entries=(replace(entry, key=bytes(MAX_STATE_KEY_BYTES + 1)),)).to_value(),),
        (replace(proof, entries=(replace(entry, value=bytes(MAX_VALUE_BYTES + 1)),)).to_value(),),
    ):
        with pytest.raises(Rejection) as caught:
            decode_epochs(codec.encode(hostile))
        assert caught.value.reason is RejectionReason.TOO_LARGE


def test_bytes_that_are_no_proof_are_refused() -> None:
    raw = codec.encode((proof_of(0, "a", "b").to_value(),))
    for hostile in (b"", raw[:-1], raw + b"\x00", b"\xc1" * 40, codec.encode(1), codec.encode(((b"", b""),))):
        with pytest.raises(Rejection):
            decode_epochs(hostile)
