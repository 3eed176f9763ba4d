"""Validators come, go and change keys on real nodes; the chain goes on, and everybody can check all of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from mpisa.node.clock import SystemClock
from mpisa.node.home import Home
from mpisa.node.views import TransactionState
from mpisa.primitives.staking_parameters import StakingParameters
from tests.node.cluster import key_of, validator_keys
from tests.node.validators import town

ALICE = key_of("account 0")
SPAN_MS = 12_000
"""Time for eight transactions to be certified before the epoch can end."""


async def test_a_fifth_node_joins_by_transaction_and_proposes(tmp_path: Path) -> None:
    async with town(tmp_path, 4, 1) as made:
        nodes = made.cluster.nodes
        assert nodes[4].status().authority is None
        await made.submit(made.join(4))
        await made.submit(made.cluster.transfer(ALICE, 0))
        await made.in_epoch(1)
        assert nodes[4].status().authority == "node5"
        await made.cluster.ready()
        proposed = nodes[4].metrics()["vertices_proposed_total"]
        await made.submit(made.cluster.transfer(ALICE, 1), through=4)
        assert nodes[4].metrics()["vertices_proposed_total"] > proposed
        height = await made.level()
        assert len(nodes[0].chain.validators(height)) == 5
        assert len(nodes[0].chain.validators(1)) == 4
        certificate = nodes[0].chain.certificate(height)
        assert certificate is not None
        assert len(certificate.signatures) >= 4
        assert nodes[0].metrics()["epoch"] == 1.0


async def test_one_leaves_and_goes_on_as_a_full_node(tmp_path: Path) -> None:
    async with town(tmp_path, 5) as made:
        nodes = made.cluster.nodes
        await made.submit(made.leave(4))
        await made.submit(made.cluster.transfer(ALICE, 0))
        await made.in_epoch(1)
        assert nodes[4].status().authority is None
        await made.submit(made.cluster.transfer(ALICE, 1), through=4)
        await made.cluster.ready()
        await made.level()
        assert len(nodes[4].chain.validators()) == 4
        proposed = nodes[4].metrics()["vertices_proposed_total"]
        for nonce in range(2, 5):
            await made.submit(made.cluster.transfer(ALICE, nonce))
        assert nodes[4].metrics()["vertices_proposed_total"] == proposed
        await made.level()


async def test_keys_are_changed_without_a_stop(tmp_path: Path) -> None:
    """The next keys lie in the home before the node starts; the old ones can go once the epoch has changed."""
    async with town(tmp_path, 4) as made:
        following = validator_keys(77)
        assert following.consensus is not None
        assert following.certificate is not None
        Home(made.cluster.home(2)).write_next_keys(following.consensus, following.certificate)
        await made.cluster.stop(2)
        await made.cluster.start(2)
        await made.cluster.ready(2)
        await made.submit(made.rotate(2))
        await made.submit(made.cluster.transfer(ALICE, 0))
        await made.in_epoch(1)
        await made.cluster.ready()
        addresses = [item.address for item in made.cluster.nodes[0].chain.validators().validators]
        assert following.certificate.public_key.address in addresses
        own = made.cluster.nodes[2].status().authority_index
        assert own is not None
        assert addresses[own] == following.certificate.public_key.address
        await made.submit(made.cluster.transfer(ALICE, 1), through=2)
        height = await made.level()
        await made.cluster.stop(2)
        Home(made.cluster.home(2)).adopt_next_keys()
        await made.cluster.start(2)
        await made.cluster.ready(2)
        assert made.cluster.nodes[2].status().authority_index == own
        status = await made.submit(made.cluster.transfer(ALICE, 2), through=2)
        assert status.height is not None
        assert status.height > height
        await made.level()
        await made.cluster.stop(0, 1, 2, 3)
        made.assert_no_double_signature()


async def test_a_wholly_disjoint_set_takes_over(tmp_path: Path) -> None:
    """All eight changes fall into one epoch; the four that come were full nodes, those that go become such."""
    began = SystemClock().now_ms()
    async with town(tmp_path, 4, 4, time_ms=began, staking=StakingParameters(min_epoch_ms=SPAN_MS)) as made:
        nodes = made.cluster.nodes
        for number in range(4):
            await made.submit(made.join(number + 4), through=number)
            await made.submit(made.leave(number), through=number + 4)
        assert {node.status().epoch for node in nodes.values()} == {0}, "the machine was too slow for this test"
        await asyncio.sleep(max(0, began + SPAN_MS - SystemClock().now_ms()) / 1000)
        key = key_of("account 7")
        nonce = nodes[0].pending_nonce(key.public_key.address)
        for more in range(3):
            await made.submit(made.cluster.transfer(key, nonce + more))
        await made.in_epoch(1)
        await made.cluster.ready()
        assert [nodes[number].status().authority is None for number in range(8)] == [True] * 4 + [False] * 4
        for more in range(3, 6):
            await made.submit(made.cluster.transfer(key, nonce + more), through=more)
        await made.level()
        await made.cluster.stop(0, 1, 2, 3)
        await made.submit(made.cluster.transfer(key, nonce + 6), through=5)
        await made.level()


async def test_transactions_under_way_while_epochs_change_are_executed_once(tmp_path: Path) -> None:
    """Four clients never stop; two nodes come and go meanwhile, so that vertices are voided again and again."""
    async with town(tmp_path, 4, 2) as made:
        keys = [key_of(f"account {number}") for number in range(4)]
        accepted: list[bytes] = []
        done = asyncio.Event()

        async def client(number: int) -> int:
            nonce = 0
            while not done.is_set():
                batch = [made.cluster.transfer(keys[number], nonce + more) for more in range(5)]
                nonce += len(batch)
                found = await asyncio.gather(*(made.cluster.nodes[number].submit(raw, "certified") for raw in batch))
                assert {item.status for item in found} == {TransactionState.CERTIFIED}
                accepted.extend(item.hash for item in found)
            return nonce

        clients = [asyncio.create_task(client(number)) for number in range(4)]
        for number in (4, 5):
            await made.submit(made.join(number))
        for number in (5, 4):
            await made.submit(made.leave(number), through=number)
        done.set()
        nonces = await asyncio.gather(*clients)
        await made.in_epoch(4, 0, 1, 2, 3)
        await made.level()
        for number, node in made.cluster.nodes.items():
            hashes = made.applied(number)
            assert len(hashes) == len(set(hashes)), "once"
            assert set(accepted) <= set(hashes), "none is lost"
            for at, key in enumerate(keys):
                assert node.chain.account(key.public_key.address).nonce == nonces[at]


async def test_a_node_that_was_away_for_whole_epochs_comes_back(tmp_path: Path) -> None:
    async with town(tmp_path, 5, 1) as made:
        await made.submit(made.cluster.transfer(ALICE, 0))
        await made.cluster.stop(3)
        await made.submit(made.join(5))
        await made.submit(made.leave(5), through=5)
        await made.submit(made.join(5))
        await made.submit(made.cluster.transfer(ALICE, 1))
        await made.in_epoch(3)
        await made.cluster.start(3)
        await made.in_epoch(3, 3)
        await made.cluster.ready(3)
        assert made.cluster.nodes[3].status().authority == "node4"
        await made.submit(made.cluster.transfer(ALICE, 2), through=3)
        await made.level()
        await made.cluster.stop(*made.cluster.nodes)
        made.assert_no_double_signature()
