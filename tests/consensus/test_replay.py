"""`decide_case`: the vectors, and input that can't be understood."""

import json
from pathlib import Path
from typing import Any

import pytest

from consensus.replay import MAX_CASE_ROUND, MAX_CASE_VERTICES, decide_case
from mpisa.primitives.errors import Rejection
from tests.consensus.dags import Dag

CASES = json.loads((Path(__file__).parents[1] / "vectors" / "commit_rule.json").read_text())["cases"]


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_vectors(case: dict[str, Any]) -> None:
    assert decide_case(case) == case["expect"]
    assert decide_case(case | {"vertices": case["vertices"][::-1]}) == case["expect"]


def broken(**changes: Any) -> dict[str, Any]:
    return Dag().layers(1, 2).case() | changes


def vertex(**changes: Any) -> dict[str, Any]:
    return {"id": "x", "round": 3, "author": 0, "parents": ["r2.v0", "r2.v1", "r2.v2"]} | changes


def with_vertex(**changes: Any) -> dict[str, Any]:
    case = broken()
    return case | {"vertices": [*case["vertices"], vertex(**changes)]}


BAD = [
    ([], "malformed: case: expected an object, got a list"),
    ({}, "malformed: case: 'authorities' is missing"),
    (broken(authorities=True), "malformed: authorities: expected an integer, got a boolean"),
    (broken(authorities=4.0), "malformed: authorities: expected an integer, got a float"),
    (broken(authorities=0), "out-of-range: authorities: expected 1..256, got 0"),
    (broken(authorities=10**30), f"out-of-range: authorities: expected 1..256, got {10**30}"),
    (broken(stakes=[1, 1, 1]), "malformed: stakes: expected 4, one an authority, got 3"),
    (broken(stakes=[1, 1, 1, 0]), "out-of-range: stakes[3]: expected 1..9223372036854775808, got 0"),
    (broken(stakes="1111"), "malformed: stakes: expected a list, got a string"),
    (broken(leaders_per_round=0), "out-of-range: leaders_per_round: expected 1..256, got 0"),
    (broken(leaders=[[0, 0]]), "malformed: leaders[0]: an authority has two slots of one round: [0, 0]"),
    (broken(leaders=[[0], [4]]), "out-of-range: leaders[1][0]: expected 0..3, got 4"),
    (broken(leaders=[[0, 1]]), "malformed: leaders[0]: expected at most leaders_per_round = 1, got 2"),
    (broken(gc_depth=-1), "out-of-range: gc_depth: expected 0..9223372036854775808, got -1"),
    (broken(resume_after=[1]), "malformed: resume_after: expected [round, slot], got 1 items"),
    (broken(resume_after={"round": 1}), "malformed: resume_after: 'slot' is missing"),
    (broken(resume_after="1.0"), "malformed: resume_after: expected a list, got a string"),
    (broken(vertices=None), "malformed: vertices: expected a list, got null"),
    (broken(vertices=[7]), "malformed: vertices[0]: expected an object, got int"),
    (broken(vertices=[{}]), "malformed: vertices[0]: 'id' is missing"),
    (with_vertex(id=""), "out-of-range: vertices[8].id: expected 1..128 characters, got 0"),
    (with_vertex(id="a\ud800"), r"malformed: vertices[8].id: expected printable characters, got 'a\ud800'"),
    (with_vertex(id="r1.v0"), "duplicate: vertices[8].id: 'r1.v0' is taken"),
    (with_vertex(id="g2"), "duplicate: vertices[8].id: 'g2' is taken"),
    (with_vertex(author=4), "out-of-range: vertices[8].author: expected 0..3, got 4"),
    (with_vertex(round=0), f"out-of-range: vertices[8].round: expected 1..{MAX_CASE_ROUND}, got 0"),
    (with_vertex(round=10**12), f"out-of-range: vertices[8].round: expected 1..{MAX_CASE_ROUND}, got 1000000000000"),
    (with_vertex(parents="r2.v0"), "malformed: vertices[8].parents: expected a list, got a string"),
    (with_vertex(parents=["r2.v9"]), "unknown-parent: vertices[8].parents[0]: no vertex has the id 'r2.v9'"),
    (with_vertex(parents=["x"]), "bad-parents: vertices[8].parents[0]: expected a round below 3, 'x' has 3"),
    (
        with_vertex(parents=["r2.v0", "r1.v0"]),
        "bad-parents: vertices[8].parents[1]: author 0 already is among the parents",
    ),
    (with_vertex(parents=["r2.v0"] * 5), "too-many: vertices[8].parents: expected at most 4 items, got 5"),
    (with_vertex(parents=[["r2.v0"]]), "malformed: vertices[8].parents[0]: expected a string, got a list"),
]


@pytest.mark.parametrize(("case", "message"), BAD, ids=[message[:70] for _, message in BAD])
def test_a_bad_case_is_refused_with_its_place(case: Any, message: str) -> None:
    with pytest.raises(Rejection) as caught:
        decide_case(case)
    assert str(caught.value) == message


def test_cycles_are_refused() -> None:
    cycle = [
        {"id": "a", "round": 1, "author": 0, "parents": ["b"]},
        {"id": "b", "round": 1, "author": 1, "parents": ["a"]},
    ]
    with pytest.raises(Rejection, match="bad-parents"):
        decide_case(broken(vertices=cycle))


def test_too_many_vertices_are_refused_before_any_is_read() -> None:
    with pytest.raises(Rejection, match=f"too-many: vertices: expected at most {MAX_CASE_VERTICES} items"):
        decide_case(broken(vertices=[None] * (MAX_CASE_VERTICES + 1)))


def test_optional_fields_have_defaults() -> None:
    case = Dag().layers(1, 3).case()
    for name in ("name", "stakes", "leaders_per_round", "leaders", "gc_depth", "resume_after"):
        del case[name]
    assert [item["vertex"] for item in decide_case(case)["decisions"]] == ["r1.v1"]


def test_a_long_gap_of_rounds_is_decided_in_bounded_time() -> None:
    case = Dag().layers(1, 3).case()
    case["vertices"].append({"id": "far", "round": MAX_CASE_ROUND, "author": 0, "parents": ["r3.v0", "r3.v1", "r3.v2"]})
    assert len(decide_case(case)["decisions"]) == 1
