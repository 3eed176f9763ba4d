"""An epoch ends under load and the next begins: nothing lost, nothing twice, indices and heights go on."""

from tests.consensus.succession.town import CLOSE, Town, committee


def test_the_same_four_go_on_in_a_new_epoch() -> None:
    four = committee(0, 1, 2, 3)
    town = Town({name: (name,) for name in range(4)}, four, {"same": four}).boot()
    town.run(400)
    for number in range(40):
        town.citizens[number % 4].submit(b"tx%d" % number)
        if number == 20:
            town.citizens[1].submit(CLOSE + b"same")
        town.run(15)
    town.until(lambda: town.in_epoch(1), "a certified header of epoch 1")
    town.until(lambda: all(len(node.disk.payloads) == 41 for node in town.citizens.values()), "all payloads")
    town.until(lambda: all(node.dropped == [0] for node in town.citizens.values()), "epoch 0 is dropped")
    town.check()
    for node in town.citizens.values():
        assert [epoch for epoch, _ in node.opened] == [0, 1]
        assert node.running.status().epoch == 1
