"""Vertices of epochs that aren't open: older ones are refused, later ones make a node ask, at a bounded rate."""

import pytest

from consensus import events as e
from consensus.dag.validation import verify_in_epochs
from consensus.dag.vertex import decode_vertex
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.identifiers import AuthorityIndex
from tests.consensus.succession.town import CLOSE, PARAMETERS, Town, committee


def changed_town() -> Town:
    four = committee(0, 1, 2, 3)
    town = Town({name: (name,) for name in range(4)}, four, {"same": four}).boot()
    town.run(400)
    town.citizens[0].submit(CLOSE + b"same")
    town.citizens[1].submit(b"more")
    town.until(lambda: all(node.dropped == [0] for node in town.citizens.values()), "epoch 0 is over")
    return town


def test_an_epoch_that_is_over_is_refused_by_name() -> None:
    town = changed_town()
    old = next(raw for (epoch, _), raw in town.citizens[0].disk.vertices.items() if epoch == 0)
    with pytest.raises(Rejection) as caught:
        verify_in_epochs(old, town.citizens[1].running.jurisdictions, PARAMETERS)
    assert (caught.value.reason, caught.value.detail) == (
        RejectionReason.WRONG_EPOCH,
        "vertex: expected epoch 1, got 0",
    )


def test_events_of_an_epoch_that_is_over_change_nothing() -> None:
    town = changed_town()
    node = town.citizens[0].running
    raw = next(raw for (epoch, _), raw in town.citizens[0].disk.vertices.items() if epoch == 0)
    late: list[e.Event] = [
        e.VertexReceived(AuthorityIndex(1), decode_vertex(raw, PARAMETERS)),
        e.TimerFired(e.TimerKind.ROUND, e.Epoch(0)),
        e.RangeEnded(AuthorityIndex(1), e.Epoch(0)),
        e.AncestorsUnavailable((), AuthorityIndex(1), e.Epoch(0)),
    ]
    assert [node.handle(event, town.now) for event in late] == [[], [], [], []]


def test_a_liar_who_speaks_of_later_epochs_costs_one_question_at_a_time() -> None:
    town = changed_town()
    node, now = town.citizens[0].running, town.now
    effects = [effect for _ in range(1_000) for effect in node.handle(e.EpochAhead(), now)]
    assert len([effect for effect in effects if isinstance(effect, e.RequestRange)]) == 1
    effects = [
        effect for _ in range(1_000) for effect in node.handle(e.EpochAhead(), now + PARAMETERS.range_timeout_ms)
    ]
    assert len([effect for effect in effects if isinstance(effect, e.RequestRange)]) == 1
