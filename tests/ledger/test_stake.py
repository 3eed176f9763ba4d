"""More stake and less: power follows with the next epoch, what was taken out an unbonding period after that."""

import pytest

from mpisa.ledger.validators import read_validator_set
from mpisa.primitives.errors import RejectionReason
from mpisa.primitives.receipt import ReceiptStatus
from mpisa.primitives.staking import MAX_RETURNS
from tests.ledger.conftest import BALANCE, operator_key
from tests.ledger.staking import UNBONDING_MS, StakingChain

R = RejectionReason


@pytest.fixture
def chain():
    return StakingChain()


def power(chain, number):
    validators = read_validator_set(chain.state)
    return validators.validators[validators.index_of(chain.registration(number).active)].power


def test_more_stake_is_more_power_from_the_next_epoch_on(chain):
    assert chain.bond(1, 70).status is ReceiptStatus.APPLIED
    assert (power(chain, 1), chain.registration(1).record.power, chain.registration(1).bonded) == (10, 17, 170)
    assert chain.balance(operator_key(1)) == BALANCE - 70
    chain.end_epoch()
    assert power(chain, 1) == 17


def test_less_stake_is_less_power_and_comes_back_later(chain):
    chain.unbond(1, 30)
    chain.unbond(1, 20)
    registration = chain.registration(1)
    assert (registration.bonded, registration.waiting, power(chain, 1), chain.returns()) == (50, 50, 10, [])
    chain.end_epoch()
    assert (power(chain, 1), chain.registration(1).waiting, chain.returns()) == (5, 0, [(1, 50)])
    chain.pass_time(UNBONDING_MS - 20)
    assert chain.balance(operator_key(1)) == BALANCE
    chain.pass_time(10)
    assert chain.balance(operator_key(1)) == BALANCE + 50


@pytest.mark.parametrize(
    ("operation", "amount", "reason", "detail"),
    [
        ("bond", 5, R.STAKE_NOT_WHOLE, "bond: amount: expected a multiple of 10, got 5"),
        ("bond", BALANCE + 10, R.INSUFFICIENT_BALANCE, "bond: 1000010 is more than the balance of 1000000"),
        ("unbond", 5, R.STAKE_NOT_WHOLE, "unbond: amount: expected a multiple of 10, got 5"),
        ("unbond", 110, R.INSUFFICIENT_STAKE, "unbond: 110 is more than the stake of 100"),
        ("unbond", 90, R.STAKE_TOO_LOW, "unbond: amount: expected a stake of at least 20, got 10"),
    ],
)
def test_amounts_that_can_not_be(chain, operation, amount, reason, detail):
    receipt = getattr(chain, operation)(1, amount)
    assert (receipt.reason, receipt.detail) == (reason, f"operations[0].{detail}")
    assert (chain.registration(1).bonded, chain.registration(1).waiting) == (100, 0)


def test_a_bounded_number_of_amounts_is_on_its_way_back_and_leaving_is_always_allowed():
    chain = StakingChain((100, 1_000), min_epoch_ms=0)
    for _ in range(MAX_RETURNS):
        assert chain.unbond(1, 10).status is ReceiptStatus.APPLIED
    receipt = chain.unbond(1, 10)
    assert (receipt.reason, receipt.detail) == (
        R.TOO_MANY_RETURNS,
        "operations[0].unbond: expected fewer than 16 amounts on their way back, got 16",
    )
    assert chain.leave(1).status is ReceiptStatus.APPLIED
    assert len(chain.registration(1).returns) == MAX_RETURNS + 1
    assert chain.join(1).reason is R.TOO_MANY_RETURNS
    chain.pass_time(2 * UNBONDING_MS)
    assert chain.balance(operator_key(1)) == BALANCE + 1_000


def test_an_operator_that_takes_out_and_puts_in_has_two_different_stakes(chain):
    chain.unbond(1, 50)
    chain.bond(1, 50)
    assert (chain.registration(1).bonded, chain.registration(1).waiting) == (100, 50)
    chain.end_epoch()
    assert (power(chain, 1), chain.returns()) == (10, [(1, 50)])
