"""Joining, leaving, other powers, other keys: whoever the closing header names takes part, nobody else."""

from consensus.identity import Identity
from consensus.succession import Succession
from tests.consensus.succession.town import CHAIN_HASH, CLOSE, Town, committee, identity
from tests.simulator.world import keys_of


def test_one_joins_and_one_leaves() -> None:
    town = Town({name: (name,) for name in range(5)}, committee(0, 1, 2, 3), {"next": committee(1, 2, 3, 4)}).boot()
    town.run(400)
    town.citizens[0].submit(CLOSE + b"next")
    town.until(lambda: all(node.running.epoch == 1 for node in town.citizens.values()), "epoch 1")
    town.citizens[4].submit(b"by the newcomer")
    town.until(lambda: town.in_epoch(1), "its headers")
    assert town.citizens[0].opened[-1] == (1, None)
    assert town.citizens[4].opened[-1][1] is not None
    town.check()


def test_powers_change_and_the_schedule_with_them() -> None:
    heavy = committee(0, 1, 2, 3, powers={0: 3, 1: 2, 2: 2, 3: 3})
    town = Town({name: (name,) for name in range(4)}, committee(0, 1, 2, 3), {"heavy": heavy}).boot()
    town.run(400)
    town.citizens[0].submit(CLOSE + b"heavy")
    town.until(lambda: all(node.running.epoch == 1 for node in town.citizens.values()), "epoch 1")
    for number in range(10):
        town.citizens[number % 4].submit(b"tx%d" % number)
        town.run(50)
    town.until(lambda: all(len(node.disk.payloads) == 11 for node in town.citizens.values()), "all payloads")
    town.check()


def test_a_node_that_holds_its_next_keys_goes_on_with_them() -> None:
    """Node 3 holds the keys of seats 3 and 9: the first until the epoch ends, then the second."""
    town = Town(
        {0: (0,), 1: (1,), 2: (2,), 3: (3, 9)}, committee(0, 1, 2, 3), {"rotated": committee(0, 1, 2, 9)}
    ).boot()
    town.run(400)
    town.citizens[0].submit(CLOSE + b"rotated")
    town.until(lambda: all(node.running.epoch == 1 for node in town.citizens.values()), "epoch 1")
    town.citizens[3].submit(b"with the new keys")
    town.until(lambda: town.in_epoch(1), "its headers")
    owns = [own for _, own in town.citizens[3].opened]
    assert None not in owns
    new = keys_of(9)[1].address
    town.until(lambda: any(address == new for epoch, _, address in town.signed if epoch == 1), "it signs with them")
    town.check()


def test_keys_changed_within_an_epoch_sit_it_out() -> None:
    """The store's last proposal is another seat's: what the seat held now has signed, nobody here knows."""
    four = committee(0, 1, 2, 3)
    town = Town({name: (name,) for name in range(4)}, four, {}).boot()
    town.run(600)
    node = town.citizens[2]
    other = 3
    succession = Succession(
        town.parameters, CHAIN_HASH, identity(other), [(node.start_of(0), node.stored(node.running.epoch))]
    )
    sitting = succession.status().sitting_out
    assert sitting is not None
    assert "the last proposal kept is authority" in sitting


def test_both_keys_of_a_seat_are_needed() -> None:
    members = committee(0, 1)
    address, key = keys_of(0)[1].address, keys_of(0)[0]
    assert Identity((address,), (keys_of(1)[0],)).seat_in(members) is None
    assert Identity((), (key,)).seat_in(members) is None
    seat = Identity((keys_of(7)[1].address, address), (keys_of(7)[0], key)).seat_in(members)
    assert seat is not None
    assert members[seat.index].address == address
    assert seat.key == key


def test_epochs_that_end_with_their_first_block() -> None:
    """At most two epochs are ever open."""
    four = committee(0, 1, 2, 3)
    town = Town({name: (name,) for name in range(4)}, four, {f"set {n}": four for n in range(5)}).boot()
    town.run(400)
    for number in range(5):
        epoch = town.citizens[0].running.epoch
        town.citizens[number % 4].submit(CLOSE + b"set %d" % number)
        town.until(lambda epoch=epoch: all(node.running.epoch > epoch for node in town.citizens.values()), "the next")  # type: ignore[misc]
        assert all(len(node.running.committees) <= 2 for node in town.citizens.values())
    town.check()
    assert {header.epoch for header in town.citizens[0].disk.headers} >= {0, 1, 2, 3, 4}
