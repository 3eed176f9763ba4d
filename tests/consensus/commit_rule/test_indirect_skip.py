"""A slot without a direct verdict is skipped when the anchor's past holds no certificate for it."""

from tests.consensus.dags import Dag


def test_two_votes_make_no_certificate() -> None:
    dag = Dag().layer(1).layer(2, without={2: [1], 3: [1]}).layer(3)
    assert dag.verdicts() == []
    dag.layers(4, 6)
    assert dag.verdicts() == ["1.0 skip", "2.0 commit r2.v2", "3.0 commit r3.v3", "4.0 commit r4.v0"]
    assert dag.commits()[0] == ["r1.v0", "r1.v2", "r1.v3", "r2.v2"]


def test_a_certificate_outside_the_anchor_s_past_doesn_t_count() -> None:
    dag = Dag().layer(1).layer(2, without={3: [1]})
    # Only author 1 of round 3 holds a certificate, and nobody builds on that vertex.
    dag.layer(3, without={0: [2], 2: [1], 3: [0]})
    dag.layer(4, [0, 2, 3], without={author: [1] for author in (0, 2, 3)})
    for round_number in (5, 6, 7):
        dag.layer(round_number, [0, 2, 3])
    assert dag.verdicts()[0] == "1.0 skip"
