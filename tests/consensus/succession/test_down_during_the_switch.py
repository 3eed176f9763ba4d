"""A node that was down while the epoch changed, or while several did, comes back by itself."""

import pytest

from consensus.events import RequestRange
from tests.consensus.succession.town import CLOSE, Town, committee
from tests.simulator.world import keys_of


@pytest.mark.parametrize("changes", [1, 3])
def test_an_authority_that_was_down_fetches_the_rest_of_its_epoch(changes: int) -> None:
    four = committee(0, 1, 2, 3)
    town = Town({name: (name,) for name in range(4)}, four, {f"set {n}": four for n in (1, 2, 3)}).boot()
    town.run(400)
    town.citizens[0].submit(b"before")
    town.run(100)
    town.citizens[3].crash()
    for epoch in range(1, changes + 1):
        town.citizens[0].submit(CLOSE + b"set %d" % epoch)
        town.until(lambda epoch=epoch: all(town.citizens[name].running.epoch == epoch for name in range(3)), "next")  # type: ignore[misc]
        town.citizens[1].submit(b"in epoch %d" % epoch)
        town.until(lambda epoch=epoch: town.in_epoch(epoch, 0, 1, 2), "and on")  # type: ignore[misc]
    town.boot(3)
    town.until(lambda: town.in_epoch(changes), "it is level")
    town.citizens[3].submit(b"after")
    town.until(lambda: all(b"after" in node.disk.payloads for node in town.citizens.values()), "it takes part")
    town.check()


def test_a_member_of_the_old_set_alone_comes_back_long_after() -> None:
    """Nobody sends to it any more, and those it knows make no vertices: its own resending makes it ask."""
    town = Town({name: (name,) for name in range(8)}, committee(0, 1, 2, 3), {"others": committee(4, 5, 6, 7)}).boot()
    town.run(400)
    town.citizens[2].crash()
    town.citizens[0].submit(CLOSE + b"others")
    town.until(lambda: town.in_epoch(1, 0, 1, 3, 4, 5, 6, 7), "the others are in epoch 1")
    town.run(10_000)
    town.boot(2)
    town.until(lambda: town.in_epoch(1), "it has followed")
    town.check()


def test_a_new_member_that_was_down_while_it_was_elected() -> None:
    town = Town({name: (name,) for name in range(5)}, committee(0, 1, 2, 3), {"five": committee(0, 1, 2, 3, 4)})
    town.boot(0, 1, 2, 3)
    town.run(400)
    town.citizens[0].submit(CLOSE + b"five")
    town.until(lambda: town.in_epoch(1, 0, 1, 2, 3), "four of five are in epoch 1")
    town.boot(4)
    town.until(lambda: town.in_epoch(1), "the fifth as well")
    fifth = keys_of(4)[1].address
    town.until(lambda: any(address == fifth for _, _, address in town.signed), "it proposes")
    town.check()


def test_a_node_cut_off_while_it_runs_finds_the_end_of_its_epoch() -> None:
    """It hears of a later epoch, and asks for the rest of its own."""
    four = committee(0, 1, 2, 3)
    town = Town({name: (name,) for name in range(4)}, four, {"same": four}).boot()
    town.run(400)
    town.cut.add(3)
    town.citizens[0].submit(CLOSE + b"same")
    town.until(lambda: all(town.citizens[name].running.epoch == 1 for name in range(3)), "the others go on")
    town.citizens[1].submit(b"without it")
    town.until(lambda: town.in_epoch(1, 0, 1, 2), "and certify")
    town.run(3_000)
    node = town.citizens[3]
    assert node.running.epoch == 0
    mark = len(node.effects)
    town.cut.clear()
    town.until(lambda: town.in_epoch(1), "it is there too")
    assert any(isinstance(effect, RequestRange) and effect.epoch == 0 for effect in node.effects[mark:])
    node.submit(b"with it")
    town.until(lambda: all(b"with it" in other.disk.payloads for other in town.citizens.values()), "it takes part")
    town.check()
