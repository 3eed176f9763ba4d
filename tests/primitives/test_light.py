"""A light client's rules, one by one: what it takes, what it refuses, what freezes it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mpisa.primitives.digest import ZERO_DIGEST, sha256
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.header import Header, Validator, ValidatorSet, make_certificate, sign_header
from mpisa.primitives.identifiers import Epoch, Height
from mpisa.primitives.keys import KeyKind, PrivateKey, private_key
from mpisa.primitives.light import CertifiedHeader, LightClient, conflict_of, misbehaviour, next_set, update

CHAIN = sha256(b"chain")
NOW_MS = 10_000_000


def keys_of(name: str, count: int = 4) -> list[PrivateKey]:
    keys = [private_key(KeyKind.SECP256K1, sha256(f"{name} {number}".encode())) for number in range(count)]
    return sorted(keys, key=lambda key: key.address)


FIRST, SECOND = keys_of("first"), keys_of("second")


def set_of(keys: list[PrivateKey], powers: tuple[int, ...] = (1, 1, 1, 1)) -> ValidatorSet:
    return ValidatorSet(tuple(Validator(key.address, power) for key, power in zip(keys, powers, strict=True)))


def header_at(height: int, keys: list[PrivateKey] = FIRST, **changes: object) -> Header:
    header = Header(
        chain_hash=CHAIN,
        height=Height(height),
        time_ms=1_000 * height,
        epoch=Epoch(0),
        first_commit=2 * height - 1,
        last_commit=2 * height,
        previous=sha256(b"header", height.to_bytes(8, "big")),
        commit_digest=ZERO_DIGEST,
        window_root=ZERO_DIGEST,
        tx_root=ZERO_DIGEST,
        receipts_root=ZERO_DIGEST,
        state_root=ZERO_DIGEST,
        validators_hash=set_of(keys).hash,
        next_validators_hash=ZERO_DIGEST,
    )
    return replace(header, **changes)  # type: ignore[arg-type]


def certified(header: Header, keys: list[PrivateKey] = FIRST, signers: int = 3) -> CertifiedHeader:
    signatures = {index: sign_header(key, header) for index, key in enumerate(keys[:signers])}
    return CertifiedHeader(header, make_certificate(signatures), set_of(keys))


CLOSING = header_at(10, next_validators_hash=set_of(SECOND).hash)
OPENED = header_at(11, SECOND, epoch=Epoch(1), previous=CLOSING.hash)


def refused(client: LightClient, signed: CertifiedHeader, now_ms: int = NOW_MS) -> Rejection:
    with pytest.raises(Rejection) as caught:
        update(client, signed, now_ms)
    return caught.value


def test_skipping_is_free_inside_an_epoch() -> None:
    client = LightClient(header_at(1))
    far = header_at(900)
    assert update(client, certified(far), NOW_MS) == LightClient(far)


def test_an_epoch_is_left_over_its_closing_header_alone() -> None:
    client = LightClient(header_at(1))
    client = update(client, certified(CLOSING), NOW_MS)
    assert next_set(client.trusted) == (Epoch(1), set_of(SECOND).hash)
    client = update(client, certified(OPENED, SECOND), NOW_MS)
    assert client == LightClient(OPENED)


def test_without_the_closing_header_a_new_epoch_is_refused() -> None:
    error = refused(LightClient(header_at(1)), certified(OPENED, SECOND))
    assert (error.reason, error.detail) == (RejectionReason.WRONG_EPOCH, "epoch: expected 0, got 1")


def test_an_epoch_is_not_skipped() -> None:
    later = header_at(20, SECOND, epoch=Epoch(2))
    error = refused(LightClient(CLOSING), certified(later, SECOND))
    assert (error.reason, error.detail) == (RejectionReason.WRONG_EPOCH, "epoch: expected 1, got 2")


def test_the_set_must_be_the_one_that_the_closing_header_names() -> None:
    usurped = header_at(11, FIRST, epoch=Epoch(1), previous=CLOSING.hash)
    error = refused(LightClient(CLOSING), certified(usurped, FIRST))
    assert error.reason is RejectionReason.BAD_CERTIFICATE
    assert error.detail == (f"validator set: expected {set_of(SECOND).hash.hex()}, got {set_of(FIRST).hash.hex()}")


def test_a_retired_set_can_not_go_on_once_the_next_epoch_is_trusted() -> None:
    error = refused(LightClient(OPENED), certified(header_at(12)))
    assert error.reason is RejectionReason.WRONG_EPOCH


def test_no_quorum_and_another_chain_are_refused() -> None:
    client = LightClient(header_at(1))
    assert refused(client, certified(header_at(2, previous=header_at(1).hash), signers=2)).reason is (
        RejectionReason.NO_QUORUM
    )
    assert refused(client, certified(header_at(5, chain_hash=sha256(b"other")))).reason is RejectionReason.WRONG_CHAIN


def test_power_of_exactly_two_thirds_is_no_quorum_and_one_more_is() -> None:
    keys = FIRST[:3]
    for powers, taken in (((2, 2, 2), False), ((2, 3, 2), True)):
        validators = set_of(keys, powers)
        trusted = header_at(1, validators_hash=validators.hash)
        header = header_at(5, validators_hash=validators.hash)
        certificate = make_certificate({index: sign_header(keys[index], header) for index in (0, 1)})
        signed = CertifiedHeader(header, certificate, validators)
        if taken:
            assert update(LightClient(trusted), signed, NOW_MS).trusted == header
        else:
            assert refused(LightClient(trusted), signed).reason is RejectionReason.NO_QUORUM


def test_trust_runs_out_and_the_future_is_refused() -> None:
    client = LightClient(header_at(1), period_ms=5_000)
    signed = certified(header_at(3))
    assert update(client, signed, 5_999).trusted == signed.header
    assert refused(client, signed, 6_000).reason is RejectionReason.EXPIRED
    ahead = certified(header_at(3, time_ms=5_000 + 60_001))
    assert refused(client, ahead, 5_000).reason is RejectionReason.OUT_OF_RANGE
    assert update(client, certified(header_at(3, time_ms=5_000 + 60_000)), 5_000).trusted.height == 3


def test_a_header_below_that_fits_changes_nothing() -> None:
    client = LightClient(header_at(9))
    assert update(client, certified(header_at(3)), NOW_MS) == client
    assert update(client, certified(header_at(9)), NOW_MS) == client
    assert refused(client, certified(header_at(3), signers=2)).reason is RejectionReason.NO_QUORUM


CONFLICTS = {
    "two headers of height 5": (header_at(5), header_at(5, state_root=b"\1" * 32)),
    "header 6 names another header before it than the one of height 5": (header_at(5), header_at(6)),
    "height 12 is of epoch 0, height 11 already of 1": (OPENED, header_at(12, previous=OPENED.hash)),
    "height 12 is of epoch 0, which height 10 closed": (CLOSING, header_at(12)),
    "time of height 8 is 5000 ms, not above the 5000 ms of 5": (header_at(5), header_at(8, time_ms=5_000)),
    "height 8 begins with commit 10, 5 had it already": (header_at(5), header_at(8, first_commit=10)),
}


@pytest.mark.parametrize("what", sorted(CONFLICTS))
def test_two_headers_that_contradict_each_other(what: str) -> None:
    first, second = CONFLICTS[what]
    assert conflict_of(first, second) == conflict_of(second, first) == what


def test_headers_of_two_chains_or_of_one_true_one_are_no_conflict() -> None:
    assert conflict_of(header_at(5), header_at(5, chain_hash=sha256(b"other"))) is None
    assert conflict_of(header_at(5), header_at(5)) is None
    assert conflict_of(CLOSING, OPENED) is None
    assert conflict_of(header_at(5), header_at(9)) is None


@pytest.mark.parametrize("what", sorted(set(CONFLICTS) - {"height 12 is of epoch 0, height 11 already of 1"}))
def test_a_contradiction_freezes_the_client_for_good(what: str) -> None:
    first, second = CONFLICTS[what]
    client = LightClient(first)
    frozen = update(client, certified(second), NOW_MS)
    assert frozen == replace(client, frozen=what)
    assert misbehaviour(LightClient(header_at(1)), certified(first), certified(second)) == LightClient(
        header_at(1), frozen=what
    )
    error = refused(frozen, certified(header_at(900)))
    assert (error.reason, error.detail) == (RejectionReason.FROZEN, f"the client is frozen: {what}")


def test_a_contradiction_without_a_quorum_freezes_nobody() -> None:
    first, second = CONFLICTS["two headers of height 5"]
    assert refused(LightClient(first), certified(second, signers=2)).reason is RejectionReason.NO_QUORUM
    with pytest.raises(Rejection, match=r"^no-quorum"):
        misbehaviour(LightClient(header_at(1)), certified(first), certified(second, signers=2))
    with pytest.raises(Rejection, match=r"^bad-header: headers 5 and 9 can both be of one chain"):
        misbehaviour(LightClient(header_at(1)), certified(header_at(5)), certified(header_at(9)))
    other = header_at(5, SECOND, epoch=Epoch(3))
    with pytest.raises(Rejection, match=r"^wrong-epoch"):
        misbehaviour(LightClient(header_at(1)), certified(first), certified(replace(other, tx_root=b"\1" * 32), SECOND))
