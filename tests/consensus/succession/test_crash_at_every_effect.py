"""One crash between any two effects around the switch: nothing is signed twice, and the node is in the new epoch.

Timers aren't counted: a crash before one is the crash before what follows it.
"""

from collections.abc import Callable

import pytest

from consensus import events as e
from tests.consensus.succession.town import CLOSE, Citizen, Town, committee

STEP = 8


def begin() -> Town:
    """To where node 2 has executed the closing header; a payload for the next epoch waits at another node."""
    four = committee(0, 1, 2, 3)
    town = Town({name: (name,) for name in range(4)}, four, {"same": four}).boot()
    town.run(400)
    town.citizens[0].submit(CLOSE + b"same")
    town.citizens[1].submit(b"with it")
    town.until(lambda: is_over(town.citizens[2]), "the closing header", step_ms=1)
    town.citizens[3].submit(b"after")
    return town


def is_over(node: Citizen) -> bool:
    """Whether the closing header is executed here."""
    return any(header.closes_epoch for header in node.disk.headers)


def effects_of_the_switch() -> int:
    """How many effects node 2 performs until epoch 0 is dropped."""
    town = begin()
    node = town.citizens[2]
    before = len(node.effects)
    town.until(lambda: node.dropped == [0], "epoch 0 is over", step_ms=1)
    return sum(not isinstance(effect, e.SetTimer) for effect in node.effects[before:])


def dies_after(count: int) -> Callable[[e.Effect], bool]:
    """Before the effect behind so many."""
    left = [count]

    def strikes(effect: e.Effect) -> bool:
        left[0] -= not isinstance(effect, e.SetTimer)
        return left[0] < 0

    return strikes


def come_back(town: Town, node: Citizen) -> None:
    town.until(lambda: node.succession is None or node.dropped == [0], "the crash, or the end")
    assert node.succession is None
    town.run(40)
    node.boot()
    town.until(lambda: town.in_epoch(1), "everybody in epoch 1")
    town.until(lambda: all(b"after" in other.disk.payloads for other in town.citizens.values()), "nothing is lost")
    town.check()


COUNT = effects_of_the_switch()


@pytest.mark.parametrize("first", range(0, COUNT, STEP))
def test_a_crash_before_any_effect(first: int) -> None:
    for count in range(first, min(first + STEP, COUNT)):
        town = begin()
        node = town.citizens[2]
        node.crash_before = dies_after(count)
        come_back(town, node)


@pytest.mark.parametrize("kind", [e.Certified, e.RecallEpoch, e.EpochOpened, e.EpochDropped])
def test_all_crash_at_once(kind: type) -> None:
    """Every node dies before its first effect of this kind behind the closing header."""
    town = begin()
    for node in town.citizens.values():
        node.crash_before = lambda effect, node=node: isinstance(effect, kind) and is_over(node)  # type: ignore[misc]
    town.run(3_000)
    assert any(node.succession is None for node in town.citizens.values())
    for node in town.citizens.values():
        node.crash_before = None
        if node.succession is None:
            node.boot()
    town.until(lambda: town.in_epoch(1), "everybody in epoch 1", 30_000)
    town.check()
