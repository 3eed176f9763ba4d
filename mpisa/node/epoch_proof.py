"""How a newcomer comes to know an epoch's validators: its predecessor's closing header, and the set proven under it.

The closing block writes the next set into the state, so the records of all validators, keys included, are proven by
membership under the closing header's state root. A node keeps this for every epoch it has seen begin and hands it on:
whoever starts from genesis or from a trusted header follows it, one header an epoch, to the present set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mpisa.ledger.validators import read_validators
from mpisa.node.epoch_record import EpochRecord
from mpisa.primitives import codec
from mpisa.primitives.errors import IntegrityError, Rejection, RejectionReason
from mpisa.primitives.header import (
    HEADER_BYTES,
    MAX_CERTIFICATE_BYTES,
    MAX_VALIDATORS,
    Certificate,
    Header,
    decode_header,
    encode_header,
    verify_certificate,
)
from mpisa.primitives.identifiers import Epoch, Height
from mpisa.primitives.merkle import MAX_PROOF_BYTES, MapProof, verify_membership
from mpisa.primitives.state_keys import validator_key, validators_key
from mpisa.primitives.validator_record import MAX_RECORD_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mpisa.primitives.validator_record import ValidatorRecord

MAX_STATE_KEY_BYTES: Final = 64
MAX_VALUE_BYTES: Final = 2 * MAX_RECORD_BYTES
MAX_EPOCH_PROOF_BYTES: Final = (MAX_VALIDATORS + 1) * (MAX_VALUE_BYTES + MAX_PROOF_BYTES + MAX_STATE_KEY_BYTES + 32)


@dataclass(frozen=True, slots=True)
class Entry:
    """A state entry and the proof that it is one."""

    key: bytes
    value: bytes
    proof: bytes


@dataclass(frozen=True, slots=True)
class EpochProof:
    """The closing header of an epoch, its certificate, and the state entries that make up the next epoch's set."""

    header: Header
    certificate: Certificate
    entries: tuple[Entry, ...]

    def to_value(self) -> codec.Value:
        """As it travels."""
        return encode_header(self.header), self.certificate.encode(), _entries_value(self.entries)

    @classmethod
    def from_value(cls, value: codec.Value) -> EpochProof:
        """The inverse of to_value; raises Rejection. Nothing is verified yet."""
        header, certificate, items = codec.expect_tuple(value, "epoch proof", length=3)
        return cls(
            decode_header(codec.expect_bytes(header, "epoch proof.header", length=HEADER_BYTES)),
            Certificate.decode(
                codec.expect_bytes(certificate, "epoch proof.certificate", max_length=MAX_CERTIFICATE_BYTES)
            ),
            _read_entries(items),
        )


def write_entries(entries: Sequence[Entry]) -> bytes:
    """As they are stored."""
    return codec.encode(_entries_value(entries))


def read_entries(raw: bytes) -> tuple[Entry, ...]:
    """The inverse of write_entries; raises Rejection."""
    return _read_entries(codec.decode(raw, max_bytes=len(raw)))


def _entries_value(entries: Sequence[Entry]) -> codec.Value:
    return tuple((item.key, item.value, item.proof) for item in entries)


def _read_entries(value: codec.Value) -> tuple[Entry, ...]:
    entries = []
    for item in codec.expect_tuple(value, "epoch proof.entries", MAX_VALIDATORS + 1):
        key, data, proof = codec.expect_tuple(item, "epoch proof.entry", length=3)
        entries.append(
            Entry(
                codec.expect_bytes(key, "epoch proof.key", max_length=MAX_STATE_KEY_BYTES),
                codec.expect_bytes(data, "epoch proof.value", max_length=MAX_VALUE_BYTES),
                codec.expect_bytes(proof, "epoch proof.proof", max_length=MAX_PROOF_BYTES),
            )
        )
    return tuple(entries)


def prove_entries(
    addresses: Sequence[bytes], get: Callable[[bytes], bytes | None], prove: Callable[[bytes], MapProof]
) -> tuple[Entry, ...]:
    """The entries of a set, as the state of the closing block holds them."""
    entries = []
    for key in (validators_key(), *(validator_key(address) for address in addresses)):
        value = get(key)
        assert value is not None, "the state holds its validators"
        entries.append(Entry(key, value, prove(key).encode()))
    return tuple(entries)


def verify_epoch_proof(proof: EpochProof, known: EpochRecord, chain_hash: bytes) -> EpochRecord:
    """The record of the epoch behind `known`, whose validators have to have certified its closing header.

    Raises Rejection: WRONG_CHAIN (the same validators may run another chain), WRONG_EPOCH for another epoch's closing
    header (the same set may come back), BAD_HEADER for a header that closes none, BAD_CERTIFICATE, NO_QUORUM,
    BAD_PROOF, and what decoding a proof raises.
    """
    header = proof.header
    if header.chain_hash != chain_hash:
        raise Rejection(
            RejectionReason.WRONG_CHAIN,
            f"epoch proof: expected a header of chain {chain_hash.hex()}, got {header.chain_hash.hex()}",
        )
    if header.epoch != known.epoch or header.height <= known.base:
        raise Rejection(
            RejectionReason.WRONG_EPOCH,
            f"epoch proof: expected a header of epoch {known.epoch} above height {known.base}, "
            f"got epoch {header.epoch}, height {header.height}",
        )
    if not header.closes_epoch:
        raise Rejection(RejectionReason.BAD_HEADER, f"header {header.height}: expected one that closes an epoch")
    verify_certificate(header, proof.certificate, known.validator_set)
    for entry in proof.entries:
        verify_membership(header.state_root, entry.key, entry.value, MapProof.decode(entry.proof))
    record = EpochRecord(Epoch(header.epoch + 1), Height(header.height), b"", read_records(proof))
    named, proven = header.next_validators_hash, record.validator_set.hash
    if proven != named:
        raise Rejection(RejectionReason.BAD_PROOF, f"validators: expected the set {named.hex()}, got {proven.hex()}")
    return record


def read_records(proof: EpochProof) -> tuple[ValidatorRecord, ...]:
    """The validators that the entries make up. Raises Rejection(BAD_PROOF)."""
    try:
        return read_validators({entry.key: entry.value for entry in proof.entries})
    except (IntegrityError, Rejection) as error:
        raise Rejection(RejectionReason.BAD_PROOF, f"the entries make up no validator set: {error}") from None
