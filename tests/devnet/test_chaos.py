"""The plan of a chaos run, its checker and its report; a run of its own is in tests/functional."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

from devnet.audit import Chain, astray, compare
from devnet.chaos import KINDS, Recovery, Summary, draw
from devnet.chaos_report import append, text

NAMES = ("node1", "node2", "node3", "node4")


def chain(name: str, *blocks: tuple[str, ...], halted: str | None = None) -> Chain:
    headers = {height: (f"hash {blocks[:height]}", f"root {blocks[:height]}") for height in range(1, len(blocks) + 1)}
    return Chain(name, headers, Counter(tx for block in blocks for tx in block), Counter(), halted)


def test_a_seed_gives_the_same_faults_and_every_kind_comes() -> None:
    first, again = random.Random(7), random.Random(7)
    steps = [draw(first, NAMES) for _ in range(300)]
    assert steps == [draw(again, NAMES) for _ in range(300)]
    assert {step.kind for step in steps} == {kind for kind, _ in KINDS}
    assert {len(step.nodes) for step in steps if step.kind == "halves"} == {2}
    assert all(step.nodes == NAMES for step in steps if step.kind == "kill all")
    assert all(1.0 <= step.hold_s <= 6.0 for step in steps)


def test_equal_chains_with_everything_once_are_clean() -> None:
    found = compare([chain(name, ("a",), ("b", "c")) for name in NAMES], ["a", "c"])
    assert found.is_clean
    assert found.heights == dict.fromkeys(NAMES, 2)


def test_each_thing_that_can_be_wrong_is_found_and_named() -> None:
    good, other = chain("node1", ("a",), ("b",)), chain("node2", ("a",), ("a",), halted="two certified vertices")
    found = compare([good, other], ["a", "b", "d"])
    assert found.lost == ("node1: d", "node2: b", "node2: d")
    assert found.doubled == ("node2: a",)
    assert [line.split(":")[0] for line in found.forks] == ["height 2"]
    assert found.halted == ("node2: two certified vertices",)
    assert compare([good, chain("node2", ("a",))], []).forks[0].endswith("node2 None")


def test_a_node_in_another_epoch_than_the_furthest_is_named() -> None:
    assert astray({"node1": 3, "node2": 3}) == ()
    assert astray({"node1": 3, "node2": 2, "node3": None}) == (
        "node2: in epoch 2, another node in 3",
        "node3: in epoch None, another node in 3",
    )


def test_a_summary_passes_only_when_nothing_was_found(tmp_path: Path) -> None:
    def summary(**found: object) -> Summary:
        made = Summary(
            7, 0.5, 4, faults=Counter({"kill": 2}), made=3, acknowledged=3, height=9, acknowledged_s=[0.1, 0.2, 0.6]
        )
        made.changes, made.epochs = Counter({"bond": 2, "leave": 1}), 2
        made.recoveries = [Recovery("kill", 0.5, 1.5), Recovery("kill", 2.5, 3.5)]
        for name, value in found.items():
            setattr(made, name, value)
        return made

    assert summary().passed
    for found in (
        {"lost": ("x",)},
        {"doubled": ("x",)},
        {"forks": ("x",)},
        {"halted": ("x",)},
        {"astray": ("x",)},
        {"changes": Counter()},
        {"epochs": 0},
        {"refused": 1},
        {"acknowledged": 0},
    ):
        assert not summary(**found).passed, found
    assert not summary(recoveries=[Recovery("kill", 0.5, None)]).passed
    assert summary(is_fixed_set=True, changes=Counter(), epochs=0).passed
    assert summary().to_json()["recovered_after_s"] == {
        "kill": {
            "heals": 2,
            "certified_again": {"median": 1.5, "most": 2.5},
            "on_all_nodes": {"median": 2.5, "most": 3.5},
            "within_goal": 1,
        }
    }
    assert text(summary()).splitlines()[-1] == "| kill | 2 | 1.50 / 2.50 | 1 | 2.50 / 3.50 |"
    assert "validators changed: 2 bond, 1 leave; 2 epochs ended" in text(summary()).splitlines()
    assert "the validator set was fixed" in text(summary(changes=Counter())).splitlines()
    page = tmp_path / "chaos.md"
    append(page, summary())
    append(page, summary(lost=("node1: ab",)))
    lines = page.read_text().splitlines()
    assert lines[0] == "# Chaos"
    assert [line.split(",")[1] for line in lines if line.startswith("## ")] == [" seed 7", " seed 7"]
    assert lines[-1] == "- node1: ab"
