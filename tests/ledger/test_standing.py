"""How validators and operators stand, as the API and the command line ask."""

import pytest

from mpisa.ledger.offences import OffenceKind
from mpisa.ledger.standing import Change, StakeStanding, read_stake, read_staking
from mpisa.primitives.identifiers import Address
from mpisa.primitives.staking import Registration, Return
from mpisa.primitives.validator_operations import ValidatorKeys
from tests.ledger.conftest import certificate_key, operator_key
from tests.ledger.staking import MIN_EPOCH_MS, UNBONDING_MS, StakingChain, double_vertex, other_key


@pytest.fixture
def chain():
    return StakingChain()


def test_every_kind_of_change_shows(chain):
    chain.leave(1)
    chain.bond(2, 50)
    chain.change(3, ValidatorKeys(consensus=other_key(3)))
    chain.join(5)
    chain.join(6, 300)
    chain.execute(offences=(double_vertex(4, kind=OffenceKind.STRAY_HEADER),))
    staking = read_staking(chain.state)
    assert {item.record.name: item.change for item in staking.validators} == {
        "v1": Change.LEAVES,
        "v2": Change.CHANGES,
        "v3": Change.CHANGES,
        "v4": Change.LEAVES,
        "v5": Change.JOINS,
        "v6": Change.JOINS,
    }
    powers = {
        item.record.name: (item.now.power if item.now else 0, item.next.power if item.next else 0)
        for item in staking.validators
    }
    assert powers == {"v1": (10, 0), "v2": (10, 15), "v3": (10, 10), "v4": (10, 0), "v5": (0, 10), "v6": (0, 30)}
    assert staking.closes_from_ms == chain.genesis.time_ms + MIN_EPOCH_MS
    assert (staking.epoch.pending, staking.epoch.electable) == (True, 4)


def test_the_set_comes_first_and_in_its_own_order(chain):
    chain.join(5)
    chain.join(6)
    addresses = [item.record.address for item in read_staking(chain.state).validators]
    active = sorted(certificate_key(number).address for number in (1, 2, 3, 4))
    assert addresses == [*active, *sorted(certificate_key(number).address for number in (5, 6))]


def test_nothing_changes_where_nothing_was_asked_for(chain):
    assert {item.change for item in read_staking(chain.state).validators} == {Change.NONE}


def test_what_is_on_its_way_back_comes_with_its_time(chain):
    chain.unbond(1, 30)
    chain.end_epoch()
    first_ms = chain.epoch_state.opened_ms + UNBONDING_MS
    chain.leave(1)
    chain.end_epoch()
    operator = operator_key(1).address
    second_ms = chain.epoch_state.opened_ms + UNBONDING_MS
    assert read_stake(chain.state, operator) == StakeStanding(
        chain.registration(1),
        None,
        (
            Return(first_ms, operator, 30, 0),
            Return(second_ms, operator, 70, 1, certificate_key(1).address),
        ),
    )


def test_an_address_to_free_is_no_amount_on_its_way(chain):
    chain.change(1, ValidatorKeys(certificate=other_key(1, certificate_key(1).kind)))
    chain.end_epoch()
    assert len(chain.registration(1).returns) == 1
    assert read_stake(chain.state, operator_key(1).address).returns == ()


def test_who_has_nothing_stands_empty(chain):
    nobody = Address(bytes(range(20)))
    assert read_stake(chain.state, nobody) == StakeStanding(Registration(nobody), None, ())
