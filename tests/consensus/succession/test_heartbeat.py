"""On an idle chain headers keep coming, in a new epoch too; the first certified one ends the service of the old."""

import itertools

from tests.consensus.succession.town import CLOSE, PARAMETERS, Town, committee


def test_an_idle_epoch_has_headers_and_drops_the_one_before() -> None:
    four = committee(0, 1, 2, 3)
    town = Town({name: (name,) for name in range(4)}, four, {"same": four}).boot()
    town.run(400)
    town.citizens[0].submit(CLOSE + b"same")
    town.until(lambda: all(node.running.epoch == 1 for node in town.citizens.values()), "epoch 1 is open")
    assert all(node.dropped == [] for node in town.citizens.values())
    town.run(5 * PARAMETERS.heartbeat_ms)
    for node in town.citizens.values():
        later = [header for header in node.disk.headers if header.epoch == 1]
        assert len(later) in (3, 4, 5)
        assert set(node.disk.certificates) == set(range(1, len(node.disk.headers) + 1))
        assert node.dropped == [0]
        times = [header.time_ms for header in node.disk.headers if header.closes_epoch or header.epoch == 1]
        assert all(after - before >= PARAMETERS.heartbeat_ms for before, after in itertools.pairwise(times))
    town.check()
