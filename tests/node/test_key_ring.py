"""Keys that change while the node runs: read again before an epoch, settled when only the new ones are named."""

from pathlib import Path

import pytest

from consensus.dag.committee import Authority, Committee
from mpisa.config import NodeConfig, Role
from mpisa.node.home import Home, init_home
from mpisa.node.key_ring import KeyRing
from mpisa.primitives.identifiers import AuthorityIndex
from mpisa.primitives.keys import PrivateKey
from mpisa.primitives.validator_record import ValidatorRecord


def named(certificate: PrivateKey, consensus: PrivateKey) -> ValidatorRecord:
    return ValidatorRecord("v", certificate.address, 1, consensus.public_key.data, "peer")


def committee(record: ValidatorRecord) -> Committee:
    return Committee([Authority(AuthorityIndex(0), record.address, 1, record.consensus_key)])


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return init_home(tmp_path, NodeConfig())


@pytest.fixture
def ring(home: Home) -> KeyRing:
    return KeyRing(home, home.read_keys(Role.VALIDATOR))


def test_next_keys_count_once_the_home_was_read_again(home: Home, ring: KeyRing) -> None:
    home.make_next_keys(consensus=True, certificate=True)
    following = home.read_keys(Role.VALIDATOR)
    after = named(following.next_certificate, following.next_consensus)
    assert (ring.seat_in(committee(after)), ring.signer_among([after])) == (None, None)
    ring.refresh()
    assert ring.seat_in(committee(after)).key == following.next_consensus
    assert ring.signer_among([after]) == following.next_certificate
    before = named(following.certificate, following.consensus)
    assert ring.seat_in(committee(before)).key == following.consensus
    assert ring.signer_among([before]) == following.certificate


@pytest.mark.parametrize(("consensus", "certificate"), [(True, True), (True, False), (False, True)])
def test_what_the_only_epoch_names_is_adopted(home: Home, ring: KeyRing, consensus: bool, certificate: bool) -> None:
    old = ring.keys
    home.make_next_keys(consensus=True, certificate=True)
    ring.refresh()
    held = ring.keys
    record = named(
        held.next_certificate if certificate else old.certificate, held.next_consensus if consensus else old.consensus
    )
    ring.settle(record)
    assert ring.keys.consensus == (held.next_consensus if consensus else old.consensus)
    assert ring.keys.certificate == (held.next_certificate if certificate else old.certificate)
    assert ring.keys == home.read_keys(Role.VALIDATOR)
    assert (ring.keys.next_consensus is None, ring.keys.next_certificate is None) == (consensus, certificate)


def test_what_no_epoch_names_yet_waits(home: Home, ring: KeyRing) -> None:
    home.make_next_keys(consensus=True, certificate=True)
    ring.refresh()
    held = ring.keys
    ring.settle(named(held.certificate, held.consensus))
    ring.settle(None)
    assert ring.keys == held == home.read_keys(Role.VALIDATOR)


def test_a_home_that_can_not_be_read_changes_nothing(home: Home, ring: KeyRing) -> None:
    held = ring.keys
    (home.keys / "next-consensus.json").write_text("{")
    (home.keys / "next-consensus.json").chmod(0o600)
    ring.refresh()
    assert ring.keys == held


def test_a_follower_has_nothing_to_read(tmp_path: Path) -> None:
    home = init_home(tmp_path / "f", NodeConfig(role=Role.FOLLOWER))
    ring = KeyRing(home, home.read_keys(Role.FOLLOWER))
    ring.refresh()
    assert ring.signer_among([named(home.read_key("node"), home.read_key("node"))]) is None
