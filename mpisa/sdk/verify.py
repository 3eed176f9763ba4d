"""Checking what a node says, without trusting it. Pure: bytes in, a verdict out. This file is meant to be audited.

What is trusted is a genesis document, known beforehand: it names the chain and its first validators. Then
  a header     counts when more than 2/3 of its validator set signed it, and that set is the one the chain names;
  a chain      counts when each header names the hash of the one before, heights and commits go on without a gap, time
               only rises, and the set changes only where a closing header names the next one;
  a state      entry counts when the map proof leads from it to the state root of such a header.
Anything else raises IntegrityError naming the check that failed. Non-goals: freshness (a node may show an old head) and
what a record claims (the ledger proves who claimed it and when, not that it is true).
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import IntegrityError, Rejection
from mpisa.primitives.genesis import Genesis
from mpisa.primitives.genesis_state import genesis_header
from mpisa.primitives.header import Certificate, Header, ValidatorSet, verify_certificate
from mpisa.primitives.identifiers import Address, format_address
from mpisa.primitives.merkle import MapProof, verify_absence, verify_membership
from mpisa.primitives.record import StoredRecord
from mpisa.primitives.state_keys import record_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True, slots=True)
class TrustedChain:
    """What is taken as given: a chain's identity, its header of height 0, the validators of its first epoch."""

    chain_id: str
    chain_hash: bytes
    genesis_hash: bytes
    genesis_header: Header
    validators: ValidatorSet

    @classmethod
    def from_genesis(cls, document: str) -> TrustedChain:
        """From the text of a genesis document; raises Rejection for a text that isn't one."""
        genesis = Genesis.from_json(document)
        header = genesis_header(genesis)
        return cls(genesis.chain_id, header.chain_hash, genesis.hash, header, genesis.validator_set)


@dataclass(frozen=True, slots=True)
class StateProofBundle:
    """A state entry with all that shows it: `value` None claims that there is nothing under `key`."""

    header: Header
    certificate: Certificate | None
    validators: ValidatorSet
    key: bytes
    value: bytes | None
    proof: MapProof


@dataclass(frozen=True, slots=True)
class CheckDone:
    """One check that passed: its name, and what was found."""

    name: str
    found: str


@dataclass(frozen=True, slots=True)
class Position:
    """How far a chain has been followed: the last header that counted, and the set that must certify the next."""

    header: Header
    validators_hash: bytes


def verify_genesis_header(chain: TrustedChain, header: Header) -> Position:
    """The header of height 0 against the one that the genesis document determines, field by field."""
    for field in fields(Header):
        wanted, got = getattr(chain.genesis_header, field.name), getattr(header, field.name)
        name = field.name.replace("_", " ")
        _require(wanted == got, f"genesis header: {name}", f"expected {_show(wanted)}, got {_show(got)}")
    return Position(header, chain.validators.hash)


def verify_next_header(
    chain: TrustedChain, position: Position, header: Header, certificate: Certificate | None, validators: ValidatorSet
) -> Position:
    """One more header above `position`: its link, its order, its validator set and its certificate."""
    last = position.header
    where = f"header {last.height + 1}"
    _require(
        header.height == last.height + 1, f"{where}: gap", f"expected height {last.height + 1}, got {header.height}"
    )
    _require(header.chain_hash == chain.chain_hash, f"{where}: chain", "it belongs to another chain")
    _require(
        header.previous == last.hash,
        f"{where}: link",
        f"it names {header.previous.hex()} as the one before, that is {last.hash.hex()}",
    )
    _require(header.time_ms > last.time_ms, f"{where}: time", f"{header.time_ms} ms isn't above {last.time_ms} ms")
    _require(
        header.first_commit == last.last_commit + 1 and header.last_commit >= header.first_commit,
        f"{where}: commits",
        f"expected to go on from {last.last_commit}, got {header.first_commit} to {header.last_commit}",
    )
    epoch = last.epoch + 1 if last.closes_epoch else last.epoch
    _require(header.epoch == epoch, f"{where}: epoch", f"expected {epoch}, got {header.epoch}")
    _require(
        header.validators_hash == position.validators_hash,
        f"{where}: validator set",
        f"expected {position.validators_hash.hex()}, got {header.validators_hash.hex()}",
    )
    _verify_certificate(header, certificate, validators, where)
    following = header.next_validators_hash if header.closes_epoch else header.validators_hash
    return Position(header, following)


def verify_headers(
    chain: TrustedChain,
    headers: Iterable[tuple[Header, Certificate | None]],
    validators: ValidatorSet,
    position: Position | None = None,
) -> Position:
    """Consecutive headers, from genesis unless `position` is given; returns the new position."""
    for header, certificate in headers:
        if position is None:
            position = verify_genesis_header(chain, header)
        else:
            position = verify_next_header(chain, position, header, certificate, validators)
    if position is None:
        raise IntegrityError("header 0: check 'gap' failed: there are no headers")
    return position


def verify_state_proof(chain: TrustedChain, bundle: StateProofBundle) -> tuple[CheckDone, ...]:
    """An entry of the state, or its absence, under a certified header of the trusted validators' epoch."""
    header = bundle.header
    where = f"header {header.height}"
    _require(header.chain_hash == chain.chain_hash, f"{where}: chain", "it belongs to another chain")
    _require(
        header.validators_hash == chain.validators.hash,
        f"{where}: validator set",
        f"expected {chain.validators.hash.hex()}, got {header.validators_hash.hex()}",
    )
    _require(header.height > 0, f"{where}: certificate", "nothing is certified at height 0: wait for a chain block")
    _verify_certificate(header, bundle.certificate, bundle.validators, where)
    assert bundle.certificate is not None
    with _named(f"{where}: state proof"):
        if bundle.value is None:
            verify_absence(header.state_root, bundle.key, bundle.proof)
        else:
            verify_membership(header.state_root, bundle.key, bundle.value, bundle.proof)
    signers = len(bundle.certificate.signatures)
    return (
        CheckDone("chain", f"{chain.chain_id}, chain hash {chain.chain_hash.hex()}"),
        CheckDone("validator set", f"{len(bundle.validators)} validators, set {header.validators_hash.hex()}"),
        CheckDone("certificate", f"height {header.height} signed by {signers} of {len(bundle.validators)} validators"),
        CheckDone(
            "state proof", f"{'absent from' if bundle.value is None else 'under'} root {header.state_root.hex()}"
        ),
    )


def verify_record(
    chain: TrustedChain, cid: Cid, publisher: Address, bundle: StateProofBundle
) -> tuple[StoredRecord, tuple[CheckDone, ...]]:
    """A provenance record: its state proof, and that it is about this CID and by this publisher."""
    key = record_key(cid, publisher)
    _require(bundle.key == key, "record: key", "the proof is of another state entry")
    if bundle.value is None:
        raise IntegrityError("record: check 'state proof' failed: the node proves that there is no such record")
    checks = verify_state_proof(chain, bundle)
    with _named("record: content"):
        stored = StoredRecord.decode(bundle.value)
    _require(stored.record.subject == cid, "record: subject", f"expected {cid}, got {stored.record.subject}")
    _require(stored.publisher == publisher, "record: publisher", f"expected {format_address(publisher)}")
    _require(stored.height <= bundle.header.height, "record: height", f"{stored.height} is above the header's")
    found = f"{stored.record.kind.value} of {stored.record.size} bytes by {format_address(publisher)}"
    return stored, (*checks, CheckDone("record", found))


def _verify_certificate(header: Header, certificate: Certificate | None, validators: ValidatorSet, where: str) -> None:
    if certificate is None:
        raise IntegrityError(f"{where}: check 'certificate' failed: there is none")
    with _named(f"{where}: certificate"):
        verify_certificate(header, certificate, validators)


def _require(holds: bool, what: str, found: str) -> None:
    if not holds:
        where, _, check = what.rpartition(": ")
        raise IntegrityError(f"{where}: check '{check}' failed: {found}", hint="don't trust this node's answers")


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Let a rejection from below name the check it belongs to."""
    try:
        yield
    except Rejection as error:
        _require(False, what, str(error))


def _show(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
