"""An undecided slot stops the prefix, whatever is decided above it."""

from tests.consensus.dags import Dag


def test_nothing_is_decided_in_an_empty_or_shallow_dag() -> None:
    assert Dag().decide() == {"decisions": [], "commits": []}
    assert Dag().layers(1, 2).decide() == {"decisions": [], "commits": []}


def test_a_decided_slot_above_an_undecided_one_waits() -> None:
    dag = Dag().layer(1).layer(2, without={2: [1], 3: [1]}).layers(3, 4)
    # Round 2's leader has its quorum of certificates, round 1's slot has no verdict yet.
    assert dag.verdicts() == []


def test_an_undecided_anchor_leaves_the_slots_below_undecided() -> None:
    dag = Dag().layer(1).layer(2, without={2: [1], 3: [1]}).layers(3, 4)
    dag.layer(5, without={2: [0], 3: [0]})
    dag.layer(6)
    # The anchor of round 1 would be round 4's leader 0, itself without a verdict.
    assert dag.verdicts() == []
    dag.layers(7, 9)
    assert dag.verdicts()[0] == "1.0 skip"
