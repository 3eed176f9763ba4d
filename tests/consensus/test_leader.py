"""Leader schedules."""

import json
from pathlib import Path
from typing import Any

import pytest

from consensus.order.leader import MAX_DRAWS, DrawnByStake, Listed, RoundRobin, Substituted, schedule_for
from tests.simulator.world import committee_of

SCHEDULES = json.loads((Path(__file__).parents[1] / "vectors" / "chain.json").read_text())["schedules"]


@pytest.mark.parametrize("entry", SCHEDULES)
def test_vectors(entry: dict[str, Any]) -> None:
    schedule = DrawnByStake(bytes.fromhex(entry["chain_hash"]), bytes.fromhex(entry["anchor"]), entry["powers"], 2)
    for item in entry["rounds"]:
        assert list(schedule.leaders(item["round"])) == item["leaders"]


def test_equal_power_takes_turns() -> None:
    assert [RoundRobin(4, 2).leaders(number) for number in (1, 2, 3, 4)] == [(1, 2), (2, 3), (3, 0), (0, 1)]
    assert RoundRobin(1, 2).leaders(9) == (0,)


def test_equal_and_unequal_power_choose_their_schedule() -> None:
    equal, unequal = committee_of((2, 2, 2, 2))[0], committee_of((1, 2, 3, 4))[0]
    assert isinstance(schedule_for(equal, bytes(32), bytes(32), 2), RoundRobin)
    assert isinstance(schedule_for(unequal, bytes(32), bytes(32), 2), DrawnByStake)


def test_draws_follow_stake_and_never_repeat_in_a_round() -> None:
    schedule = DrawnByStake(bytes(32), bytes(32), (1, 9), 2)
    first = [schedule.leaders(number)[0] for number in range(1, 2_001)]
    assert all(sorted(schedule.leaders(number)) == [0, 1] for number in range(1, 200))
    assert 120 < first.count(0) < 280
    assert len(schedule._cache) <= 4_096


def test_a_list_ends() -> None:
    assert Listed([[1], [2, 0]]).leaders(2) == (2, 0)
    assert Listed([[1]]).leaders(2) == ()


def test_next_to_a_stake_that_is_nearly_all_a_round_has_fewer_slots() -> None:
    schedule = DrawnByStake(bytes(32), bytes(32), (1, 1 << 60), 2)
    assert {schedule.leaders(number) for number in range(1, 50)} == {(1,)}
    assert MAX_DRAWS == 64


def test_slots_of_the_suspended_go_to_others_by_stake_and_no_other_slot_moves() -> None:
    base = RoundRobin(7, 2)
    schedule = Substituted(base, bytes(32), bytes(32), (1,) * 7, {2, 3})
    substitutes: dict[int, int] = {}
    for number in range(1, 2_801):
        before, after = base.leaders(number), schedule.leaders(number)
        assert len(set(after)) == 2
        assert not {2, 3} & set(after)
        for old, new in zip(before, after, strict=True):
            if old in (2, 3):
                substitutes[new] = substitutes.get(new, 0) + 1
            else:
                assert new == old
    assert sorted(substitutes) == [0, 1, 4, 5, 6]
    assert all(200 < count < 450 for count in substitutes.values())


def test_substitutes_are_drawn_by_stake() -> None:
    schedule = Substituted(Listed([[0]] * 900), bytes(32), bytes(32), (5, 1, 8), {0})
    chosen = [schedule.leaders(number) for number in range(1, 901)]
    assert 60 < chosen.count((1,)) < 140
    assert chosen.count((1,)) + chosen.count((2,)) == 900


def test_a_slot_that_nobody_can_take_falls_away() -> None:
    schedule = Substituted(Listed([[1, 0], [0, 2]]), bytes(32), bytes(32), (1, 1, 9), {0, 1})
    assert schedule.leaders(1) == (2,)
    assert schedule.leaders(2) == (2,)


def test_no_residue_of_the_wave_belongs_to_one_authority_when_three_of_four_lead() -> None:
    """Taking turns among three would give one of them slot 0 of every third round: an undecided slot looks nowhere
    else.
    """
    schedule = Substituted(RoundRobin(4, 1), bytes(32), bytes(32), (1,) * 4, {0})
    for residue in range(3):
        assert {schedule.leaders(number)[0] for number in range(12 + residue, 120, 3)} == {1, 2, 3}
