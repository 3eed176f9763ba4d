"""The commit rule on random DAGs with twins and weak links: against the slow reference, in any order, from partial
views.
"""

from random import Random
from typing import Any

import pytest

from consensus.replay import decide_case
from tests.consensus.reference import Reference


def random_case(seed: int) -> dict[str, Any]:
    """Less than a third of stake writes twins; parents are a random quorum, own first, with some old ones."""
    random = Random(f"dag {seed}")
    count = random.choice([4, 4, 5, 7])
    stakes = [1] * count if random.random() < 0.6 else [random.randint(1, 5) for _ in range(count)]
    byzantine: set[int] = set()
    for author in random.sample(range(count), count):
        if 3 * sum(stakes[other] for other in {*byzantine, author}) < sum(stakes):
            byzantine.add(author)
    rounds = random.randint(6, 13)
    slots = random.choice([1, 2, 2, 3])
    leaders = None
    if random.random() < 0.5:
        leaders = [random.sample(range(count), min(slots, count)) for _ in range(rounds)]
    own: dict[int, list[dict[str, Any]]] = {
        author: [{"id": f"g{author}", "round": 0, "author": author}] for author in range(count)
    }
    vertices: list[dict[str, Any]] = []
    below = {author: [own[author][0]] for author in range(count)}
    for number in range(1, rounds + 1):
        layer: dict[int, list[dict[str, Any]]] = {}
        for author in range(count):
            copies = random.choice([0, 1, 2, 3]) if author in byzantine else int(random.random() < 0.95)
            for copy in range(copies):
                parents = _parents(random, author, number, own, below, stakes)
                if parents is None:
                    continue
                suffix = f".t{copy}" if copy else ""
                vertex = {
                    "id": f"r{number}.v{author}{suffix}",
                    "round": number,
                    "author": author,
                    "parents": [parent["id"] for parent in parents],
                }
                vertices.append(vertex)
                layer.setdefault(author, []).append(vertex)
        for author, made in layer.items():
            own[author].extend(made)
        below = layer
    return {
        "authorities": count,
        "stakes": stakes,
        "leaders_per_round": slots,
        "leaders": leaders,
        "gc_depth": random.choice([2, 3, 60]),
        "resume_after": None,
        "vertices": vertices,
    }


def _parents(
    random: Random,
    author: int,
    number: int,
    own: dict[int, list[dict[str, Any]]],
    below: dict[int, list[dict[str, Any]]],
    stakes: list[int],
) -> list[dict[str, Any]] | None:
    before = [item for item in own[author] if item["round"] < number]
    mine = random.choice([item for item in before if item["round"] == before[-1]["round"]])
    chosen = [mine]
    stake = stakes[author] if mine["round"] == number - 1 else 0
    others = [other for other in below if other != author]
    random.shuffle(others)
    for other in others:
        if 3 * stake > 2 * sum(stakes) and random.random() < 0.4:
            continue
        chosen.append(random.choice(below[other]))
        stake += stakes[other]
    if 3 * stake <= 2 * sum(stakes):
        return None
    taken = {item["author"] for item in chosen}
    for other in range(len(stakes)):
        if other not in taken and random.random() < 0.2:
            older = [item for item in own[other] if item["round"] < number - 1]
            if older:
                chosen.append(random.choice(older))
    return chosen


def view_of(case: dict[str, Any], random: Random) -> dict[str, Any]:
    """A causally closed part of the case: all ancestors of some of its vertices."""
    known = {item["id"]: item for item in case["vertices"]}
    tips = random.sample(sorted(known), max(1, len(known) // random.randint(2, 12)))
    reached, waiting = set(tips), list(tips)
    while waiting:
        for parent in known[waiting.pop()]["parents"]:
            if parent in known and parent not in reached:
                reached.add(parent)
                waiting.append(parent)
    return case | {"vertices": [item for item in case["vertices"] if item["id"] in reached]}


@pytest.mark.parametrize("block", range(8))
def test_it_agrees_with_the_reference_in_any_order(block: int) -> None:
    decided = 0
    for seed in range(block * 15, block * 15 + 15):
        case = random_case(seed)
        expected = Reference(case).expect()
        assert decide_case(case) == expected, f"seed {seed}"
        random = Random(seed)
        shuffled = case | {"vertices": random.sample(case["vertices"], len(case["vertices"]))}
        assert decide_case(shuffled) == expected, f"seed {seed}, shuffled"
        decided += len(expected["decisions"])
    assert decided > 40, "the DAGs decide something"


@pytest.mark.parametrize("block", range(4))
def test_views_of_one_dag_never_contradict(block: int) -> None:
    for seed in range(1_000 + block * 25, 1_000 + block * 25 + 25):
        case = random_case(seed)
        whole = decide_case(case)
        random = Random(seed)
        for _ in range(6):
            part = decide_case(view_of(case, random))
            count = len(part["decisions"])
            assert part["decisions"] == whole["decisions"][:count], f"seed {seed}"
            assert part["commits"] == whole["commits"][: len(part["commits"])], f"seed {seed}"


def test_resuming_anywhere_gives_the_rest() -> None:
    for seed in range(40):
        case = random_case(seed)
        whole = decide_case(case)
        for position, decision in enumerate(whole["decisions"]):
            rest = decide_case(case | {"resume_after": decision})
            assert rest["decisions"] == whole["decisions"][position + 1 :], f"seed {seed}"
            assert rest["commits"] == whole["commits"][len(whole["commits"]) - len(rest["commits"]) :], f"seed {seed}"
