"""Joining: what is registered, when it counts, and the keys that must show themselves."""

from dataclasses import replace

import pytest

from mpisa.ledger.staking import read_claim
from mpisa.ledger.validators import read_validators
from mpisa.primitives.account import Account
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.identifiers import format_address
from mpisa.primitives.keys import KeyKind
from mpisa.primitives.operations import Transfer
from mpisa.primitives.possession import KeyRole, NewKey, Possession, prove_possession, verify_record
from mpisa.primitives.receipt import ReceiptStatus
from mpisa.primitives.staking import Registration
from mpisa.primitives.state_keys import Claim, account_key
from mpisa.primitives.validator_operations import Bond, LeaveValidator
from mpisa.primitives.validator_record import ValidatorRecord
from tests.ledger.conftest import BALANCE, certificate_key, make_key, operator_key
from tests.ledger.staking import UNBONDING_MS, StakingChain, keys_of, names

R = RejectionReason
FIVE = format_address(operator_key(5).address)


@pytest.fixture
def chain():
    return StakingChain()


def test_a_validator_joins_with_the_next_epoch(chain):
    operation = chain.join_operation(5, 130)
    assert chain.operate(5, operation).status is ReceiptStatus.APPLIED
    assert chain.balance(operator_key(5)) == BALANCE - 130
    record = ValidatorRecord(
        name="v5",
        address=certificate_key(5).address,
        power=13,
        consensus_key=operation.consensus.key,
        peer_id="12D3KooWTest5",
        proof=chain.registration(5).record.proof,
        operator=operator_key(5).address,
    )
    assert chain.registration(5) == Registration(operator_key(5).address, record, 130)
    assert names(read_validators(chain.state)) == ["v1", "v2", "v3", "v4"]
    assert names(chain.end_epoch()) == ["v1", "v2", "v3", "v4", "v5"]
    assert record in read_validators(chain.state)
    assert chain.registration(5).active == record.address
    assert verify_record(record, chain.chain_hash) == (KeyRole.CONSENSUS, KeyRole.CERTIFICATE)


def test_an_ml_dsa_key_is_registered_when_it_shows_itself(chain):
    keys = keys_of(5, post_quantum=True)
    assert chain.join(5, keys=keys).status is ReceiptStatus.APPLIED
    record = chain.registration(5).record
    assert record.post_quantum_key == keys.post_quantum.public_key.data
    assert verify_record(record, chain.chain_hash) == tuple(KeyRole)
    assert read_claim(chain.state.get, Claim.POST_QUANTUM, record.post_quantum_key) == operator_key(5).address


def test_the_index_of_the_set_is_the_order_of_addresses(chain):
    for number in (5, 6, 7):
        chain.join(number)
    addresses = [record.address for record in chain.end_epoch()]
    assert len(addresses) == 7
    assert addresses == sorted(addresses)


@pytest.mark.parametrize("role", list(KeyRole))
@pytest.mark.parametrize("fault", ["nonce", "sender", "chain", "role", "key"])
def test_every_key_proves_itself_for_this_very_transaction(chain, role, fault):
    """Each proof made for anything else is refused, with the key that failed named."""
    keys = keys_of(5, post_quantum=True)
    private = {
        KeyRole.CONSENSUS: keys.consensus,
        KeyRole.CERTIFICATE: keys.certificate,
        KeyRole.POST_QUANTUM: keys.post_quantum,
    }[role]
    sender = operator_key(6 if fault == "sender" else 5).address
    chain_hash = bytes(32) if fault == "chain" else chain.chain_hash
    proven = prove_possession(private, role, chain_hash, sender, 1 if fault == "nonce" else 0)
    if fault == "role":
        proven = replace(proven, proof=private.sign(b"another message"))
    if fault == "key":
        thief = make_key("thief", private.kind)
        proven = NewKey(proven.key, prove_possession(thief, role, chain_hash, sender, 0).proof)
    field = {KeyRole.CONSENSUS: "consensus", KeyRole.CERTIFICATE: "certificate", KeyRole.POST_QUANTUM: "post_quantum"}
    operation = replace(chain.join_operation(5, 100, keys), **{field[role]: proven})
    receipt = chain.operate(5, operation)
    assert (receipt.reason, receipt.detail) == (
        R.BAD_POSSESSION,
        f"operations[0].join-validator: the proof isn't the {role.label}'s signature for this transaction",
    )
    assert chain.registration(5) == Registration(operator_key(5).address)
    assert chain.balance(operator_key(5)) == BALANCE


def test_a_proof_in_the_state_that_its_key_did_not_make_is_found(chain):
    chain.join(5)
    record = chain.registration(5).record
    possession = Possession.decode(record.proof)
    swapped = replace(possession, consensus=replace(possession.consensus, nonce=9)).encode()
    with pytest.raises(Rejection, match=r"^bad-possession: v5: the consensus key didn't make its proof$"):
        verify_record(replace(record, proof=swapped), chain.chain_hash)


def test_genesis_validators_carry_no_proof(chain):
    for record in chain.genesis.validators:
        assert (record.proof, verify_record(record, chain.chain_hash)) == (b"", ())


@pytest.mark.parametrize(
    ("stake", "reason", "detail"),
    [
        (15, R.STAKE_NOT_WHOLE, "join-validator: stake: expected a multiple of 10, got 15"),
        (10, R.STAKE_TOO_LOW, "join-validator: stake: expected a stake of at least 20, got 10"),
        (0, R.STAKE_TOO_LOW, "join-validator: stake: expected a stake of at least 20, got 0"),
        (BALANCE + 10, R.INSUFFICIENT_BALANCE, "join-validator: 1000010 is more than the balance of 1000000"),
    ],
)
def test_the_stake_must_be_whole_enough_and_there(chain, stake, reason, detail):
    receipt = chain.join(5, stake)
    assert (receipt.reason, receipt.detail) == (reason, f"operations[0].{detail}")


def test_power_is_capped_so_that_a_total_fits_64_bits():
    chain = StakingChain(power_unit=1, minimum_stake=1)
    most = (1 << 56) - 1
    state = chain.account(operator_key(5))
    chain.state[account_key(state.address)] = replace(state, balance=2 * most).encode()
    receipt = chain.join(5, most + 1)
    assert (receipt.reason, receipt.detail) == (
        R.POWER_TOO_HIGH,
        f"operations[0].join-validator: stake: expected a power up to {most} and a stake up to {(1 << 64) - 1}, "
        f"got {most + 1} and {most + 1}",
    )
    assert chain.join(5, most).status is ReceiptStatus.APPLIED
    assert 256 * most < 1 << 64


def test_who_runs_a_validator_runs_no_second_one(chain):
    receipt = chain.join(1)
    operator = format_address(operator_key(1).address)
    assert (receipt.reason, receipt.detail) == (
        R.ALREADY_VALIDATOR,
        f"operations[0].join-validator: {operator} runs v1 already",
    )


@pytest.mark.parametrize(
    ("clash", "reason", "what"),
    [
        ("name", R.NAME_TAKEN, "name: 'v1'"),
        ("peer_id", R.PEER_IN_USE, "peer_id: '12D3KooWTest1'"),
        ("certificate", R.KEY_IN_USE, f"certificate key: {format_address(certificate_key(1).address)}"),
        ("consensus", R.KEY_IN_USE, f"consensus key: {make_key('validator 1').public_key.data.hex()}"),
    ],
)
def test_names_keys_and_peer_ids_are_one_validators(chain, clash, reason, what):
    keys, changes = keys_of(5), {}
    if clash in ("name", "peer_id"):
        changes = {clash: {"name": "v1", "peer_id": "12D3KooWTest1"}[clash]}
    else:
        keys = replace(keys, **{clash: getattr(keys_of(1), clash)})
    receipt = chain.join(5, keys=keys, **changes)
    holder = format_address(operator_key(1).address)
    assert (receipt.reason, receipt.detail) == (reason, f"operations[0].{what} belongs to the validator of {holder}")
    assert chain.balance(operator_key(5)) == BALANCE


def test_an_ml_dsa_key_is_one_validators_too(chain):
    chain.join(5, keys=keys_of(5, post_quantum=True))
    shared = replace(keys_of(6), post_quantum=make_key("validator 5", KeyKind.ML_DSA_65))
    receipt = chain.join(6, keys=shared)
    assert (receipt.reason, receipt.detail) == (
        R.KEY_IN_USE,
        f"operations[0].post-quantum key: {shared.post_quantum.public_key.data[:16].hex()}... "
        f"belongs to the validator of {FIVE}",
    )


def test_a_bundle_holds_one_operation_on_the_validator(chain):
    with pytest.raises(Rejection) as refusal:
        chain.sign(operator_key(1), Bond(10), LeaveValidator())
    assert str(refusal.value) == ("duplicate-operation: operations[1]: acts on the same target as operations[0]")


def test_no_more_than_256_stay():
    chain = StakingChain((10,) * 256)
    newcomer = operator_key(257)
    chain.run(chain.alice, Transfer(newcomer.address, 1_000))
    joining = {"public_key": newcomer.public_key}
    receipt = chain.operate(257, chain.join_operation(257, 100), **joining)
    assert (receipt.reason, receipt.detail) == (
        R.VALIDATOR_SET_FULL,
        "operations[0].join-validator: all 256 places are taken",
    )
    chain.leave(1)
    assert chain.operate(257, chain.join_operation(257, 100)).status is ReceiptStatus.APPLIED
    assert len(chain.end_epoch()) == 256


def test_256_may_leave_and_256_others_join_in_one_epoch():
    """The largest change there can be: what a block does at an epoch's end is bounded by it."""
    chain = StakingChain((10,) * 256)
    epoch = chain.epoch_state
    for key in [operator_key(number) for number in range(1, 513)]:
        chain.state[account_key(key.address)] = Account(key.address, key.public_key, 0, 100).encode()
    raws = [chain.sign(operator_key(n), LeaveValidator()).raw for n in range(1, 256)]
    assert all(receipt.reason is None for receipt in chain.execute(*raws).receipts)
    raws = [chain.sign(operator_key(n), chain.join_operation(n, 100)).raw for n in range(257, 512)]
    assert all(receipt.reason is None for receipt in chain.execute(*raws).receipts)
    assert chain.leave(256).status is ReceiptStatus.APPLIED
    raws = [chain.sign(operator_key(512), chain.join_operation(512, 100)).raw]
    assert all(receipt.reason is None for receipt in chain.execute(*raws).receipts)
    named = chain.end_epoch()
    assert len(named) == 256
    assert {record.address for record in named}.isdisjoint(record.address for record in chain.genesis.validators)
    assert len(chain.returns_raw()) == 256
    assert chain.epoch_state == replace(
        epoch,
        epoch=1,
        opened_ms=chain.epoch_state.opened_ms,
        agenda_tail=257,
        agenda_due_ms=chain.epoch_state.opened_ms + UNBONDING_MS,
    )
