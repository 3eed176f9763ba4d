"""Certificates: a quorum, each signature verified once, bounded heights, and nothing counted that isn't ours."""

from consensus.dag.vertex import ExecutionSignature
from consensus.order.certifier import Certified, Certifier
from mpisa.primitives.digest import ZERO_DIGEST
from mpisa.primitives.header import Header, Validator, ValidatorSet, header_hash, sign_header, verify_certificate
from mpisa.primitives.identifiers import AuthorityIndex, Epoch, Height
from tests.consensus.forge import Forge
from tests.simulator.world import CHAIN_HASH

FORGE = Forge()
VALIDATORS = ValidatorSet.of(Validator(item.address, item.power) for item in FORGE.committee.authorities)


def header(height: int, state: bytes = ZERO_DIGEST) -> Header:
    zero = ZERO_DIGEST
    return Header(
        chain_hash=CHAIN_HASH,
        height=Height(height),
        time_ms=height,
        epoch=Epoch(0),
        first_commit=height,
        last_commit=height,
        previous=zero,
        commit_digest=zero,
        window_root=zero,
        tx_root=zero,
        receipts_root=zero,
        state_root=state,
        validators_hash=VALIDATORS.hash,
        next_validators_hash=zero,
    )


def signature(height: int, authority: int, state: bytes = ZERO_DIGEST, signer: int | None = None) -> ExecutionSignature:
    made = header(height, state)
    key = FORGE.keys[authority if signer is None else signer][1]
    return ExecutionSignature(Height(height), header_hash(made), AuthorityIndex(authority), sign_header(key, made))


def certifier(window: int = 8) -> Certifier:
    return Certifier(FORGE.committee, CHAIN_HASH, window, 0)


def execute(machine: Certifier, height: int, own: int | None = 0) -> Certified | None:
    return machine.executed(
        Height(height), header_hash(header(height)), None if own is None else signature(height, own)
    )


def test_the_own_signature_and_two_more_make_a_quorum_of_four() -> None:
    machine = certifier()
    assert execute(machine, 1) is None
    assert machine.observe(signature(1, 2)) is None
    assert (machine.executed_height, machine.certified_height) == (1, 0)
    done = machine.observe(signature(1, 1))
    assert done is not None
    assert (done.height, done.header_hash) == (1, header_hash(header(1)))
    assert done.certificate.bitmap == 0b0111
    verify_certificate(header(1), done.certificate, VALIDATORS)
    assert (machine.executed_height, machine.certified_height) == (1, 1)
    assert machine.observe(signature(1, 3)) is None, "certified once"


def test_signatures_that_come_before_the_execution_are_kept() -> None:
    machine = certifier()
    for authority in (1, 2, 3):
        assert machine.observe(signature(1, authority)) is None
    done = execute(machine, 1)
    assert done is not None
    assert done.certificate.bitmap == 0b1111


def test_a_follower_certifies_by_others_alone() -> None:
    machine = certifier()
    execute(machine, 1, own=None)
    assert [machine.observe(signature(1, authority)) is not None for authority in (1, 2, 3)] == [False, False, True]


def test_repeats_and_forgeries_don_t_count() -> None:
    machine = certifier()
    execute(machine, 1)
    for _ in range(3):
        assert machine.observe(signature(1, 1)) is None
    assert machine.observe(signature(1, 2, signer=3)) is None
    assert machine.observe(signature(1, 2)) is None, "an authority that signed nonsense lost its say"
    assert machine.observe(signature(1, 3)) is not None


def test_another_header_is_never_counted_and_is_shown() -> None:
    machine = certifier()
    execute(machine, 1)
    for authority in (1, 2, 3):
        assert machine.observe(signature(1, authority, b"\1" * 32)) is None
    assert machine.diverging() == ((1, 1), (1, 2), (1, 3))


def test_heights_are_certified_in_any_order() -> None:
    machine = certifier()
    for height in (1, 2):
        execute(machine, height)
    for height in (2, 1):
        machine.observe(signature(height, 1))
        done = machine.observe(signature(height, 2))
        assert done is not None
        assert done.height == height
    assert machine.certified_height == 2


def test_heights_are_bounded() -> None:
    machine = certifier(window=8)
    for height in range(1, 100):
        machine.observe(signature(height, 1))
    assert len(machine) == 8
    for height in range(1, 40):
        execute(machine, height, own=None)
    for authority in (1, 2, 3):
        machine.observe(signature(39, authority))
    assert machine.certified_height == 39
    assert len(machine) <= 8
