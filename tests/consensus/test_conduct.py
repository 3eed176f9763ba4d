"""Points for skips and commits, suspension at the limit, probation, never a third of stake."""

import pytest

from consensus.order.conduct import Conduct, Record, conduct_root, judge, suspended
from consensus.parameters import Parameters
from mpisa.primitives.digest import ZERO_DIGEST, tagged

PARAMETERS = Parameters(suspension_skips=3, suspension_commits=10)
EQUAL = (1, 1, 1, 1)


def after(conduct: Conduct, missed: list[int], index: int, leader: int = 0, powers: tuple[int, ...] = EQUAL) -> Conduct:
    return judge(conduct, missed, leader, index, powers, PARAMETERS)


def test_three_skips_in_a_row_suspend_for_the_named_number_of_commits() -> None:
    conduct = after((), [2], 1)
    assert conduct == (Record(2, 2, 0),)
    conduct = after(conduct, [2], 2)
    assert conduct == (Record(2, 4, 0),)
    assert suspended(conduct, 2) == frozenset()
    conduct = after(conduct, [2], 3)
    assert conduct == (Record(2, 4, 13),)
    assert [2 in suspended(conduct, index) for index in (3, 12, 13)] == [True, True, False]


def test_skips_between_two_commits_count_one_by_one_and_no_more_once_out() -> None:
    assert after((), [2, 1, 2, 2, 2, 2], 1) == (Record(1, 2, 0), Record(2, 4, 11))


def test_a_commit_takes_half_a_skip_back() -> None:
    conduct: Conduct = (Record(1, 3, 0),)
    conduct = after(conduct, [], 5, leader=1)
    assert conduct == (Record(1, 2, 0),)
    assert after(after(conduct, [], 6, leader=1), [], 7, leader=1) == ()
    assert after((), [], 8, leader=1) == (), "nobody saves points up"


def test_the_time_out_ends_at_its_commit_and_one_more_skip_suspends_again() -> None:
    conduct: Conduct = (Record(2, 4, 13),)
    assert after(conduct, [], 12) == conduct
    back = after(conduct, [], 13)
    assert back == (Record(2, 4, 0),)
    assert after(back, [2], 14) == (Record(2, 4, 24),)
    for index in range(14, 18):
        back = after(back, [], index, leader=2)
    assert back == ()


@pytest.mark.parametrize(
    ("powers", "missed", "out"),
    [
        ((1,), [0], set()),
        ((1, 1, 1), [0, 1, 2], set()),  # a third exactly is too much: two of three aren't a quorum
        ((1, 1, 1, 1), [3, 1], {3}),
        ((1,) * 7, [6, 5, 4], {6, 5}),
        ((1, 4, 4, 1, 4, 4), [0, 3, 1], {0, 3}),
        ((1, 4, 4, 1, 4, 4), [1, 0, 3], {1, 0}),
        ((1, 1, 1, 1, 100), [0, 1, 2, 3, 4], {0, 1, 2, 3}),
    ],
)
def test_those_who_lead_are_always_a_quorum(powers: tuple[int, ...], missed: list[int], out: set[int]) -> None:
    conduct = after((), [author for author in missed for _ in range(3)], 1, leader=len(powers) - 1, powers=powers)
    assert suspended(conduct, 1) == out
    assert 3 * sum(powers[author] for author in out) < sum(powers)
    assert all(record.points <= 6 for record in conduct)


def test_whoever_waits_at_the_limit_goes_out_with_the_next_skip_once_there_is_room() -> None:
    conduct = after((), [1, 1, 1, 2, 2, 2, 2], 1)
    assert conduct == (Record(1, 4, 11), Record(2, 6, 0))
    conduct = after(conduct, [], 11)
    assert suspended(conduct, 11) == frozenset()
    assert after(conduct, [2], 12) == (Record(1, 4, 0), Record(2, 4, 22))


def test_suspension_can_be_off() -> None:
    assert judge((), [1] * 9, 0, 1, EQUAL, Parameters(suspension_commits=0)) == ()


def test_the_root_binds_every_number() -> None:
    assert conduct_root(()) == ZERO_DIGEST
    numbers = (1, 4, 13, 3, 2, 0)
    expected = tagged("conduct", *(number.to_bytes(8, "big") for number in numbers))
    assert conduct_root((Record(1, 4, 13), Record(3, 2, 0))) == expected
