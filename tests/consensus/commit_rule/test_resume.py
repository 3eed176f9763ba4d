"""Deciding goes on behind a slot that was decided before, a skipped one too, and orders nothing twice."""

from tests.consensus.dags import Dag


def silent_leader() -> Dag:
    return Dag().layer(1, [0, 2, 3]).layers(2, 5)


def test_resume_after_a_skip() -> None:
    dag = silent_leader()
    assert dag.verdicts() == ["1.0 skip", "2.0 commit r2.v2", "3.0 commit r3.v3"]
    assert dag.verdicts({"round": 1, "slot": 0}) == ["2.0 commit r2.v2", "3.0 commit r3.v3"]
    assert dag.commits({"round": 1, "slot": 0}) == dag.commits()


def test_resume_after_a_commit_orders_only_what_is_new() -> None:
    dag = silent_leader()
    assert dag.verdicts({"round": 2, "slot": 0}) == ["3.0 commit r3.v3"]
    assert dag.commits({"round": 2, "slot": 0}) == dag.commits()[1:]


def test_resume_inside_a_round() -> None:
    dag = Dag(leaders_per_round=2).layers(1, 3)
    assert dag.verdicts([1, 0]) == ["1.1 commit r1.v2"]
    assert dag.verdicts([1, 1]) == []
