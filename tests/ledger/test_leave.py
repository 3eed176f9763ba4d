"""Leaving: out with the epoch's end, the stake an unbonding period after it, and never the last one."""

from dataclasses import replace

import pytest

from mpisa.ledger.staking import read_claim, read_operators
from mpisa.ledger.validators import read_validators
from mpisa.primitives.errors import RejectionReason
from mpisa.primitives.identifiers import format_address
from mpisa.primitives.receipt import ReceiptStatus
from mpisa.primitives.staking import Registration
from mpisa.primitives.state_keys import Claim, registration_key
from tests.ledger.conftest import BALANCE, certificate_key, operator_key
from tests.ledger.staking import UNBONDING_MS, StakingChain, keys_of, names

R = RejectionReason
OPERATOR = format_address(operator_key(1).address)


@pytest.fixture
def chain():
    return StakingChain()


def test_it_leaves_with_the_epoch_and_its_stake_an_unbonding_period_later(chain):
    assert chain.leave(1).status is ReceiptStatus.APPLIED
    assert names(read_validators(chain.state)) == ["v1", "v2", "v3", "v4"]
    assert chain.returns() == []
    assert names(chain.end_epoch()) == ["v2", "v3", "v4"]
    closed_ms = chain.epoch_state.opened_ms
    assert chain.registration(1) == Registration(operator_key(1).address, returns=(0,))
    assert chain.returns() == [(1, 100)]
    chain.time_ms = closed_ms + UNBONDING_MS - 1
    chain.execute()
    assert chain.balance(operator_key(1)) == BALANCE
    chain.time_ms = closed_ms + UNBONDING_MS
    chain.execute()
    assert chain.balance(operator_key(1)) == BALANCE + 100
    assert registration_key(operator_key(1).address) not in chain.state
    assert read_claim(chain.state.get, Claim.CERTIFICATE, certificate_key(1).address) is None


def test_its_address_stays_its_own_until_the_stake_is_back(chain):
    chain.leave(1)
    chain.end_epoch()
    assert read_claim(chain.state.get, Claim.CERTIFICATE, certificate_key(1).address) == operator_key(1).address
    assert read_claim(chain.state.get, Claim.NAME, b"v1") is None


def test_the_set_may_change_wholly(chain):
    for number in (5, 6, 7):
        assert chain.join(number).status is ReceiptStatus.APPLIED
    for number in (1, 2, 3, 4):
        assert chain.leave(number).status is ReceiptStatus.APPLIED
    assert names(chain.end_epoch()) == ["v5", "v6", "v7"]
    assert len(read_operators(chain.state.get)) == 3


def test_the_last_of_the_next_set_stays(chain):
    for number in (1, 2, 3):
        chain.leave(number)
    receipt = chain.leave(4)
    assert (receipt.reason, receipt.detail) == (
        R.LAST_VALIDATOR,
        f"operations[0].leave-validator: {format_address(operator_key(4).address)} runs the only validator of the next "
        "set, which can't be empty; leave when another has joined",
    )
    assert chain.join(5).status is ReceiptStatus.APPLIED
    assert chain.leave(4).status is ReceiptStatus.APPLIED
    assert chain.leave(5).reason is R.LAST_VALIDATOR
    assert names(chain.end_epoch()) == ["v5"]


def test_who_never_was_in_a_set_leaves_at_once(chain):
    chain.join(5, 100)
    assert chain.leave(5).status is ReceiptStatus.APPLIED
    assert chain.registration(5) == Registration(operator_key(5).address, returns=(0,))
    assert chain.returns() == [(5, 100)]
    assert chain.leave(5).reason is R.NOT_VALIDATOR


@pytest.mark.parametrize("what", ["leave-validator", "bond", "unbond", "change-validator", "join-validator"])
def test_while_it_leaves_nothing_else_is_done_with_it(chain, what):
    chain.leave(1)
    doing = {
        "leave-validator": lambda: chain.leave(1),
        "bond": lambda: chain.bond(1, 10),
        "unbond": lambda: chain.unbond(1, 10),
        "change-validator": lambda: chain.change(1, replace(keys_of(9), certificate=None)),
        "join-validator": lambda: chain.join(1),
    }
    receipt = doing[what]()
    assert (receipt.reason, receipt.detail) == (
        R.VALIDATOR_LEAVING,
        f"operations[0].{what}: the validator of {OPERATOR} leaves when this epoch ends",
    )


@pytest.mark.parametrize("what", ["leave-validator", "bond", "unbond"])
def test_an_account_without_a_validator_has_none_to_run(chain, what):
    doing = {
        "leave-validator": lambda: chain.leave(9),
        "bond": lambda: chain.bond(9, 10),
        "unbond": lambda: chain.unbond(9, 10),
    }
    receipt = doing[what]()
    operator = format_address(operator_key(9).address)
    assert (receipt.reason, receipt.detail) == (R.NOT_VALIDATOR, f"operations[0].{what}: {operator} runs no validator")


def test_it_may_join_again_with_the_same_keys_while_stake_is_on_its_way_back(chain):
    chain.leave(1)
    chain.end_epoch()
    assert chain.join(1, 50).status is ReceiptStatus.APPLIED
    assert names(chain.end_epoch()) == ["v1", "v2", "v3", "v4"]
    chain.pass_time(2 * UNBONDING_MS)
    assert chain.balance(operator_key(1)) == BALANCE - 50 + 100
    assert read_claim(chain.state.get, Claim.CERTIFICATE, certificate_key(1).address) == operator_key(1).address
