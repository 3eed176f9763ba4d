"""Which changes of the validator set a chaos run draws; tests/functional/test_chaos.py makes them on real nodes."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from devnet.changes import KINDS, MAX_POWER, MAX_RETURNS, Member, choose, possible

FOUR = tuple(Member(f"node{number}", 2) for number in (1, 2, 3, 4))
FIRST, OTHERS = FOUR[0], FOUR[1:]


def test_a_seed_draws_the_same_and_every_kind_of_every_node_comes() -> None:
    first, again = random.Random(7), random.Random(7)
    drawn = [choose(first, FOUR) for _ in range(400)]
    assert drawn == [choose(again, FOUR) for _ in range(400)]
    assert set(drawn) == {(kind, member.name) for kind, _ in KINDS for member in FOUR}


@pytest.mark.parametrize(
    ("member", "others", "expected"),
    [
        (FIRST, OTHERS, ("bond", "unbond", "rotate-keys", "leave")),
        (replace(FIRST, power=1), OTHERS, ("bond", "rotate-keys", "leave")),
        (replace(FIRST, power=MAX_POWER), OTHERS, ("unbond", "rotate-keys", "leave")),
        (replace(FIRST, returns=MAX_RETURNS), OTHERS, ("bond",)),
        (replace(FIRST, has_next_keys=True), OTHERS, ("bond", "unbond", "leave")),
        (FIRST, (*OTHERS[1:], replace(OTHERS[0], power=0)), ("bond", "unbond", "rotate-keys")),
        (FIRST, (*OTHERS[1:], replace(OTHERS[0], is_leaving=True)), ("bond", "unbond", "rotate-keys")),
        (FIRST, OTHERS[1:], ("bond", "unbond", "rotate-keys")),
        (replace(FIRST, power=0), OTHERS, ("join",)),
        (replace(FIRST, power=0, is_leaving=True), OTHERS, ()),
    ],
    ids=[
        "all",
        "least power",
        "most power",
        "many returns",
        "keys that wait",
        "one is out",
        "one leaves",
        "three nodes",
        "out",
        "leaving",
    ],
)
def test_only_what_the_ledger_takes_and_the_network_survives_is_drawn(
    member: Member, others: tuple[Member, ...], expected: tuple[str, ...]
) -> None:
    assert possible(member, others) == expected


def test_who_is_out_comes_back_before_anything_else_changes() -> None:
    members = (*OTHERS, replace(FIRST, power=0))
    assert {choose(random.Random(seed), members) for seed in range(50)} == {("join", "node1")}
    assert choose(random.Random(1), [replace(FIRST, is_leaving=True)]) is None
