"""Other keys: they prove themselves, count from the next epoch on, and the old ones answer for what they did."""

from dataclasses import replace

import pytest

from mpisa.ledger.staking import read_claim
from mpisa.ledger.validators import read_validators
from mpisa.primitives.errors import RejectionReason
from mpisa.primitives.keys import KeyKind
from mpisa.primitives.possession import KeyRole, prove_possession, verify_record
from mpisa.primitives.receipt import ReceiptStatus
from mpisa.primitives.staking import MAX_RETURNS
from mpisa.primitives.state_keys import Claim, validator_key
from mpisa.primitives.validator_operations import NO_KEY, ChangeValidator, ValidatorKeys
from tests.ledger.conftest import certificate_key, consensus_key, operator_key
from tests.ledger.staking import UNBONDING_MS, StakingChain, double_vertex, keys_of, other_key

R = RejectionReason
NEW_CONSENSUS = ValidatorKeys(consensus=other_key(1))
NEW_CERTIFICATE = ValidatorKeys(certificate=other_key(1, KeyKind.SECP256K1))
NEW_ADDRESS = NEW_CERTIFICATE.certificate.address
OLD_ADDRESS = certificate_key(1).address


@pytest.fixture
def chain():
    return StakingChain()


def active(chain):
    return {record.name: record for record in read_validators(chain.state)}


def test_a_new_consensus_key_counts_from_the_next_epoch_on(chain):
    assert chain.change(1, NEW_CONSENSUS).status is ReceiptStatus.APPLIED
    assert active(chain)["v1"].consensus_key == consensus_key(1).public_key.data
    chain.end_epoch()
    record = active(chain)["v1"]
    assert record.consensus_key == NEW_CONSENSUS.consensus.public_key.data
    assert (record.address, record.power, record.name) == (OLD_ADDRESS, 10, "v1")
    assert verify_record(record, chain.chain_hash) == (KeyRole.CONSENSUS,)


def test_a_new_certificate_key_is_a_new_place_in_the_set(chain):
    assert chain.change(1, NEW_CERTIFICATE).status is ReceiptStatus.APPLIED
    assert active(chain)["v1"].address == OLD_ADDRESS
    named = chain.end_epoch()
    assert [record.address for record in named] == sorted(
        [NEW_ADDRESS, *(certificate_key(n).address for n in (2, 3, 4))]
    )
    assert validator_key(OLD_ADDRESS) not in chain.state
    assert chain.registration(1).active == NEW_ADDRESS
    assert chain.returns() == [(1, 0)]


def test_under_its_old_address_it_is_charged_and_nobody_else_has_it_until_that_is_over(chain):
    chain.change(1, NEW_CERTIFICATE)
    chain.end_epoch()
    stolen = chain.join(5, keys=replace(keys_of(5), certificate=certificate_key(1)))
    assert stolen.reason is R.KEY_IN_USE
    result = chain.execute(offences=(double_vertex(1),))
    assert [(item.operator, item.burned) for item in result.punishments] == [(operator_key(1).address, 10)]
    chain.pass_time(2 * UNBONDING_MS)
    assert read_claim(chain.state.get, Claim.CERTIFICATE, OLD_ADDRESS) is None


def test_going_back_within_the_epoch_frees_the_key_that_never_counted(chain):
    chain.change(1, NEW_CERTIFICATE)
    assert chain.change(1, ValidatorKeys(certificate=certificate_key(1))).status is ReceiptStatus.APPLIED
    assert read_claim(chain.state.get, Claim.CERTIFICATE, NEW_ADDRESS) is None
    chain.end_epoch()
    assert active(chain)["v1"].address == OLD_ADDRESS
    assert chain.returns() == []


def test_an_address_that_was_left_and_taken_again_stays_taken(chain):
    chain.change(1, NEW_CERTIFICATE)
    chain.end_epoch()
    chain.change(1, ValidatorKeys(certificate=certificate_key(1)))
    chain.end_epoch()
    chain.pass_time(2 * UNBONDING_MS)
    assert read_claim(chain.state.get, Claim.CERTIFICATE, OLD_ADDRESS) == operator_key(1).address
    assert read_claim(chain.state.get, Claim.CERTIFICATE, NEW_ADDRESS) is None


def test_keys_of_all_roles_and_the_peer_id_change_at_once(chain):
    keys = ValidatorKeys(other_key(1), other_key(1, KeyKind.SECP256K1), other_key(1, KeyKind.ML_DSA_65))
    assert chain.change(1, keys, "12D3KooWElsewhere").status is ReceiptStatus.APPLIED
    chain.end_epoch()
    record = active(chain)["v1"]
    assert (record.address, record.peer_id) == (NEW_ADDRESS, "12D3KooWElsewhere")
    assert record.post_quantum_key == keys.post_quantum.public_key.data
    assert verify_record(record, chain.chain_hash) == tuple(KeyRole)


def test_an_ml_dsa_key_can_be_taken_away(chain):
    chain.change(1, ValidatorKeys(post_quantum=other_key(1, KeyKind.ML_DSA_65)))
    assert chain.operate(1, ChangeValidator(post_quantum=NO_KEY)).status is ReceiptStatus.APPLIED
    record = chain.registration(1).record
    assert (record.post_quantum_key, record.proof) == (b"", b"")
    assert read_claim(chain.state.get, Claim.POST_QUANTUM, other_key(1, KeyKind.ML_DSA_65).public_key.data) is None


@pytest.mark.parametrize("role", list(KeyRole))
def test_a_key_that_does_not_prove_itself_is_refused(chain, role):
    kind = {1: KeyKind.ED25519, 2: KeyKind.SECP256K1, 3: KeyKind.ML_DSA_65}[role.value]
    proven = prove_possession(other_key(1, kind), role, chain.chain_hash, operator_key(1).address, 5)
    field = {1: "consensus", 2: "certificate", 3: "post_quantum"}[role.value]
    receipt = chain.operate(1, ChangeValidator(**{field: proven}))
    assert (receipt.reason, receipt.detail) == (
        R.BAD_POSSESSION,
        f"operations[0].change-validator: the proof isn't the {role.label}'s signature for this transaction",
    )


def test_addresses_on_their_way_to_be_free_are_bounded_too():
    chain = StakingChain((10, 10), min_epoch_ms=0)
    for number in range(MAX_RETURNS):
        keys = ValidatorKeys(certificate=other_key(100 + number, KeyKind.SECP256K1))
        assert chain.change(1, keys).status is ReceiptStatus.APPLIED
    receipt = chain.change(1, NEW_CERTIFICATE)
    assert (receipt.reason, receipt.detail) == (
        R.TOO_MANY_RETURNS,
        "operations[0].change-validator: expected fewer than 16 amounts on their way back, got 16",
    )
    assert chain.change(1, NEW_CONSENSUS).status is ReceiptStatus.APPLIED


def test_the_same_keys_again_are_no_change(chain):
    receipt = chain.change(1, ValidatorKeys(consensus=consensus_key(1)))
    assert (receipt.reason, receipt.detail) == (
        R.KEY_MISMATCH,
        "operations[0].change-validator: the keys are those that are registered",
    )


def test_anothers_key_is_refused(chain):
    receipt = chain.change(1, ValidatorKeys(consensus=consensus_key(2)))
    assert receipt.reason is R.KEY_IN_USE


def test_a_freed_key_may_be_anothers(chain):
    chain.change(1, NEW_CONSENSUS)
    keys = replace(keys_of(5), consensus=consensus_key(1))
    assert chain.join(5, keys=keys).status is ReceiptStatus.APPLIED
    assert len({record.consensus_key for record in chain.end_epoch()}) == 5
