"""Thresholds of a committee, and what isn't one."""

from dataclasses import replace

import pytest

from consensus.dag.committee import Committee
from consensus.parameters import Parameters
from mpisa.primitives.errors import Rejection
from mpisa.primitives.identifiers import AuthorityIndex
from tests.simulator.world import committee_of


def test_a_quorum_is_more_than_two_thirds_and_validity_more_than_one() -> None:
    committee = committee_of((1, 1, 1))[0]
    assert [committee.is_quorum(stake) for stake in range(4)] == [False, False, False, True]
    assert [committee.is_validity(stake) for stake in range(4)] == [False, False, True, True]
    four = committee_of((1, 1, 1, 1))[0]
    assert [four.is_quorum(stake) for stake in range(5)] == [False, False, False, True, True]
    assert four.stake_of([0, 3]) == 2
    assert four.has_equal_power()
    assert not committee_of((1, 2))[0].has_equal_power()


def test_huge_stake_stays_exact() -> None:
    power = 2**62
    committee = committee_of((power, power, power + 1))[0]
    assert not committee.is_quorum(2 * power)
    assert committee.is_quorum(2 * power + 1)


def test_what_isn_t_a_committee() -> None:
    members = committee_of((1, 1, 1))[0].authorities
    with pytest.raises(Rejection, match=r"expected 1\.\.256 authorities, got 0"):
        Committee([])
    with pytest.raises(Rejection, match=r"committee\[0\]: expected index 0, got 1"):
        Committee(members[1:])
    with pytest.raises(Rejection, match="expected a positive power, got 0"):
        Committee([replace(members[0], power=0)])
    swapped = [replace(members[1], index=AuthorityIndex(0)), replace(members[0], index=AuthorityIndex(1))]
    with pytest.raises(Rejection, match="addresses must ascend"):
        Committee(swapped)


def test_parameters_are_checked_by_name() -> None:
    with pytest.raises(Rejection, match="gc_depth: expected at least 9, got 5"):
        Parameters(gc_depth=5)
    with pytest.raises(Rejection, match="max_pending: expected at least 1, got 0"):
        Parameters(max_pending=0)
    with pytest.raises(Rejection, match="heartbeat_ms: expected an integer from 0, got -1"):
        Parameters(heartbeat_ms=-1)
    with pytest.raises(Rejection, match="max_vertex_bytes"):
        Parameters(max_payload_bytes=1 << 24)


def test_a_chain_sets_agreed_parameters_only() -> None:
    assert Parameters().with_agreed({"gc_depth": 80, "heartbeat_ms": 5}) == Parameters(gc_depth=80, heartbeat_ms=5)
    with pytest.raises(Rejection, match="'idle_delay_ms' is no agreed consensus parameter"):
        Parameters().with_agreed({"idle_delay_ms": 1})
