"""Taking the helm: no turn is under way meanwhile, and the succession that goes on loses and repeats nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mpisa.primitives.errors import StoreDamaged
from tests.node.cluster import key_of, running, until
from tests.node.validators import town

ALICE = key_of("account 0")


async def test_ordering_stands_still_while_somebody_has_the_helm(tmp_path: Path) -> None:
    async with running(tmp_path, 1) as cluster:
        node = cluster.nodes[0]
        await node.submit(cluster.transfer(ALICE, 0), "certified")
        helm, before = node._running.helm, node._running.helm.succession
        async with helm.moved():
            height = node.status().height
            waiting = asyncio.create_task(node.submit(cluster.transfer(ALICE, 1), "certified"))
            handled = node.metrics()["events_handled_total"]
            await asyncio.sleep(0.3)
            assert (node.status().height, node.metrics()["events_handled_total"]) == (height, handled)
            assert helm.succession is before
        status = await waiting
        assert helm.succession is not before
        assert status.height is not None
        assert status.height > height


async def test_what_was_in_flight_when_the_helm_changed_is_executed_once(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        node = cluster.nodes[0]
        raws = [cluster.transfer(ALICE, nonce, amount=3) for nonce in range(30)]
        waiting = [asyncio.create_task(node.submit(raw, "certified")) for raw in raws]
        for _ in range(5):
            height = node.status().height
            await until(
                lambda height=height: node.status().height > height or all(task.done() for task in waiting), "a block"
            )  # type: ignore[misc]
            async with node._running.helm.moved():
                pass
        results = await asyncio.gather(*waiting)
        await cluster.level(max(item.height or 0 for item in results))
        for other in cluster.nodes.values():
            assert other.chain.account(ALICE.public_key.address).nonce == 30
            assert other.chain.account(key_of("receiver").public_key.address).balance == 90
            assert other.metrics()["equivocators"] == 0.0


async def test_a_failure_to_recover_leaves_the_earlier_succession_at_work(tmp_path: Path) -> None:
    async with running(tmp_path, 1) as cluster:
        node = cluster.nodes[0]
        helm = node._running.helm

        class Damaged:
            """Epochs whose stores are damaged."""

            def recover(self) -> None:
                raise StoreDamaged("the vertex store lacks a vertex", hint="run `mpisa node repair`")

        real, helm._epochs = helm._epochs, Damaged()  # type: ignore[assignment]
        before = helm.succession
        with pytest.raises(StoreDamaged):
            async with helm.moved():
                pass
        helm._epochs = real
        assert helm.succession is before
        await node.submit(cluster.transfer(ALICE, 0), "certified")


async def test_the_helm_may_be_taken_while_two_epochs_are_open(tmp_path: Path) -> None:
    async with town(tmp_path, 4, 1) as made:
        await made.submit(made.join(4))
        helm = made.cluster.nodes[1]._running.helm
        await until(lambda: len(helm.committees) == 2, "two epochs are open")
        async with helm.moved():
            pass
        await made.submit(made.cluster.transfer(ALICE, 0), through=1)
        await made.in_epoch(1)
        await until(lambda: len(helm.committees) == 1, "the old one is over")
        await made.level()


async def test_the_helm_is_left_alone_where_the_turn_under_way_makes_taking_it_needless(tmp_path: Path) -> None:
    async with running(tmp_path, 1) as cluster:
        node = cluster.nodes[0]
        helm, before = node._running.helm, node._running.helm.succession
        asked: list[bool] = []

        def is_due() -> bool:
            asked.append(True)
            return False

        async def take() -> bool:
            async with helm.moved(is_due) as is_moving:
                return is_moving

        async with helm.turn:
            taking = asyncio.create_task(take())
            await asyncio.sleep(0)
            assert not asked, "only behind the turn"
        assert await taking is False
        assert helm.succession is before
        await node.submit(cluster.transfer(ALICE, 0), "certified")
