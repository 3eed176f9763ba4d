"""A voter with twins counts once: authors are counted, never vertices."""

from tests.consensus.dags import Dag


def test_twin_votes_of_one_author_make_no_quorum_of_blame() -> None:
    dag = Dag().layer(1).layer(2, [0, 2], without={0: [1]})
    for twin in (0, 1, 2):
        dag.add(2, 3, ["r1.v3", "r1.v0", "r1.v2"], twin=twin)
    # Vertices of round 2 without a vote: four. Authors: two.
    assert dag.verdicts() == []


def test_twin_certificates_of_one_author_make_no_quorum() -> None:
    dag = Dag().layers(1, 2).layer(3, [0])
    for twin in (0, 1, 2):
        dag.add(3, 3, ["r2.v3", "r2.v0", "r2.v1", "r2.v2"][: 4 - (twin == 2)], twin=twin)
    assert dag.verdicts() == []
    dag.layer(3, [1])
    assert dag.verdicts() == ["1.0 commit r1.v1"]


def test_an_author_that_blames_with_one_twin_and_votes_with_another_counts_for_both() -> None:
    dag = Dag().layer(1).layer(2, [0, 2], without={0: [1], 2: [1]})
    dag.add(2, 3, ["r1.v3", "r1.v0", "r1.v1", "r1.v2"])
    assert dag.verdicts() == []
    dag.add(2, 3, ["r1.v3", "r1.v0", "r1.v2"], twin=1)
    assert dag.verdicts() == ["1.0 skip"]


def test_a_certificate_counts_the_vote_of_the_twin_it_references() -> None:
    dag = Dag().layer(1).layer(2, [0, 1, 2])
    dag.add(2, 3, ["r1.v3", "r1.v0", "r1.v2"])
    dag.add(2, 3, ["r1.v3", "r1.v0", "r1.v1", "r1.v2"], twin=1)
    for author in (0, 1):
        dag.add(3, author, [f"r2.v{author}", f"r2.v{1 - author}", "r2.v3.t1"])
    dag.add(3, 2, ["r2.v2", "r2.v0", "r2.v3"])
    assert dag.verdicts() == []
    dag.add(3, 3, ["r2.v3.t1", "r2.v0", "r2.v1"])
    assert dag.verdicts()[:1] == ["1.0 commit r1.v1"]
