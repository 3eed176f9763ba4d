"""A quorum of authors that don't vote for any vertex of the leader skips its slot."""

from tests.consensus.dags import Dag


def test_a_silent_leader_is_skipped_one_round_later() -> None:
    dag = Dag().layer(1, [0, 2, 3]).layer(2, [0, 2, 3])
    assert dag.verdicts() == ["1.0 skip"]
    assert dag.commits() == []


def test_a_leader_that_nobody_references_is_skipped() -> None:
    dag = Dag().layer(1).layer(2, without={0: [1], 2: [1], 3: [1]})
    assert dag.verdicts() == ["1.0 skip"]


def test_a_validity_threshold_of_blame_is_not_enough() -> None:
    dag = Dag().layer(1).layer(2, without={2: [1], 3: [1]})
    assert dag.verdicts() == []


def test_a_skip_needs_a_quorum_of_stake() -> None:
    dag = Dag(stakes=[1, 1, 1, 7]).layer(1).layer(2, [0, 1, 2], without={0: [1], 2: [1]})
    assert dag.verdicts() == []
    dag.layer(2, [3], without={3: [1]})
    assert dag.verdicts() == ["1.0 skip"]
