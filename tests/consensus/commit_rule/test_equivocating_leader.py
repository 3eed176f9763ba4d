"""A leader with twins: at most one of them is ever committed, and two certified ones halt the node."""

from tests.consensus.dags import Dag


def twins() -> Dag:
    dag = Dag().layer(1)
    dag.add(1, 1, ["g1", "g0", "g2"], twin=1)
    return dag


def test_votes_split_between_twins_decide_nothing_directly() -> None:
    dag = twins()
    dag.layer(2, [0, 1]).layer(2, [2, 3], instead={"r1.v1": "r1.v1.t1"}).layer(3)
    assert dag.verdicts() == []


def test_split_votes_end_in_an_indirect_skip_and_both_twins_are_ordered() -> None:
    dag = twins()
    dag.layer(2, [0, 1]).layer(2, [2, 3], instead={"r1.v1": "r1.v1.t1"}).layers(3, 6)
    assert dag.verdicts()[0] == "1.0 skip"
    assert dag.commits()[0] == ["r1.v0", "r1.v1.t1", "r1.v2", "r1.v3", "r2.v2"]
    assert dag.commits()[1] == ["r1.v1", "r2.v0", "r2.v1", "r2.v3", "r3.v3"]


def test_the_twin_with_a_quorum_is_the_one_committed() -> None:
    dag = twins()
    dag.layer(2, [0]).layer(2, [1, 2, 3], instead={"r1.v1": "r1.v1.t1"}).layer(3)
    assert dag.verdicts() == ["1.0 commit r1.v1.t1"]
    assert dag.commits() == [["r1.v1.t1"]]


def test_two_certified_twins_halt() -> None:
    dag = twins()
    dag.layer(2)
    for author in range(4):  # every author votes for both twins: more than a third is faulty
        dag.add(2, author, ["r1.v1.t1" if other == 1 else f"r1.v{other}" for other in _own_first(author)], twin=1)
    dag.layer(3, [0, 1])
    dag.add(3, 2, [f"r2.v{other}.t1" for other in _own_first(2)])
    assert dag.decide() == {"halt": ["r1.v1", "r1.v1.t1"]}


def test_a_resumed_node_looks_at_the_slots_that_are_left() -> None:
    dag = twins()
    dag.layer(2)
    for author in range(4):
        dag.add(2, author, ["r1.v1.t1" if other == 1 else f"r1.v{other}" for other in _own_first(author)], twin=1)
    dag.layer(3, [0, 1])
    dag.add(3, 2, [f"r2.v{other}.t1" for other in _own_first(2)])
    assert dag.decide({"round": 1, "slot": 0}) == {"decisions": [], "commits": []}


def _own_first(author: int) -> list[int]:
    return [author, *(other for other in range(4) if other != author)]
