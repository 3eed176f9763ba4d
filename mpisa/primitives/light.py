"""A light client's rules: which header may follow a trusted one, and which two headers show that a quorum lied.

A client holds one trusted header. It takes a certified header of the same epoch at any distance (skipping is free
inside an epoch), and passes from an epoch to the next only over the closing header, which names the next set. So one
header an epoch, and the last one, are all it has to see. Two certified headers that can't both be of one chain freeze
it for good.

Pure: whoever follows the chain follows these rules (docs/protocol.md, section 17).
Non-goals: whose clock; which header was trusted first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.header import Certificate, Header, ValidatorSet, verify_certificate
from mpisa.primitives.identifiers import Epoch

MAX_CLOCK_DRIFT_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class CertifiedHeader:
    """A header, what a quorum signed of it, and the set (by its records) that the certificate is checked against."""

    header: Header
    certificate: Certificate
    validators: ValidatorSet


@dataclass(frozen=True, slots=True)
class LightClient:
    """What a client holds: the highest header it trusts, and why it is frozen, if it is.

    `period_ms` is how long a trusted header vouches for later ones: 0 for no bound, where the first header is trusted
    for other reasons than its age.
    """

    trusted: Header
    period_ms: int = 0
    frozen: str | None = None


def next_set(trusted: Header) -> tuple[Epoch, bytes]:
    """Epoch and validator set hash of what comes above a header."""
    if trusted.closes_epoch:
        return Epoch(trusted.epoch + 1), trusted.next_validators_hash
    return trusted.epoch, trusted.validators_hash


def validate_set(trusted: Header, header: Header) -> None:
    """Raise Rejection unless the header is above the trusted one and of the set that it vouches for.

    WRONG_CHAIN, BAD_HEADER (not above), WRONG_EPOCH (a closing header is missing or went by), BAD_CERTIFICATE.
    """
    if header.chain_hash != trusted.chain_hash:
        raise Rejection(
            RejectionReason.WRONG_CHAIN,
            f"chain hash: expected {trusted.chain_hash.hex()}, got {header.chain_hash.hex()}",
        )
    if header.height <= trusted.height:
        raise Rejection(RejectionReason.BAD_HEADER, f"height: expected more than {trusted.height}, got {header.height}")
    epoch, validators_hash = next_set(trusted)
    if header.epoch != epoch:
        raise Rejection(RejectionReason.WRONG_EPOCH, f"epoch: expected {epoch}, got {header.epoch}")
    if header.validators_hash != validators_hash:
        raise Rejection(
            RejectionReason.BAD_CERTIFICATE,
            f"validator set: expected {validators_hash.hex()}, got {header.validators_hash.hex()}",
        )


def conflict_of(first: Header, second: Header) -> str | None:
    """Why two headers of one chain, both certified, can't both be true; None where they can.

    In any order. Each of these needs more than a third of some set's power to have signed a lie.
    """
    low, high = sorted((first, second), key=lambda header: header.height)
    if low.chain_hash != high.chain_hash:
        return None
    if low.height == high.height:
        return None if low.hash == high.hash else f"two headers of height {low.height}"
    if high.height == low.height + 1 and high.previous != low.hash:
        return f"header {high.height} names another header before it than the one of height {low.height}"
    if high.epoch < low.epoch:
        return f"height {high.height} is of epoch {high.epoch}, height {low.height} already of {low.epoch}"
    if high.epoch == low.epoch and low.closes_epoch:
        return f"height {high.height} is of epoch {low.epoch}, which height {low.height} closed"
    if high.time_ms <= low.time_ms:
        return f"time of height {high.height} is {high.time_ms} ms, not above the {low.time_ms} ms of {low.height}"
    if high.first_commit <= low.last_commit:
        return f"height {high.height} begins with commit {high.first_commit}, {low.height} had it already"
    return None


def validate_fresh(client: LightClient, header: Header, now_ms: int) -> None:
    """Raise Rejection where trust has run out (EXPIRED) or the header is of the future (OUT_OF_RANGE). Milliseconds."""
    if client.period_ms and client.trusted.time_ms + client.period_ms <= now_ms:
        raise Rejection(
            RejectionReason.EXPIRED,
            f"the trusted header of height {client.trusted.height} is older than {client.period_ms} ms",
        )
    if header.time_ms > now_ms + MAX_CLOCK_DRIFT_MS:
        raise Rejection(RejectionReason.OUT_OF_RANGE, f"time_ms: {header.time_ms} is ahead of the clock, {now_ms}")


def update(client: LightClient, signed: CertifiedHeader, now_ms: int) -> LightClient:
    """The client after a further header: it trusts it, or is frozen because it contradicts what it trusts.

    Raises Rejection for what proves nothing: WRONG_CHAIN, BAD_HEADER, WRONG_EPOCH, BAD_CERTIFICATE, NO_QUORUM, EXPIRED,
    OUT_OF_RANGE; and FROZEN for a client that is frozen already. A header at or below the trusted height that fits is
    checked and changes nothing.
    """
    _require_thawed(client)
    trusted, header = client.trusted, signed.header
    validate_fresh(client, header, now_ms)
    is_above = header.height > trusted.height
    contradiction = conflict_of(trusted, header)
    if is_above and contradiction is None:
        validate_set(trusted, header)
        verify_certificate(header, signed.certificate, signed.validators)
        return replace(client, trusted=header)
    _verify_of_known_set(trusted, signed)
    return client if contradiction is None else replace(client, frozen=contradiction)


def misbehaviour(client: LightClient, first: CertifiedHeader, second: CertifiedHeader) -> LightClient:
    """The client frozen, where two headers certified by the set it trusts contradict each other.

    Raises Rejection: BAD_HEADER where they don't, and as `update` for what isn't certified by that set.
    """
    _require_thawed(client)
    contradiction = conflict_of(first.header, second.header)
    if contradiction is None:
        raise Rejection(
            RejectionReason.BAD_HEADER,
            f"headers {first.header.height} and {second.header.height} can both be of one chain",
        )
    for signed in (first, second):
        _verify_of_known_set(client.trusted, signed)
    return replace(client, frozen=contradiction)


def _verify_of_known_set(trusted: Header, signed: CertifiedHeader) -> None:
    """A certificate of the trusted header's own set, or of the one that it names."""
    header = signed.header
    if header.chain_hash != trusted.chain_hash:
        raise Rejection(
            RejectionReason.WRONG_CHAIN,
            f"chain hash: expected {trusted.chain_hash.hex()}, got {header.chain_hash.hex()}",
        )
    known = {trusted.epoch: trusted.validators_hash} | dict([next_set(trusted)])
    if known.get(header.epoch) != header.validators_hash:
        raise Rejection(
            RejectionReason.WRONG_EPOCH,
            f"epoch {header.epoch}, set {header.validators_hash.hex()}: the client knows epochs {sorted(known)} only",
        )
    verify_certificate(header, signed.certificate, signed.validators)


def _require_thawed(client: LightClient) -> None:
    if client.frozen is not None:
        raise Rejection(RejectionReason.FROZEN, f"the client is frozen: {client.frozen}")
