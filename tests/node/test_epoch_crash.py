"""A power cut at each point of the switch from one epoch to the next: the node goes on from what its disk then held."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from consensus import events as e
from consensus.dag.vertex import decode_vertex
from consensus.parameters import Parameters
from tests.node.cluster import key_of, until
from tests.node.validators import Town, town

ALICE = key_of("account 0")
VICTIM = 2


class PowerCutError(Exception):
    """The node is gone."""


def proposes(effect: e.Effect) -> bool:
    """A batch with an own vertex of the next epoch."""
    return isinstance(effect, e.Persist) and any(
        isinstance(record, e.ProposalRecord) and record.epoch == 1 for record in effect.records
    )


def sends(effect: e.Effect) -> bool:
    """The bytes of an own vertex of the next epoch."""
    return isinstance(effect, e.Broadcast) and decode_vertex(effect.raw, Parameters()).header.epoch == 1


def certifies(height: int) -> Callable[[e.Effect], bool]:
    return lambda effect: isinstance(effect, e.Certified) and effect.height == height


POINTS: dict[str, Callable[[e.Effect], bool]] = {
    "signing the closing header": lambda effect: isinstance(effect, e.BroadcastSignature) and effect.epoch == 0,
    "certifying it": certifies(1),
    "asking the stores": lambda effect: isinstance(effect, e.RecallEpoch),
    "opening": lambda effect: isinstance(effect, e.EpochOpened) and effect.epoch == 1,
    "storing the first proposal": proposes,
    "sending it": sends,
    "certifying the first header": certifies(2),
    "dropping the old epoch": lambda effect: isinstance(effect, e.EpochDropped),
}


def cut_power(made: Town, before: Callable[[e.Effect], bool], image: Path) -> None:
    """The victim's home is copied, and the victim dies, before this effect is performed."""
    ordering = made.cluster.nodes[VICTIM]._running.ordering

    for kind, perform in list(ordering._performers.items()):

        async def performed(effect: e.Effect, perform=perform) -> e.Event | None:  # type: ignore[no-untyped-def]
            if before(effect):
                shutil.copytree(made.cluster.home(VICTIM), image, ignore=shutil.ignore_patterns("LOCK", "node.lock"))
                raise PowerCutError
            return await perform(effect)  # type: ignore[no-any-return]

        ordering._performers[kind] = performed


@pytest.mark.parametrize("point", POINTS)
async def test_a_power_cut_before(tmp_path: Path, point: str) -> None:
    async with town(tmp_path, 4, 1) as made:
        image = tmp_path / "image"
        cut_power(made, POINTS[point], image)
        victim = made.cluster.nodes.pop(VICTIM)
        await made.submit(made.join(4))
        await made.submit(made.cluster.transfer(ALICE, 0))
        with pytest.raises(PowerCutError):
            await victim.wait()
        await victim.stop()
        shutil.rmtree(made.cluster.home(VICTIM))
        image.rename(made.cluster.home(VICTIM))
        await made.cluster.start(VICTIM)
        await made.in_epoch(1)
        await made.cluster.ready()
        assert made.cluster.nodes[VICTIM].status().authority == "node3"
        assert made.cluster.nodes[VICTIM].status().sitting_out is None
        proposed = made.cluster.nodes[VICTIM].metrics()["vertices_proposed_total"]
        await made.submit(made.cluster.transfer(ALICE, 1), through=VICTIM)
        await until(
            lambda: made.cluster.nodes[VICTIM].metrics()["vertices_proposed_total"] > proposed, "it proposes again"
        )
        await made.level()
        assert [node.metrics()["equivocators"] for node in made.cluster.nodes.values()] == [0.0] * 5
        await made.cluster.stop(*made.cluster.nodes)
        made.assert_no_double_signature()
