"""Offences: slashed and out, or jailed; once an epoch, as long as they count, wherever the stake is meanwhile."""

from dataclasses import replace

import pytest

from mpisa.ledger.offences import OffenceKind, Punishment
from mpisa.ledger.validators import read_validators
from mpisa.primitives.errors import RejectionReason
from mpisa.primitives.identifiers import Address, Epoch, format_address
from mpisa.primitives.keys import KeyKind
from mpisa.primitives.receipt import ReceiptStatus
from mpisa.primitives.staking import Registration
from mpisa.primitives.state_keys import OFFENCE_SPACE
from mpisa.primitives.validator_operations import ValidatorKeys
from tests.ledger.conftest import BALANCE, certificate_key, operator_key
from tests.ledger.staking import UNBONDING_MS, StakingChain, double_vertex, names, other_key

R = RejectionReason
STRAY = OffenceKind.STRAY_HEADER
ONE = operator_key(1).address


@pytest.fixture
def chain():
    return StakingChain()


def remembered(chain):
    return sum(key.startswith(OFFENCE_SPACE) for key in chain.state)


@pytest.mark.parametrize(
    "kind",
    [OffenceKind.DOUBLE_VERTEX, OffenceKind.DOUBLE_HEADER, OffenceKind.ABOVE_CLOSING],
    ids=lambda kind: kind.value,
)
def test_a_punishable_act_burns_stake_and_ends_with_the_epoch(chain, kind):
    before = chain.value_in_all()
    offence = double_vertex(1, kind=kind)
    result = chain.execute(offences=(offence,))
    assert result.punishments == (Punishment(offence, ONE, burned=10, jailed_until_ms=0),)
    assert chain.value_in_all() == before - 10
    assert names(read_validators(chain.state)) == ["v1", "v2", "v3", "v4"]
    assert chain.bond(1, 10).reason is R.VALIDATOR_LEAVING
    assert names(chain.end_epoch()) == ["v2", "v3", "v4"]
    assert chain.returns() == [(1, 90)]
    chain.pass_time(UNBONDING_MS)
    assert chain.balance(operator_key(1)) == BALANCE + 90


def test_an_epochs_acts_are_punished_once_however_many_show(chain):
    twice = (double_vertex(1), double_vertex(1, position=8), double_vertex(1, kind=OffenceKind.DOUBLE_HEADER))
    assert [item.burned for item in chain.execute(offences=twice).punishments] == [10]
    assert chain.execute(offences=twice).punishments == ()
    chain.end_epoch()
    assert chain.execute(offences=twice).punishments == ()
    assert chain.returns() == [(1, 90)]


def test_a_part_is_rounded_up():
    chain = StakingChain((10, 10), slash_ppm=1)
    assert [item.burned for item in chain.execute(offences=(double_vertex(1),)).punishments] == [1]


def test_a_part_may_be_nothing_or_everything():
    for part, burned in ((0, 0), (1_000_000, 100)):
        chain = StakingChain((10, 10), slash_ppm=part)
        assert [item.burned for item in chain.execute(offences=(double_vertex(1),)).punishments] == [burned]
        assert names(chain.end_epoch()) == ["v2"]


def test_stake_that_was_taken_out_since_answers_too(chain):
    chain.unbond(1, 30)
    waiting = StakingChain()
    waiting.unbond(1, 30)
    assert [item.burned for item in waiting.execute(offences=(double_vertex(1),)).punishments] == [7 + 3]
    chain.end_epoch()
    assert [item.burned for item in chain.execute(offences=(double_vertex(1, epoch=0),)).punishments] == [7 + 3]
    assert chain.returns() == [(1, 27)]


def test_stake_that_was_out_before_does_not_answer(chain):
    chain.unbond(1, 30)
    chain.end_epoch()
    assert [item.burned for item in chain.execute(offences=(double_vertex(1, epoch=1),)).punishments] == [7]
    assert chain.returns() == [(1, 30)]


def test_who_left_is_slashed_while_the_stake_is_on_its_way_back(chain):
    chain.leave(1)
    chain.end_epoch()
    result = chain.execute(offences=(double_vertex(1),))
    assert result.punishments == (Punishment(double_vertex(1), ONE, burned=10, jailed_until_ms=0),)
    assert (chain.returns(), chain.epoch_state.pending) == ([(1, 90)], False)


def test_who_left_and_joined_again_is_out_again(chain):
    chain.leave(1)
    chain.end_epoch()
    chain.join(1, 200)
    assert [item.burned for item in chain.execute(offences=(double_vertex(1),)).punishments] == [10 + 20]
    assert names(chain.end_epoch()) == ["v2", "v3", "v4"]
    assert chain.returns() == [(1, 90), (1, 180)]


def test_an_act_counts_for_an_unbonding_period_after_its_epoch_closed(chain):
    chain.bond(2, 10)
    chain.end_epoch()
    closed_ms = chain.epoch_state.opened_ms
    late = StakingChain()
    late.state, late.epoch, late.height = dict(chain.state), chain.epoch, chain.height
    chain.time_ms = closed_ms + UNBONDING_MS
    assert [item.burned for item in chain.execute(offences=(double_vertex(1),)).punishments] == [10]
    late.time_ms = closed_ms + UNBONDING_MS + 1
    assert late.execute(offences=(double_vertex(1),)).punishments == ()
    assert late.registration(1).bonded == 100


def test_what_is_remembered_is_forgotten_when_it_counts_no_more(chain):
    chain.execute(offences=(double_vertex(1), double_vertex(2, kind=STRAY)))
    chain.pass_time(10 * UNBONDING_MS)
    assert remembered(chain) == 2, "the epoch that it happened in closed in this very block"
    chain.pass_time(UNBONDING_MS)
    assert remembered(chain) == 0
    assert chain.execute(offences=(double_vertex(1, epoch=0),)).punishments == ()


def test_an_act_of_a_closed_epoch_is_remembered_as_long(chain):
    chain.bond(2, 10)
    chain.end_epoch()
    chain.execute(offences=(double_vertex(1, epoch=0),))
    assert remembered(chain) == 1
    chain.pass_time(UNBONDING_MS)
    assert remembered(chain) == 0


@pytest.mark.parametrize(
    "offence",
    [
        replace(double_vertex(1), epoch=Epoch(1)),
        replace(double_vertex(1), epoch=Epoch(77)),
        replace(double_vertex(1), address=Address(bytes(20))),
        double_vertex(9),
    ],
    ids=["next epoch", "far epoch", "nobody", "no validator"],
)
def test_what_nobody_can_be_charged_with_changes_nothing(chain, offence):
    result = chain.execute(offences=(offence,))
    assert (result.punishments, result.changes) == ((), ())


def test_who_left_can_not_have_done_anything_in_an_epoch_without_it(chain):
    chain.leave(1)
    chain.end_epoch()
    assert chain.execute(offences=(double_vertex(1, epoch=1),)).punishments == ()
    assert chain.returns() == [(1, 100)]


def test_a_stray_header_of_another_epoch_jails_for_longer(chain):
    chain.bond(2, 10)
    chain.end_epoch()
    chain.execute(offences=(double_vertex(1, epoch=0, kind=STRAY),))
    chain.time_ms += 3_000
    at_ms = chain.time_ms
    chain.execute(offences=(double_vertex(1, epoch=1, kind=STRAY),))
    assert chain.registration(1).jailed_until_ms == at_ms + 7_000
    assert chain.epoch_state.electable == 3


def test_a_stray_header_jails_and_burns_nothing(chain):
    offence = double_vertex(1, kind=STRAY)
    at_ms = chain.time_ms
    result = chain.execute(offences=(offence,))
    assert result.punishments == (Punishment(offence, ONE, burned=0, jailed_until_ms=at_ms + 7_000),)
    assert names(chain.end_epoch()) == ["v2", "v3", "v4"]
    assert chain.registration(1) == replace(
        chain.registration(1), bonded=100, active=b"", leaving=False, jailed_until_ms=at_ms + 7_000, returns=(1,)
    )


def test_who_is_jailed_comes_back_by_asking_when_it_may(chain):
    at_ms = chain.time_ms
    chain.execute(offences=(double_vertex(1, kind=STRAY),))
    chain.end_epoch()
    chain.time_ms = at_ms + 7_000 - 1
    receipt = chain.join(1, 0)
    assert (receipt.reason, receipt.detail) == (
        R.VALIDATOR_JAILED,
        f"operations[0].join-validator: {format_address(ONE)} may come back at {at_ms + 7_000}, "
        f"the chain's time is {at_ms + 7_000 - 1}",
    )
    assert chain.join(1, 0).status is ReceiptStatus.APPLIED
    assert names(chain.end_epoch()) == ["v1", "v2", "v3", "v4"]
    assert (chain.registration(1).bonded, chain.registration(1).jailed_until_ms) == (100, 0)


def test_who_is_jailed_answers_under_the_address_it_had_though_it_takes_another(chain):
    chain.execute(offences=(double_vertex(1, kind=STRAY),))
    chain.end_epoch()
    assert chain.change(1, ValidatorKeys(certificate=other_key(1, KeyKind.SECP256K1))).status is ReceiptStatus.APPLIED
    assert [item.burned for item in chain.execute(offences=(double_vertex(1),)).punishments] == [10]


def test_who_is_jailed_may_leave_instead(chain):
    chain.execute(offences=(double_vertex(1, kind=STRAY),))
    chain.end_epoch()
    assert chain.leave(1).status is ReceiptStatus.APPLIED
    assert chain.registration(1) == Registration(ONE, returns=chain.registration(1).returns)
    chain.pass_time(UNBONDING_MS)
    assert chain.balance(operator_key(1)) == BALANCE + 100


def test_who_is_jailed_is_not_counted_as_one_who_could_stay(chain):
    chain.execute(offences=tuple(double_vertex(number, kind=STRAY) for number in (1, 2, 3)))
    assert chain.leave(4).reason is R.LAST_VALIDATOR
    assert chain.leave(1).status is ReceiptStatus.APPLIED


def test_a_slashed_one_that_was_jailed_before_is_slashed_as_well(chain):
    result = chain.execute(offences=(double_vertex(1, kind=STRAY), double_vertex(1)))
    assert [item.burned for item in result.punishments] == [0, 10]
    assert names(chain.end_epoch()) == ["v2", "v3", "v4"]
    assert chain.registration(1).record is None


def test_all_of_them_stay_until_somebody_else_joins(chain):
    chain.execute(offences=tuple(double_vertex(number) for number in (1, 2, 3, 4)))
    assert chain.end_epoch() is None
    chain.join(5)
    assert names(read_validators(chain.state)) == ["v5"]


def test_an_offence_in_the_block_that_would_return_the_stake_still_counts(chain):
    chain.leave(1)
    chain.end_epoch()
    chain.time_ms = chain.epoch_state.opened_ms + UNBONDING_MS
    assert [item.burned for item in chain.execute(offences=(double_vertex(1),)).punishments] == [10]
    assert chain.balance(operator_key(1)) == BALANCE + 90


def test_a_validator_that_joined_and_was_in_no_set_leaves_at_once_when_punished_for_earlier(chain):
    chain.leave(1)
    chain.end_epoch()
    chain.join(1, 200)
    chain.execute(offences=(double_vertex(1),))
    assert chain.registration(1).record is None
    assert certificate_key(1).address not in [record.address for record in read_validators(chain.state)]
