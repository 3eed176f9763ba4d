"""Two leader slots a round, decided in order: slot 0 before slot 1."""

from tests.consensus.dags import Dag


def test_both_leaders_of_a_round_commit() -> None:
    dag = Dag(leaders_per_round=2).layers(1, 3)
    assert dag.verdicts() == ["1.0 commit r1.v1", "1.1 commit r1.v2"]
    assert dag.commits() == [["r1.v1"], ["r1.v2"]]


def test_an_undecided_slot_0_holds_back_slot_1() -> None:
    dag = Dag(leaders_per_round=2).layer(1).layer(2, without={2: [1], 3: [1]}).layer(3)
    assert dag.verdicts() == []


def test_a_skipped_slot_0_lets_slot_1_pass() -> None:
    dag = Dag(leaders_per_round=2).layer(1, [0, 2, 3]).layer(2, [0, 2, 3]).layer(3, [0, 2, 3])
    assert dag.verdicts() == ["1.0 skip", "1.1 commit r1.v2", "2.0 commit r2.v2"][:2]


def test_slot_1_of_the_anchor_s_round_decides_when_slot_0_is_skipped() -> None:
    dag = Dag(leaders_per_round=2).layer(1).layer(2, without={2: [1], 3: [1]}).layer(3)
    dag.layer(4, [1, 2, 3]).layer(5, [1, 2, 3]).layer(6, [1, 2, 3])
    # Round 4: slot 0 is the silent authority 0, slot 1 authority 1.
    assert dag.verdicts()[0] == "1.0 skip"
    assert "4.0 skip" in dag.verdicts()
    assert "4.1 commit r4.v1" in dag.verdicts()


def test_there_are_never_more_slots_than_authorities() -> None:
    assert Dag(1, leaders_per_round=2).layers(1, 3).verdicts() == ["1.0 commit r1.v0"]
