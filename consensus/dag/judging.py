"""Judging evidence: is it signed by a member of the epoch that it is about? (docs/protocol.md, section 8)

What it takes besides the bytes is the same on every node of an epoch: the committees of that epoch and of those before
it whose stake still answers, and the heights between which each of them made headers. Older evidence, and evidence
about epochs to come, isn't admissible. How many epochs that are depends on how short they were: thousands, maybe. So
they are looked up one at a time, wherever the chain is kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from consensus.dag.committee import Committee
from consensus.dag.evidence import (
    AboveClosing,
    DoubleHeader,
    DoubleVertex,
    EvidenceKind,
    Proof,
    SignedHash,
    StrayHeader,
    Subject,
    decode_evidence,
    subject_of,
)
from consensus.dag.vertex import VertexHeader, vertex_message
from consensus.parameters import Parameters
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.header import Header, certificate_digest, header_hash, is_signed_by, signed_power
from mpisa.primitives.identifiers import Address, AuthorityIndex, Epoch


@dataclass(frozen=True, slots=True)
class Era:
    """An epoch's committee and the heights of its headers; `last` is None while it runs."""

    committee: Committee
    first: int
    last: int | None = None


def is_admissible(closed_ms: int, opened_ms: int, unbonding_ms: int) -> bool:
    """Whether vertices of an epoch that opened at a time may carry evidence of one that closed at a time before: the
    times of the headers that closed both it and the epoch before the carrying one, so the same for everybody.

    The ledger counts an offence in blocks up to `unbonding_ms` after its epoch closed. No block is older than the epoch
    that it is of, so whatever would count is admissible, however short the epochs in between.
    """
    return opened_ms - closed_ms <= unbonding_ms


class EarlierEras(Protocol):
    """The epochs before one that are admissible in it, as whoever keeps the chain knows them. Any thread."""

    def era_of(self, epoch: int) -> Era | None:
        """The era of an earlier epoch that is admissible (`is_admissible`), else None."""

    def epoch_at(self, height: int) -> Epoch | None:
        """The earlier epoch whose header this height has, whether admissible or not; None where that isn't known."""


@dataclass(frozen=True, slots=True)
class ListedEras:
    """The few that are listed, none but admissible ones."""

    eras: Mapping[Epoch, Era] = field(default_factory=dict)

    def era_of(self, epoch: int) -> Era | None:
        """As EarlierEras."""
        return self.eras.get(Epoch(epoch))

    def epoch_at(self, height: int) -> Epoch | None:
        """As EarlierEras."""
        for epoch, era in self.eras.items():
            if era.first <= height and (era.last is None or height <= era.last):
                return epoch
        return None


NO_ERAS: Final = ListedEras()


@dataclass(frozen=True, slots=True)
class Jurisdiction:
    """What evidence in a vertex of `epoch` is judged by: that epoch's era, as if it ran, and those of the epochs before
    it that are still admissible.
    """

    chain_hash: bytes
    epoch: Epoch
    era: Era
    earlier: EarlierEras = NO_ERAS

    @property
    def committee(self) -> Committee:
        """The committee of the epoch."""
        return self.era.committee

    def find_era(self, epoch: int) -> Era | None:
        """The era of an admissible epoch, else None."""
        return self.era if epoch == self.epoch else self.earlier.era_of(epoch)

    def era_of(self, epoch: int) -> Era:
        """The era of an admissible epoch. Raises Rejection(BAD_EVIDENCE)."""
        era = self.find_era(epoch)
        if era is None:
            raise Rejection(
                RejectionReason.BAD_EVIDENCE, f"evidence of epoch {epoch} isn't admissible in epoch {self.epoch}"
            )
        return era

    def epoch_at(self, height: int) -> Epoch:
        """The epoch whose header this height has. Raises Rejection(BAD_EVIDENCE) where none is known."""
        epoch = self.epoch if height >= self.era.first else self.earlier.epoch_at(height)
        if epoch is None:
            raise Rejection(RejectionReason.BAD_EVIDENCE, f"height {height} is of no admissible epoch")
        return epoch


def jurisdiction_of(committee: Committee, chain_hash: bytes, epoch: Epoch, first: int = 1) -> Jurisdiction:
    """That of an epoch whose headers begin at a height, with no earlier epoch admissible."""
    return Jurisdiction(chain_hash, epoch, Era(committee, first))


@dataclass(frozen=True, slots=True)
class Evidence:
    """An offence: `address` is the authority's in that epoch, position the round (DOUBLE_VERTEX) or the height."""

    kind: EvidenceKind
    epoch: Epoch
    author: AuthorityIndex
    address: Address
    position: int
    raw: bytes


def read_evidence(raw: bytes, jurisdiction: Jurisdiction, parameters: Parameters) -> Evidence:
    """What evidence says that was verified before. Raises Rejection where it can't have been."""
    return _place(decode_evidence(raw, parameters), raw, jurisdiction)


def verify_evidence(raw: bytes, jurisdiction: Jurisdiction, parameters: Parameters) -> Evidence:
    """The evidence of these bytes, every signature in it checked.

    Raises Rejection: BAD_EVIDENCE where it shows no offence or none that is admissible, WRONG_CHAIN, UNKNOWN_AUTHORITY,
    BAD_SIGNATURE, BAD_CERTIFICATE, NO_QUORUM, BAD_HEADER, and what decoding raises.
    """
    proof = decode_evidence(raw, parameters)
    evidence = _place(proof, raw, jurisdiction)
    committee, chain_hash = jurisdiction.era_of(evidence.epoch).committee, jurisdiction.chain_hash
    match proof:
        case DoubleVertex():
            for item in (proof.first, proof.second):
                check_origin(item.header, committee, chain_hash, evidence.epoch, "evidence")
                check_signature(item.id, item.signature, item.header, committee)
        case DoubleHeader():
            for signed in (proof.first, proof.second):
                _check_signed_hash(signed, evidence, chain_hash)
        case AboveClosing():
            _check_above(proof.header, jurisdiction)
            _check_signed_hash(SignedHash(header_hash(proof.header), proof.signature), evidence, chain_hash)
        case StrayHeader():
            _check_signed_hash(proof.stray, evidence, chain_hash)
            digest = certificate_digest(chain_hash, proof.height, proof.header_hash)
            power = signed_power(proof.certificate, digest, committee.validator_set)
            if not committee.is_quorum(power):
                raise Rejection(
                    RejectionReason.NO_QUORUM, f"evidence: power {power} of {committee.total} certifies nothing"
                )
    return evidence


def _place(proof: Proof, raw: bytes, jurisdiction: Jurisdiction) -> Evidence:
    subject: Subject = subject_of(proof)
    epoch = jurisdiction.epoch_at(subject.position) if subject.epoch is None else subject.epoch
    committee = jurisdiction.era_of(epoch).committee
    if not committee.is_member(subject.author):
        raise Rejection(
            RejectionReason.UNKNOWN_AUTHORITY,
            f"evidence: expected an author below {len(committee)}, got {subject.author}",
        )
    address = committee[subject.author].address
    return Evidence(subject.kind, epoch, subject.author, address, subject.position, raw)


def _check_above(header: Header, jurisdiction: Jurisdiction) -> None:
    if header.chain_hash != jurisdiction.chain_hash:
        raise _wrong_chain("evidence", jurisdiction.chain_hash, header.chain_hash)
    last = jurisdiction.era_of(header.epoch).last
    if last is None:
        raise Rejection(RejectionReason.BAD_EVIDENCE, f"epoch {header.epoch} isn't closed: no header is above it")
    if header.height <= last:
        raise Rejection(
            RejectionReason.BAD_EVIDENCE, f"expected a height above {last}, which closed the epoch, got {header.height}"
        )


def _check_signed_hash(signed: SignedHash, evidence: Evidence, chain_hash: bytes) -> None:
    digest = certificate_digest(chain_hash, evidence.position, signed.header_hash)
    if not is_signed_by(evidence.address, digest, signed.signature):
        raise Rejection(
            RejectionReason.BAD_SIGNATURE,
            f"not authority {evidence.author}'s signature over a header of height {evidence.position}",
        )


def check_origin(header: VertexHeader, committee: Committee, chain_hash: bytes, epoch: Epoch, what: str) -> None:
    """That a header is of our chain, epoch and committee. Raises WRONG_CHAIN, WRONG_EPOCH or UNKNOWN_AUTHORITY."""
    if header.chain_hash != chain_hash:
        raise _wrong_chain(what, chain_hash, header.chain_hash)
    if header.epoch != epoch:
        raise Rejection(RejectionReason.WRONG_EPOCH, f"{what}: expected epoch {epoch}, got {header.epoch}")
    if not committee.is_member(header.author):
        raise Rejection(
            RejectionReason.UNKNOWN_AUTHORITY,
            f"{what}: expected an author below {len(committee)}, got {header.author}",
        )


def check_signature(identifier: bytes, signature: bytes, header: VertexHeader, committee: Committee) -> None:
    """That the author signed the vertex with this id. Raises BAD_SIGNATURE."""
    key = committee[header.author].verification_key
    if not key.verify(vertex_message(header.chain_hash, identifier), signature):
        raise Rejection(
            RejectionReason.BAD_SIGNATURE,
            f"not authority {header.author}'s signature over its vertex of round {header.round}",
        )


def _wrong_chain(what: str, expected: bytes, got: bytes) -> Rejection:
    return Rejection(RejectionReason.WRONG_CHAIN, f"{what}: expected chain {expected.hex()}, got {got.hex()}")
