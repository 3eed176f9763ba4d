"""Random histories of validators: stake is conserved, the set is never empty nor too large, all nodes agree."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpisa.ledger import validator_operations
from mpisa.ledger.offences import Offence, OffenceKind
from mpisa.ledger.staking import read_claim, read_epoch, read_operators, read_registration, read_registrations
from mpisa.ledger.transition import execute_block
from mpisa.ledger.validators import read_validator_set, read_validators
from mpisa.primitives.identifiers import Address, Epoch
from mpisa.primitives.keys import KeyKind
from mpisa.primitives.operations import Transfer
from mpisa.primitives.receipt import ReceiptStatus
from mpisa.primitives.staking import MAX_RETURNS, Registration, Return, claims_of, decode_agenda_entry
from mpisa.primitives.state_keys import (
    AGENDA_SPACE,
    CLAIM_SPACE,
    REGISTRATION_SPACE,
    VALIDATOR_SPACE,
    Claim,
    agenda_key,
)
from mpisa.primitives.validator_operations import Bond, LeaveValidator, Unbond, ValidatorKeys, change_validator
from tests.ledger.conftest import operator_key
from tests.ledger.staking import EXPIRES_MS, UNBONDING_MS, StakingChain, keys_of, other_key

PLACES = 6
people = st.integers(1, 9)
amounts = st.sampled_from([0, 10, 20, 30, 80, 100, 105, 2_000_000])
actions = st.one_of(
    st.tuples(st.sampled_from(["join", "bond", "unbond"]), people, amounts),
    st.tuples(st.sampled_from(["join as another", "leave", "consensus", "certificate", "transfer"]), people, people),
)
offences = st.tuples(st.sampled_from(list(OffenceKind)), people, st.integers(0, 3), st.booleans())
blocks = st.fixed_dictionaries(
    {
        "actions": st.lists(actions, max_size=5),
        "offences": st.lists(offences, max_size=2),
        "later_ms": st.sampled_from([10, 10, 1_000, 3_000, 6_000, UNBONDING_MS // 2, 2 * UNBONDING_MS]),
    }
)
histories = st.lists(blocks, min_size=1, max_size=14)
in_memory = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture
def places(monkeypatch):
    """A cap that random histories meet."""
    monkeypatch.setattr(validator_operations, "MAX_VALIDATORS", PLACES)


def build(chain, kind, number, value, nonce):
    operator = operator_key(number).address
    match kind:
        case "join" | "join as another":
            keys, stake = (keys_of(number), value) if kind == "join" else (keys_of(value), 100)
            operation = chain.join_operation(number, stake, keys)
            proven = keys.prove(chain.chain_hash, operator, nonce)
            return replace(operation, consensus=proven[0], certificate=proven[1])
        case "bond":
            return Bond(value or 10)
        case "unbond":
            return Unbond(value or 10)
        case "leave":
            return LeaveValidator()
        case "transfer":
            return Transfer(operator_key(value % 9 + 1).address if value % 9 + 1 != number else bytes(20), 10)
        case "consensus":
            return change_validator(
                ValidatorKeys(consensus=other_key(value)), chain.chain_hash, operator, nonce, peer_id=f"peer {value}"
            )
        case _:
            keys = ValidatorKeys(certificate=other_key(value, KeyKind.SECP256K1))
            return change_validator(keys, chain.chain_hash, operator, nonce)


def make_block(chain, block):
    raws, used = [], {}
    for kind, number, value in block["actions"]:
        nonce = used.get(number, chain.nonce(number))
        used[number] = nonce + 1
        operation = build(chain, kind, number, value, nonce)
        raws.append(chain.sign(operator_key(number), operation, nonce=nonce, expires_ms=EXPIRES_MS).raw)
    found = []
    for kind, number, back, rotated in block["offences"]:
        key = other_key(number, KeyKind.SECP256K1) if rotated else keys_of(number).certificate
        epoch = Epoch(max(0, chain.epoch - back))
        found.append(Offence(kind, key.address, epoch, 5, bytes([number]) * 32))
    return raws, tuple(found)


def check_registrations(chain):
    epoch = read_epoch(chain.state.get)
    stored = {
        Address(key[len(REGISTRATION_SPACE) :]): Registration.decode(Address(key[len(REGISTRATION_SPACE) :]), value)
        for key, value in chain.state.items()
        if key.startswith(REGISTRATION_SPACE)
    }
    listed = read_registrations(chain.state.get)
    assert [item.operator for item in listed] == sorted(item.operator for item in stored.values() if item.record)
    assert read_operators(chain.state.get) == tuple(item.operator for item in listed)
    assert epoch.seated == sum(item.is_seated for item in stored.values()) <= PLACES
    assert epoch.electable == sum(item.is_electable for item in stored.values())
    assert not any(item.is_empty for item in stored.values())
    for item in stored.values():
        assert len(item.returns) <= MAX_RETURNS + 2
        assert item.record is not None or (item.bonded, item.waiting, item.active, item.leaving) == (0, 0, b"", False)
        if item.is_seated:
            assert item.record.power == item.bonded // 10 >= 2
            for claim, value in claims_of(item.record):
                assert read_claim(chain.state.get, claim, value) == item.operator
        if item.active:
            assert read_claim(chain.state.get, Claim.CERTIFICATE, item.active) == item.operator
    return stored


def check_agenda(chain, stored):
    epoch = read_epoch(chain.state.get)
    entries = {
        number: decode_agenda_entry(chain.state[agenda_key(number)])
        for number in range(epoch.agenda_head, epoch.agenda_tail)
    }
    assert len(entries) == sum(key.startswith(AGENDA_SPACE) for key in chain.state)
    due = [entry.due_ms for entry in entries.values()]
    assert due == sorted(due)
    assert epoch.agenda_due_ms == (due[0] if due else 0)
    numbers = {number: entry.operator for number, entry in entries.items() if isinstance(entry, Return)}
    assert numbers == {number: item.operator for item in stored.values() for number in item.returns}
    for entry in entries.values():
        if isinstance(entry, Return) and entry.released:
            assert read_claim(chain.state.get, Claim.CERTIFICATE, entry.released) == entry.operator


def check_set(chain, stored):
    records = read_validators(chain.state)
    assert 1 <= len(records) <= 2 * PLACES
    assert {record.operator: record.address for record in records} == {
        item.operator: item.active for item in stored.values() if item.active
    }
    for field in ("name", "consensus_key", "peer_id", "operator"):
        assert len({getattr(record, field) for record in records}) == len(records)
    assert read_validator_set(chain.state).total_power < 1 << 64
    assert sum(key.startswith(VALIDATOR_SPACE) for key in chain.state) == len(records)


@in_memory
@given(history=histories)
def test_random_histories_keep_what_section_15_promises(history, places):
    chain = StakingChain((10, 20, 30))
    total = chain.value_in_all()
    for block in history:
        raws, found = make_block(chain, block)
        before, epoch = dict(chain.state), read_epoch(chain.state.get)
        twin = execute_block(dict(sorted(before.items(), reverse=True)), raws, chain.context, offences=found)
        result = chain.execute(*raws, offences=found)
        assert result == twin
        total -= sum(punishment.burned for punishment in result.punishments)
        assert chain.value_in_all() == total
        stored = check_registrations(chain)
        check_agenda(chain, stored)
        check_set(chain, stored)
        if result.next_validators is None:
            assert read_validators(chain.state) == read_validators(before)
            assert chain.epoch_state.epoch == epoch.epoch
        else:
            assert read_validators(chain.state) == result.next_validators
            assert 1 <= len(result.next_validators) <= PLACES
            assert (chain.epoch_state.epoch, chain.epoch_state.pending) == (epoch.epoch + 1, False)
            assert chain.context.time_ms - 10 - epoch.opened_ms >= chain.staking.min_epoch_ms
        chain.time_ms += block["later_ms"]


@in_memory
@given(history=histories)
def test_everything_comes_back_when_everybody_leaves(history):
    """When all but one have left and their periods have passed, only that one's stake and claims are left."""
    chain = StakingChain((10, 20, 30))
    for block in history:
        raws, found = make_block(chain, block)
        chain.execute(*raws, offences=found)
        chain.time_ms += block["later_ms"]
    chain.time_ms += 2 * UNBONDING_MS
    chain.join(12)
    chain.end_epoch()
    for number in range(1, 10):
        receipt = chain.leave(number)
        assert receipt.status is ReceiptStatus.APPLIED or receipt.reason.value in ("not-validator", "validator-leaving")
    chain.end_epoch()
    for _ in range(4):
        chain.pass_time(2 * UNBONDING_MS)
    left = [read_registration(chain.state.get, operator) for operator in read_operators(chain.state.get)]
    assert [item.record.name for item in left] == ["v12"]
    assert chain.returns_raw() == []
    assert sum(key.startswith(CLAIM_SPACE) for key in chain.state) == 4
    assert sum(key.startswith(REGISTRATION_SPACE) for key in chain.state) == 1
