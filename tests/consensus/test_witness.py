"""The witness: two hashes of a height, lone ones once there is a certificate, and what it costs at most."""

import pytest

from consensus.dag.evidence import EvidenceKind, Subject
from consensus.order import witness as module
from consensus.order.witness import HEIGHTS_BELOW, Witness
from mpisa.primitives.header import header_hash
from mpisa.primitives.identifiers import AuthorityIndex, Height
from tests.consensus.evidence.acts import COURT, FORGE, PARAMETERS, certificate, header, judge, pushed
from tests.simulator.world import CHAIN_HASH

DOUBLE, STRAY = EvidenceKind.DOUBLE_HEADER, EvidenceKind.STRAY_HEADER


def watching(certified: int = 50) -> Witness:
    return Witness(FORGE.committee, CHAIN_HASH, 16, 50, certified)


def certify(machine: Witness, height: int, signers: tuple[int, ...] = (0, 1, 2)) -> None:
    machine.certified(Height(height), header_hash(header(height)), certificate(height, signers))


def found(machine: Witness) -> list[tuple[EvidenceKind, int, int]]:
    """What was found, each piece verified as every node would."""
    for item in machine.found:
        evidence = judge(item.raw, COURT)
        assert (evidence.kind, evidence.author, evidence.position) == (
            item.subject.kind,
            item.subject.author,
            item.subject.position,
        )
    return [(item.subject.kind, item.subject.author, item.subject.position) for item in machine.found]


def test_two_hashes_of_one_height_are_found_at_once() -> None:
    machine = watching()
    machine.observe(pushed(1, 51, 1))
    machine.observe(pushed(2, 51, 2))
    assert found(machine) == []
    machine.observe(pushed(1, 51, 2))
    assert found(machine) == [(DOUBLE, 1, 51)]


def test_a_second_hash_of_one_that_signed_the_certificate() -> None:
    machine = watching()
    certify(machine, 51)
    machine.observe(pushed(1, 51, 1))
    assert found(machine) == [(DOUBLE, 1, 51)]
    machine = watching()
    machine.observe(pushed(1, 51, 1))
    certify(machine, 51)
    assert found(machine) == [(DOUBLE, 1, 51)]


def test_a_lone_signature_waits_for_the_certificate() -> None:
    machine = watching()
    machine.observe(pushed(3, 51, 1))
    assert found(machine) == []
    certify(machine, 51)
    assert found(machine) == [(STRAY, 3, 51)]
    late = watching()
    certify(late, 51)
    late.observe(pushed(3, 51, 1))
    assert found(late) == [(STRAY, 3, 51)]
    late.observe(pushed(3, 51))
    assert found(late) == [(STRAY, 3, 51), (DOUBLE, 3, 51)], "then it signs the chain's header as well"


def test_the_chain_s_own_headers_are_nothing_and_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[bytes] = []
    monkeypatch.setattr(module, "is_signed_by", lambda address, digest, signature: checked.append(address) or True)
    machine = watching()
    for height in (51, 52, 53):
        for author in range(4):
            machine.observe(pushed(author, height))
            machine.observe(pushed(author, height))
        certify(machine, height)
    assert machine.found == []
    assert checked == []


def test_nonsense_signatures_accuse_nobody_and_are_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = 0
    real = module.is_signed_by

    def count(address: bytes, digest: bytes, signature: bytes) -> bool:
        nonlocal checks
        checks += 1
        return real(address, digest, signature)

    monkeypatch.setattr(module, "is_signed_by", count)
    machine = watching()
    for mark in range(1, 50):
        forged = pushed(2, 51, mark)
        machine.observe(type(forged)(forged.height, forged.header_hash, AuthorityIndex(3), forged.signature))
    certify(machine, 51)
    assert machine.found == []
    assert checks == 2, "two hashes an authority and height, each checked once"


def test_one_piece_an_authority_and_kind() -> None:
    machine = watching()
    for height in range(51, 60):
        for mark in (1, 2):
            machine.observe(pushed(1, height, mark))
        machine.observe(pushed(3, height, 1))
        certify(machine, height)
    assert found(machine) == [(DOUBLE, 1, 51), (STRAY, 3, 51)]


def test_what_another_carried_isn_t_looked_for() -> None:
    machine = watching()
    machine.accuse(Subject(DOUBLE, AuthorityIndex(1), None, 55))
    machine.accuse(Subject(DOUBLE, AuthorityIndex(2), None, 45))  # of the epoch before: another's index
    for author in (1, 2):
        for mark in (1, 2):
            machine.observe(pushed(author, 51, mark))
    assert found(machine) == [(DOUBLE, 2, 51)]


def test_heights_are_bounded() -> None:
    machine = watching()
    for height in range(1, 200):
        machine.observe(pushed(1, height))
    assert len(machine) == 16, "a window above, and none of the epoch before"
    for height in range(51, 51 + 3 * HEIGHTS_BELOW):
        machine.observe(pushed(1, height))
        certify(machine, height)
    assert len(machine) == HEIGHTS_BELOW
    assert len(machine._certificates) == HEIGHTS_BELOW
    machine.observe(pushed(3, 51, 1))
    certify(machine, 51)
    assert machine.found == []
    assert len(machine) == HEIGHTS_BELOW
    assert PARAMETERS.certifier_window == 1_024
