"""When an epoch ends, and what its last block leaves in the state."""

from dataclasses import replace

import pytest

from mpisa.ledger.offences import Offence, OffenceKind
from mpisa.ledger.staking import read_epoch
from mpisa.ledger.validators import read_validators
from mpisa.primitives.genesis import ChainParameters
from mpisa.primitives.identifiers import Epoch
from mpisa.primitives.staking import EpochState
from mpisa.primitives.staking_parameters import StakingParameters
from mpisa.primitives.state_keys import validator_key
from tests.ledger.conftest import START_MS, Chain, certificate_key, make_validator

MIN_EPOCH_MS = 5_000


@pytest.fixture
def chain():
    return Chain(ChainParameters(staking=StakingParameters(min_epoch_ms=MIN_EPOCH_MS)), (10, 20, 30, 40))


def offence(number: int) -> Offence:
    return Offence(OffenceKind.DOUBLE_VERTEX, certificate_key(number).address, Epoch(0), 7, bytes([number]) * 32)


def by_address(*numbers: int):
    powers = {1: 10, 2: 20, 3: 30, 4: 40}
    return tuple(sorted((make_validator(n, powers[n]) for n in numbers), key=lambda record: record.address))


def test_an_epoch_in_which_nothing_waits_goes_on(chain):
    chain.time_ms += 1_000 * MIN_EPOCH_MS
    result = chain.execute()
    assert (result.next_validators, result.changes) == (None, ())


def test_the_first_block_that_is_old_enough_closes_and_later_ones_do_not(chain):
    opened_ms = chain.genesis.time_ms
    assert chain.execute(offences=(offence(2),)).next_validators is None
    chain.time_ms = opened_ms + MIN_EPOCH_MS - 1
    assert chain.execute().next_validators is None
    assert read_validators(chain.state) == by_address(1, 2, 3, 4)
    chain.time_ms = opened_ms + MIN_EPOCH_MS
    assert chain.execute().next_validators == by_address(1, 3, 4)
    assert read_validators(chain.state) == by_address(1, 3, 4)
    assert validator_key(certificate_key(2).address) not in chain.state
    assert replace(read_epoch(chain.state.get), agenda_tail=0, agenda_due_ms=0) == EpochState(
        epoch=1, opened_ms=opened_ms + MIN_EPOCH_MS, pending=False, seated=3, electable=3
    )
    chain.time_ms += 10 * MIN_EPOCH_MS
    assert chain.execute().next_validators is None


def test_what_waits_long_enough_closes_in_the_block_that_brings_it(chain):
    chain.time_ms = START_MS + MIN_EPOCH_MS
    assert chain.execute(offences=(offence(1), offence(3))).next_validators == by_address(2, 4)


def test_an_epoch_whose_next_set_would_be_empty_goes_on(chain):
    chain.time_ms += MIN_EPOCH_MS
    assert chain.execute(offences=tuple(offence(number) for number in (1, 2, 3, 4))).next_validators is None
    assert read_validators(chain.state) == by_address(1, 2, 3, 4)
    assert read_epoch(chain.state.get).electable == 0
