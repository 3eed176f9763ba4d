"""Checking what a node says, without trusting it. Pure: bytes in, a verdict out. This file is meant to be audited.

What is trusted is a genesis document, known beforehand, which names the chain and its first validators; or one later
header, known by its hash. Then
  a header     counts when more than 2/3 of its validator set signed it, and that set is the one the chain names: its
               epoch's, as the closing header of the epoch before names it;
  a chain      counts when each header names the hash of the one before, heights and commits go on without a gap, time
               only rises, and the set changes only where a closing header names the next one;
  a state      entry counts when the map proof leads from it to the state root of such a header.
Anything else raises IntegrityError naming the check that failed. Non-goals: freshness (a node may show an old head) and
what a record claims (the ledger proves who claimed it and when, not that it is true).
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from mpisa.primitives import light
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import IntegrityError, Rejection
from mpisa.primitives.genesis import Genesis
from mpisa.primitives.genesis_state import genesis_header
from mpisa.primitives.header import Certificate, Header, ValidatorSet, verify_certificate
from mpisa.primitives.identifiers import Address, format_address
from mpisa.primitives.keys import KeyKind, PublicKey
from mpisa.primitives.light import CertifiedHeader, LightClient, next_set
from mpisa.primitives.merkle import MapProof, verify_absence, verify_membership
from mpisa.primitives.record import StoredRecord
from mpisa.primitives.state_keys import record_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


@dataclass(frozen=True, slots=True)
class TrustedChain:
    """What is taken as given: a chain's identity, its header of height 0, the validators of its first epoch.

    `anchor` is the header that trust begins with: that of height 0, or a later one whose hash is known by other means.
    `cosigning_keys` are the ML-DSA-65 keys of the first validators that have one.
    """

    chain_id: str
    chain_hash: bytes
    genesis_hash: bytes
    genesis_header: Header
    validators: ValidatorSet
    anchor: Header
    cosigning_keys: Mapping[Address, PublicKey]

    @classmethod
    def from_genesis(cls, document: str) -> TrustedChain:
        """From the text of a genesis document; raises Rejection for a text that isn't one."""
        genesis = Genesis.from_json(document)
        header = genesis_header(genesis)
        keys = {
            item.address: PublicKey(KeyKind.ML_DSA_65, item.post_quantum_key)
            for item in genesis.validators
            if item.post_quantum_key
        }
        return cls(genesis.chain_id, header.chain_hash, genesis.hash, header, genesis.validator_set, header, keys)

    def anchored_at(self, header: Header) -> TrustedChain:
        """The same chain, trusted from this header on; raises IntegrityError for a header of another chain."""
        where = f"header {header.height}"
        _require(header.chain_hash == self.chain_hash, f"{where}: chain", "it belongs to another chain")
        return replace(self, anchor=header)


@dataclass(frozen=True, slots=True)
class Followed:
    """How far a chain was followed by skipping: the highest header that counted, and the set of each epoch passed."""

    client: LightClient
    sets: tuple[tuple[int, bytes], ...]

    @property
    def epoch(self) -> int:
        """The latest epoch whose validators are known."""
        return self.sets[-1][0]


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


def verify_genesis_header(chain: TrustedChain, header: Header) -> Header:
    """The header of height 0 against the one that the genesis document determines, field by field."""
    for field in fields(Header):
        wanted, got = getattr(chain.genesis_header, field.name), getattr(header, field.name)
        name = field.name.replace("_", " ")
        _require(wanted == got, f"genesis header: {name}", f"expected {_show(wanted)}, got {_show(got)}")
    return header


def verify_next_header(
    chain: TrustedChain, last: Header, header: Header, certificate: Certificate | None, validators: ValidatorSet
) -> Header:
    """The header right above `last`: its link, its order, its validator set and its certificate."""
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
    epoch, validators_hash = next_set(last)
    _require(header.epoch == epoch, f"{where}: epoch", f"expected {epoch}, got {header.epoch}")
    _require(
        header.validators_hash == validators_hash,
        f"{where}: validator set",
        f"expected {validators_hash.hex()}, got {header.validators_hash.hex()}",
    )
    _verify_certificate(header, certificate, validators, where)
    return header


def verify_headers(
    chain: TrustedChain,
    headers: Iterable[tuple[Header, Certificate | None]],
    validators: ValidatorSet,
    last: Header | None = None,
) -> Header:
    """Consecutive headers, from genesis on or above `last`; returns the highest."""
    for header, certificate in headers:
        if last is None:
            last = verify_genesis_header(chain, header)
        else:
            last = verify_next_header(chain, last, header, certificate, validators)
    if last is None:
        raise IntegrityError("header 0: check 'gap' failed: there are no headers")
    return last


def begin(chain: TrustedChain) -> Followed:
    """Nothing followed yet: the anchor, its epoch's set, and the next one's where the anchor closes its epoch."""
    sets = {chain.anchor.epoch: chain.anchor.validators_hash} | dict([next_set(chain.anchor)])
    return Followed(LightClient(chain.anchor), tuple(sets.items()))


def follow(followed: Followed, signed: CertifiedHeader, now_ms: int) -> Followed:
    """One more certified header, at any distance inside the epoch, or the first ones of the next.

    Raises IntegrityError naming the check: 'light client' for a header that doesn't count, 'conflict' for two certified
    headers that can't both be true.
    """
    where = f"header {signed.header.height}"
    with _named(f"{where}: light client"):
        client = light.update(followed.client, signed, now_ms)
    _require(client.frozen is None, f"{where}: conflict", f"{client.frozen}; both are certified")
    return Followed(client, tuple((dict(followed.sets) | dict([next_set(client.trusted)])).items()))


def verify_no_fork(followed: Followed, ours: CertifiedHeader, theirs: CertifiedHeader) -> None:
    """Two nodes' headers; raises IntegrityError where quorums signed both and they can't both be true."""
    contradiction = light.conflict_of(ours.header, theirs.header)
    if contradiction is None:
        return
    for signed in (ours, theirs):
        where = f"header {signed.header.height}"
        _require(
            dict(followed.sets).get(signed.header.epoch) == signed.header.validators_hash,
            f"{where}: validator set",
            f"{signed.header.validators_hash.hex()} isn't the one of epoch {signed.header.epoch}",
        )
        _verify_certificate(signed.header, signed.certificate, signed.validators, where)
    _require(False, f"header {theirs.header.height}: conflict", f"{contradiction}; both are certified")


def verify_state_proof(
    chain: TrustedChain, bundle: StateProofBundle, followed: Followed | None = None
) -> tuple[CheckDone, ...]:
    """An entry of the state, or its absence, under a certified header of an epoch whose validators are known."""
    header = bundle.header
    known = begin(chain) if followed is None else followed
    where = f"header {header.height}"
    _require(header.chain_hash == chain.chain_hash, f"{where}: chain", "it belongs to another chain")
    expected = dict(known.sets).get(header.epoch)
    if expected is None:
        raise IntegrityError(
            f"{where}: check 'epoch' failed: {header.epoch} wasn't followed, only {known.sets[0][0]} to {known.epoch}"
        )
    _require(
        header.validators_hash == expected,
        f"{where}: validator set",
        f"expected {expected.hex()}, got {header.validators_hash.hex()}",
    )
    _require(header.height > 0, f"{where}: certificate", "nothing is certified at height 0: wait for a chain block")
    _verify_certificate(header, bundle.certificate, bundle.validators, where)
    assert bundle.certificate is not None
    contradiction = light.conflict_of(known.client.trusted, header)
    _require(contradiction is None, f"{where}: conflict", f"{contradiction}; both are certified")
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
    chain: TrustedChain, cid: Cid, publisher: Address, bundle: StateProofBundle, followed: Followed | None = None
) -> tuple[StoredRecord, tuple[CheckDone, ...]]:
    """A provenance record: its state proof, and that it is about this CID and by this publisher."""
    key = record_key(cid, publisher)
    _require(bundle.key == key, "record: key", "the proof is of another state entry")
    if bundle.value is None:
        raise IntegrityError("record: check 'state proof' failed: the node proves that there is no such record")
    checks = verify_state_proof(chain, bundle, followed)
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
