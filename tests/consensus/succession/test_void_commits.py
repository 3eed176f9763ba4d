"""Behind the closing header: no commit is emitted, none consumes an index, vertices are empty, memory stays bounded."""

from consensus import events as e
from consensus.dag.vertex import decode_vertex
from tests.consensus.succession.town import CLOSE, PARAMETERS, Town, committee


def closed_town() -> Town:
    """Epoch 0 is closed and certified, and nobody can open epoch 1: its committee isn't there."""
    four = committee(0, 1, 2, 3)
    town = Town({name: (name,) for name in range(4)}, four, {"absent": committee(4, 5, 6, 7)}).boot()
    town.run(400)
    town.citizens[0].submit(CLOSE + b"absent")
    town.until(lambda: all(node.running.epoch == 1 for node in town.citizens.values()), "epoch 1 is open")
    return town


def test_the_old_engine_goes_on_empty_and_emits_nothing() -> None:
    town = closed_town()
    marks = {name: len(node.effects) for name, node in town.citizens.items()}
    heights = [len(node.disk.headers) for node in town.citizens.values()]
    town.run(30_000)
    for name, node in town.citizens.items():
        later = node.effects[marks[name] :]
        assert [effect for effect in later if isinstance(effect, e.Commit)] == []
        made = [decode_vertex(effect.raw, PARAMETERS) for effect in later if isinstance(effect, e.Broadcast)]
        assert len({vertex.round for vertex in made}) > 60, "the DAG goes on, so that the late can still come by it"
        assert all(vertex.payload == b"" for vertex in made)
        served = node.running._served
        assert served is not None
        assert served.engine.status().vertices < 4 * (PARAMETERS.gc_depth + 12)
    assert [len(node.disk.headers) for node in town.citizens.values()] == heights
    town.check()


def test_the_status_stays_at_the_closing_header() -> None:
    town = closed_town()
    town.run(5_000)
    for node in town.citizens.values():
        closing = node.disk.headers[-1]
        assert node.running._served is not None
        status = node.running._served.engine.status()
        assert (status.closing, status.ordered_height, status.last_commit_index) == (
            True,
            closing.height,
            closing.last_commit,
        )
        assert node.running.status().last_commit_index == closing.last_commit


def test_payloads_that_wait_meanwhile_are_kept_for_the_next_epoch() -> None:
    four = committee(0, 1, 2, 3)
    town = Town({name: (name,) for name in range(4)}, four, {"same": four}).boot()
    town.run(400)
    node = town.citizens[3]
    town.citizens[0].submit(CLOSE + b"same")
    town.until(lambda: node.running.status().closing, "the engine knows that the epoch ends")
    node.submit(b"early")
    assert node.pool == [b"early"]
    town.until(lambda: all(b"early" in other.disk.payloads for other in town.citizens.values()), "it is ordered", 1_500)
    town.check()
