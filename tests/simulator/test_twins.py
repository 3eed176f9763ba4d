"""Two engines with one key: whatever partitions they sign their twins across, the others agree and go on."""

import pytest

from tests.simulator.twins import PARTITIONS, PHASES, TwinsWorld, run_twins, twins_case

CASES = 1_000
BLOCK = 100


@pytest.mark.parametrize("first", range(0, CASES, BLOCK))
def test_twins_split_nobody(first: int) -> None:
    for number in range(first, first + BLOCK):
        assert run_twins(number) >= 6


def test_a_case_is_a_number_and_replays() -> None:
    assert twins_case(7) == twins_case(7)
    assert len(PARTITIONS) == 16
    assert len(twins_case(7).phases) == PHASES
    worlds = [TwinsWorld(twins_case(7)) for _ in range(2)]
    for world in worlds:
        world.run()
    first, second = ([commit.digest for commit in world.honest[0].commits] for world in worlds)
    assert first == second


def test_both_twins_really_sign() -> None:
    doubled = 0
    for number in range(20):
        world = TwinsWorld(twins_case(number))
        world.run()
        doubled += sum(len(identifiers) > 1 for identifiers in world.shown.values())
    assert doubled > 100, "rounds of which two vertices came to somebody honest"
