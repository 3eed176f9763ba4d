"""What the closing header left out comes back to its author, and is ordered once in the next epoch."""

from consensus import events as e
from mpisa.primitives.identifiers import Round
from tests.consensus.succession.town import CLOSE, Town, committee


def test_payloads_in_vertices_behind_the_closing_commit_are_ordered_once() -> None:
    four = committee(0, 1, 2, 3)
    town = Town({name: (name,) for name in range(4)}, four, {"same": four}).boot()
    town.run(400)
    town.citizens[0].submit(CLOSE + b"same")
    for number in range(60):
        town.citizens[number % 4].submit(b"tx%d" % number)
        town.run(3)
    town.until(lambda: all(len(node.disk.payloads) == 61 for node in town.citizens.values()), "all payloads")
    lapsed = [
        effect for node in town.citizens.values() for effect in node.effects if isinstance(effect, e.PayloadLapsed)
    ]
    assert lapsed, "vertices were under way when the epoch ended"
    for node in town.citizens.values():
        closing = next(header for header in node.disk.headers if header.closes_epoch)
        assert closing.height < node.disk.headers[-1].height
    town.check()


def test_a_payload_asked_for_before_and_handed_in_after_the_end_is_given_back() -> None:
    four = committee(0, 1, 2, 3)
    town = Town({name: (name,) for name in range(4)}, four, {"same": four}).boot()
    town.run(400)
    node = town.citizens[2].running
    town.citizens[0].submit(CLOSE + b"same")
    town.citizens[1].submit(b"more")
    town.until(lambda: town.citizens[2].dropped == [0], "epoch 0 is over")
    assert node.handle(e.PayloadProvided(Round(99), b"late;"), town.now) == [e.PayloadLapsed(Round(99), b"late;")]
    assert node.handle(e.PayloadProvided(Round(99), b""), town.now) == []
