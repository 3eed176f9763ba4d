"""The commit rule, every state: with equivocators it holds, and each planted fault is found."""

from __future__ import annotations

import pytest

from tests.model.checker import explore
from tests.model.commit_rule import Model, Rule, agreement
from tests.model.sequence import disagreement, tables

MAX_STATES = 400_000
SETS = {
    "4 equal, 1 Byzantine": ((1, 1, 1, 1), 1),
    "4 unequal, 1 Byzantine": ((3, 3, 2, 3), 1),
    "5 unequal, 2 Byzantine": ((3, 3, 3, 2, 2), 2),
}


@pytest.mark.parametrize("name", sorted(SETS))
@pytest.mark.parametrize("is_leader_honest", [True, False])
def test_no_two_views_contradict_each_other(name: str, is_leader_honest: bool) -> None:
    powers, byzantine = SETS[name]
    model = Model(powers, byzantine, is_leader_honest)
    result = explore([model.first()], model.steps, agreement(model), max_states=MAX_STATES)
    print(f"{name}, {'honest' if is_leader_honest else 'Byzantine'} leader: {len(result.depths)} states")
    assert result.violation is None
    verdicts = {tuple(model.direct(state)) for state in result.depths}
    assert verdicts == {(), ("b",), ("-",)} | (set() if is_leader_honest else {("c",)})


def third(stake: int, total: int) -> bool:
    return 3 * stake > total


FAULTS = {
    "commit on a validity threshold of certificates": Rule(commits=third),
    "commit on one certificate": Rule(commits=lambda stake, total: stake > 0),
    "skip at a validity threshold": Rule(skips=third),
    "certificate from a validity threshold of votes": Rule(certifies=third),
    "count vertices instead of authors": Rule(counts_vertices=True),
    "parents that are no quorum": Rule(is_quorum=third),
}


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_planted_fault_is_found(fault: str) -> None:
    model = Model((1, 1, 1, 1), 1, is_leader_honest=False, rule=FAULTS[fault])
    result = explore([model.first()], model.steps, agreement(model), max_states=MAX_STATES)
    assert result.violation is not None
    assert result.violation.steps


def test_more_than_a_third_of_stake_is_too_much() -> None:
    model = Model((1, 1, 1), 1, is_leader_honest=False)
    result = explore([model.first()], model.steps, agreement(model), max_states=MAX_STATES)
    assert result.violation is None  # all three must sign: nothing is decided against an honest author
    model = Model((1, 1, 1, 1), 2, is_leader_honest=False)
    result = explore([model.first()], model.steps, agreement(model), max_states=MAX_STATES)
    assert result.violation is not None


@pytest.mark.parametrize("rounds", [(1, 2, 3, 4, 5, 6), (1, 1, 2, 4, 4, 5)], ids=["one a round", "two a round"])
def test_agreement_on_each_slot_is_agreement_on_all(rounds: tuple[int, ...]) -> None:
    count = 0
    for table in tables(rounds):
        count += 1
        assert disagreement(table) is None, table
    print(f"{count} tables")
    assert count > 50_000
