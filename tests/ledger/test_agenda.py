"""The agenda: in order, a bounded number a block, and nothing is lost when a balance is full."""

from dataclasses import replace

from mpisa.ledger.agenda import MAX_SETTLED_A_BLOCK
from mpisa.ledger.staking import read_epoch
from mpisa.ledger.transition import execute_block
from mpisa.primitives import codec
from mpisa.primitives.staking import Forget, encode_agenda_entry
from mpisa.primitives.state_keys import AGENDA_SPACE, CLOSED_SPACE, account_key, agenda_key, closed_key, epoch_key
from tests.ledger.conftest import operator_key
from tests.ledger.staking import UNBONDING_MS, StakingChain

U64 = (1 << 64) - 1


def entries(chain):
    return sum(key.startswith(AGENDA_SPACE) for key in chain.state)


def test_a_block_settles_a_bounded_number_and_the_next_one_goes_on():
    chain = StakingChain()
    for number in range(150):
        chain.state[closed_key(1_000 + number)] = codec.encode(number)
        chain.state[agenda_key(number)] = encode_agenda_entry(Forget(chain.time_ms, closed_key(1_000 + number)))
    filled = replace(chain.epoch_state, agenda_tail=150, agenda_due_ms=chain.time_ms)
    chain.state[epoch_key()] = filled.encode()
    left = []
    for _ in range(4):
        chain.execute()
        left.append((entries(chain), sum(key.startswith(CLOSED_SPACE) for key in chain.state)))
    assert MAX_SETTLED_A_BLOCK == 64
    assert left == [(86, 86), (22, 22), (0, 0), (0, 0)]
    assert read_epoch(chain.state.get) == replace(filled, agenda_head=150, agenda_due_ms=0)


def test_a_block_with_nothing_due_reads_no_entry():
    chain = StakingChain()
    chain.leave(1)
    chain.end_epoch()
    asked = []

    class View:
        def get(self, key):
            asked.append(key)
            return chain.state.get(key)

    execute_block(View(), [], chain.context)
    assert [key for key in asked if key.startswith(AGENDA_SPACE)] == []
    assert len(asked) <= 4


def test_an_epoch_is_remembered_for_an_unbonding_period():
    chain = StakingChain()
    chain.bond(1, 10)
    chain.end_epoch()
    closed_ms = chain.epoch_state.opened_ms
    assert chain.state[closed_key(0)] == codec.encode(closed_ms)
    chain.time_ms = closed_ms + UNBONDING_MS
    chain.execute()
    assert closed_key(0) not in chain.state


def test_stake_that_fits_no_balance_is_tried_again_a_period_later():
    chain = StakingChain()
    chain.unbond(1, 50)
    chain.end_epoch()
    account = chain.account(operator_key(1))
    chain.state[account_key(account.address)] = replace(account, balance=U64).encode()
    before = chain.value_in_all()
    chain.pass_time(UNBONDING_MS)
    assert (chain.returns(), chain.value_in_all()) == ([(1, 50)], before)
    assert len(chain.registration(1).returns) == 1
    chain.state[account_key(account.address)] = replace(chain.account(operator_key(1)), balance=7).encode()
    chain.pass_time(UNBONDING_MS)
    assert (chain.returns(), chain.balance(operator_key(1))) == ([], 57)


def test_stake_returns_to_an_account_that_never_did_anything():
    """A genesis operator needs no account of its own until then."""
    chain = StakingChain()
    account = chain.account(operator_key(1))
    chain.leave(1)
    chain.end_epoch()
    del chain.state[account_key(account.address)]
    chain.pass_time(UNBONDING_MS)
    assert chain.account(operator_key(1)).balance == 100
