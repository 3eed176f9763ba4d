"""A wholly disjoint set takes over: nobody of the old one has a place in the new one."""

from tests.consensus.succession.town import CLOSE, Town, committee


def test_four_others_take_over_and_the_old_four_follow() -> None:
    town = Town({name: (name,) for name in range(8)}, committee(0, 1, 2, 3), {"others": committee(4, 5, 6, 7)}).boot()
    town.run(300)
    town.citizens[0].submit(b"before")
    town.run(200)
    town.citizens[1].submit(CLOSE + b"others")
    town.until(lambda: all(node.running.epoch == 1 for node in town.citizens.values()), "everybody in epoch 1")
    town.citizens[6].submit(b"after")
    town.until(lambda: town.in_epoch(1), "a certified header of epoch 1")
    town.until(lambda: all(b"after" in node.disk.payloads for node in town.citizens.values()), "it is everywhere")
    town.check()
    seats = {name: [own is None for _, own in node.opened] for name, node in town.citizens.items()}
    assert seats == {name: [name > 3, name < 4] for name in range(8)}
    assert all(node.dropped == [0] for node in town.citizens.values())


def test_the_old_ones_may_vanish_once_the_new_ones_hold_the_certificate() -> None:
    town = Town({name: (name,) for name in range(8)}, committee(0, 1, 2, 3), {"others": committee(4, 5, 6, 7)}).boot()
    town.run(300)
    town.citizens[1].submit(CLOSE + b"others")
    town.until(lambda: all(town.citizens[name].running.epoch == 1 for name in range(4, 8)), "the new ones are there")
    for name in range(4):
        town.citizens[name].crash()
    town.citizens[4].submit(b"after")
    town.until(lambda: all(b"after" in town.citizens[name].disk.payloads for name in range(4, 8)), "they go on alone")
    town.boot(0, 1, 2, 3)
    town.until(lambda: town.in_epoch(1), "the old ones come back and follow")
    town.check()
