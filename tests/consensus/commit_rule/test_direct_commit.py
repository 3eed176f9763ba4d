"""A quorum of certificates two rounds above commits a leader's vertex."""

from tests.consensus.dags import Dag


def test_a_full_dag_commits_the_leader_two_rounds_below() -> None:
    dag = Dag().layers(1, 3)
    assert dag.verdicts() == ["1.0 commit r1.v1"]
    assert dag.commits() == [["r1.v1"]]


def test_the_next_leader_takes_the_rest_of_its_past_in_order() -> None:
    dag = Dag().layers(1, 4)
    assert dag.commits() == [["r1.v1"], ["r1.v0", "r1.v2", "r1.v3", "r2.v2"]]


def test_three_certificates_of_four_suffice_and_two_do_not() -> None:
    assert Dag().layers(1, 2).layer(3, [0, 1, 2]).verdicts() == ["1.0 commit r1.v1"]
    assert Dag().layers(1, 2).layer(3, [0, 1]).verdicts() == []


def test_a_certificate_needs_a_quorum_of_votes_among_its_own_parents() -> None:
    dag = Dag().layer(1).layer(2, without={3: [1]})
    # Author 2 references three vertices of round 2, of which only two vote for the leader.
    dag.layer(3, [0, 1, 2], without={2: [0]})
    assert dag.verdicts() == []
    dag.layer(3, [3])
    assert dag.verdicts() == ["1.0 commit r1.v1"]


def test_unequal_stake_is_counted_not_authors() -> None:
    dag = Dag(stakes=[1, 1, 1, 7]).layers(1, 2)
    dag.layer(3, [0, 1, 2])
    assert dag.verdicts() == []
    dag.layer(3, [3])
    assert dag.verdicts() == ["1.0 commit r1.v1"]


def test_a_single_authority_commits_alone() -> None:
    assert Dag(1).layers(1, 4).verdicts() == ["1.0 commit r1.v0", "2.0 commit r2.v0"]
