"""What a commit may still order is bounded by the previous commit's leader round, and by nothing else."""

from tests.consensus.dags import Dag


def straggler(gc_depth: int, joins: int) -> Dag:
    """Author 0 writes in round 1, then only in round `joins`, referencing its old vertex; leaders are the others."""
    leaders = [[1 + number % 3] for number in range(joins + 6)]
    dag = Dag(leaders=leaders, gc_depth=gc_depth)
    dag.layer(1)
    dag.layer(2, [1, 2, 3], without={author: [0] for author in (1, 2, 3)})
    dag.layers(3, joins - 1, [1, 2, 3])
    dag.add(joins, 0, ["r1.v0", *(f"r{joins - 1}.v{author}" for author in (1, 2, 3))])
    dag.layer(joins, [1, 2, 3]).layers(joins + 1, joins + 5)
    return dag


def committed(dag: Dag) -> list[str]:
    return [vertex for commit in dag.commits() for vertex in commit]


def test_a_vertex_just_above_the_edge_is_ordered() -> None:
    # The commit of round 7 takes author 0's vertex of round 6; the one before it has leader round 6, so gc = 6 - 5 = 1.
    dag = straggler(gc_depth=6, joins=6)
    assert "r1.v0" in committed(dag)


def test_a_vertex_at_the_edge_is_not() -> None:
    dag = straggler(gc_depth=5, joins=6)
    assert "r6.v0" in committed(dag)
    assert "r1.v0" not in committed(dag)


def test_the_edge_comes_from_the_previous_commit_not_from_the_leader_itself() -> None:
    """Skipped slots between two commits don't move it: gc of the next commit is still that of the last one."""
    dag = Dag(leaders=[[1], [0], [0], [0], [2], [3], [3], [3], [3]], gc_depth=1)
    dag.layer(1).layers(2, 8, [1, 2, 3])
    assert dag.verdicts()[:5] == ["1.0 commit r1.v1", "2.0 skip", "3.0 skip", "4.0 skip", "5.0 commit r5.v2"]
    # gc(2) = 1 - 1 = 0: everything of rounds 1 to 5 is still taken.
    assert dag.commits()[1][:3] == ["r1.v0", "r1.v2", "r1.v3"]


def test_nothing_is_ordered_twice_or_lost_above_the_edge() -> None:
    dag = Dag(leaders_per_round=2).layers(1, 12)
    order = committed(dag)
    assert len(order) == len(set(order))
    last = max(item["round"] for item in dag.decide()["decisions"])
    assert {f"r{number}.v{author}" for number in range(1, last) for author in range(4)} <= set(order)
