"""A slot without a direct verdict is committed when its certificate is an ancestor of the first later committed
anchor.
"""

from tests.consensus.dags import Dag


def two_certificates() -> Dag:
    """Round 1's leader has three votes, but only two vertices of round 3 see all of them."""
    dag = Dag().layer(1).layer(2, without={3: [1]})
    return dag.layer(3, without={2: [1], 3: [2]})


def test_one_certificate_below_the_anchor_commits() -> None:
    dag = two_certificates()
    assert dag.verdicts() == []
    dag.layers(4, 6)
    assert dag.verdicts()[0] == "1.0 commit r1.v1"
    assert dag.commits()[0] == ["r1.v1"]


def test_the_anchor_stands_a_wave_above() -> None:
    """Leaders of rounds 2 and 3, though committed, decide nothing about round 1."""
    dag = two_certificates().layers(4, 5)
    assert dag.verdicts() == []
    dag.layer(6)
    assert dag.verdicts() == ["1.0 commit r1.v1", "2.0 commit r2.v2", "3.0 commit r3.v3", "4.0 commit r4.v0"]


def test_skipped_slots_between_are_passed_over() -> None:
    dag = two_certificates()
    dag.layer(4, [1, 2, 3])  # round 4's leader 0 is silent
    dag.layer(5, [1, 2, 3]).layer(6).layer(7)
    assert dag.verdicts()[0] == "1.0 commit r1.v1"
    assert "4.0 skip" in dag.verdicts()
