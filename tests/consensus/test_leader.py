"""Leader schedules."""

import json
from pathlib import Path
from typing import Any

import pytest

from consensus.order.leader import DrawnByStake, Listed, RoundRobin, schedule_for
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
