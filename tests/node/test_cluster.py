"""Four real nodes agree: transactions, restarts, crashes, duplicates, proofs."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from mpisa.node.views import TransactionState
from mpisa.primitives import merkle
from mpisa.primitives.errors import Unreachable
from mpisa.primitives.header import header_hash, verify_certificate
from mpisa.primitives.state_keys import account_key
from mpisa.primitives.transaction import decode_transaction
from tests.node.cluster import BALANCE, add_follower, key_of, running, until

ALICE, BOB = key_of("account 0"), key_of("account 1")


async def test_a_transfer_is_certified_on_all_nodes_with_one_state_root(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        status = await cluster.nodes[0].submit(cluster.transfer(ALICE, 0, amount=5), "certified")
        assert status.status is TransactionState.CERTIFIED
        assert status.height is not None
        await cluster.level(status.height)
        for node in cluster.nodes.values():
            account = node.chain.account(ALICE.public_key.address)
            assert (account.nonce, account.balance, account.pending_nonce) == (1, BALANCE - 5, 1)
            assert node.transaction(status.hash).status is TransactionState.CERTIFIED


async def test_a_proof_verifies_with_primitives_alone(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        status = await cluster.nodes[1].submit(cluster.transfer(ALICE, 0), "certified")
        assert status.height is not None
        key = account_key(ALICE.public_key.address)
        proof = cluster.nodes[1].chain.prove(key)
        assert proof.certificate is not None
        assert proof.value is not None
        verify_certificate(proof.header, proof.certificate, cluster.genesis.validator_set)
        merkle.verify_membership(proof.header.state_root, key, proof.value, proof.proof)
        before = cluster.nodes[1].chain.prove(key, 0)
        assert before.value is not None
        assert before.value != proof.value
        merkle.verify_membership(before.header.state_root, key, before.value, before.proof)
        absent = cluster.nodes[1].chain.prove(account_key(bytes(20)))
        assert absent.value is None
        merkle.verify_absence(absent.header.state_root, absent.key, absent.proof)


async def test_headers_chain_from_genesis_each_with_its_certificate(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        for nonce in range(3):
            await cluster.nodes[nonce].submit(cluster.transfer(ALICE, nonce), "certified")
        bundles = cluster.nodes[2].chain.headers(0, 100)
        assert [bundle.header.height for bundle in bundles] == list(range(len(bundles)))
        assert len(bundles) >= 4
        for previous, bundle in itertools.pairwise(bundles):
            assert bundle.header.previous == header_hash(previous.header)
            assert bundle.header.first_commit == previous.header.last_commit + 1
            assert bundle.certificate is not None
            verify_certificate(bundle.header, bundle.certificate, bundle.validators)


async def test_a_duplicate_through_two_nodes_is_executed_once(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        raw = cluster.transfer(ALICE, 0, amount=7)
        first, second = await asyncio.gather(
            cluster.nodes[0].submit(raw, "certified"), cluster.nodes[3].submit(raw, "certified")
        )
        assert (first.hash, first.status) == (second.hash, TransactionState.CERTIFIED)
        again = await cluster.nodes[2].submit(raw, "certified")
        assert (again.status, again.height) == (TransactionState.CERTIFIED, first.height)
        assert cluster.nodes[2].chain.account(ALICE.public_key.address).balance == BALANCE - 7


async def test_a_hundred_transactions_through_four_nodes_none_lost_none_twice(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        keys = [key_of(f"account {number}") for number in range(4)]
        raws = [[cluster.transfer(key, nonce) for nonce in range(25)] for key in keys]
        work = [cluster.nodes[number].submit(raw, "certified") for number in range(4) for raw in raws[number]]
        results = await asyncio.gather(*work)
        assert {result.status for result in results} == {TransactionState.CERTIFIED}
        top = max(result.height or 0 for result in results)
        await cluster.level(top)
        for node in cluster.nodes.values():
            executed = [raw for height in range(1, top + 1) for raw in node.chain.block(height).transactions]
            assert len(executed) == 100
            assert {decode_transaction(raw).hash for raw in executed} == {result.hash for result in results}
            for key in keys:
                assert node.chain.account(key.public_key.address).nonce == 25
            assert node.chain.account(key_of("receiver").public_key.address).balance == 100


async def test_a_rejected_transaction_comes_back_with_its_reason(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        await cluster.nodes[0].submit(cluster.transfer(ALICE, 0, amount=BALANCE), "accepted")
        status = await cluster.nodes[0].submit(cluster.transfer(ALICE, 1), "certified")
        assert status.status is TransactionState.REJECTED
        assert status.receipt is not None
        assert status.receipt.reason is not None
        assert status.receipt.reason.value == "insufficient-balance"


async def test_a_stopped_node_catches_up(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        await cluster.nodes[0].submit(cluster.transfer(ALICE, 0), "certified")
        await cluster.stop(1)
        last = await cluster.nodes[0].submit(cluster.transfer(ALICE, 1), "certified")
        assert last.height is not None
        await cluster.start(1)
        await cluster.ready(1)
        assert cluster.nodes[1].chain.head().height >= last.height, "ready means level with the others"
        await cluster.level(last.height)
        after = await cluster.nodes[1].submit(cluster.transfer(ALICE, 2), "certified")
        assert after.height is not None
        await cluster.level(after.height)


async def test_a_crashed_node_starts_from_what_was_durable(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        for nonce in range(3):
            await cluster.nodes[nonce].submit(cluster.transfer(BOB, nonce), "certified")
        copy = cluster.snapshot(2, "crashed")
        await cluster.stop(2)
        last = await cluster.nodes[0].submit(cluster.transfer(BOB, 3), "certified")
        assert last.height is not None
        cluster.nodes[2] = cluster.open(2, copy)
        await cluster.nodes[2].start()
        await cluster.level(last.height)
        status = cluster.nodes[2].status()
        assert status.halted is None


async def test_all_nodes_stop_and_start_again(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        first = await cluster.nodes[0].submit(cluster.transfer(ALICE, 0), "ordered")
        await cluster.stop(0, 1, 2, 3)
        await cluster.start(0, 1, 2, 3)
        await cluster.ready()
        assert first.height is not None
        await cluster.level(first.height)
        second = await cluster.nodes[3].submit(cluster.transfer(ALICE, 1), "certified")
        assert second.height is not None
        assert second.height > first.height
        await cluster.level(second.height)


async def test_three_of_four_suffice(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        await cluster.stop(3)
        status = await cluster.nodes[0].submit(cluster.transfer(ALICE, 0), "certified")
        assert status.status is TransactionState.CERTIFIED


async def test_a_follower_reads_along(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        status = await cluster.nodes[0].submit(cluster.transfer(ALICE, 0), "certified")
        assert status.height is not None
        add_follower(cluster, 4)
        await cluster.start(4)
        root = await cluster.level(status.height)
        assert root == cluster.nodes[4].chain.header(status.height).state_root
        await until(lambda: cluster.nodes[4].ready()[0], "the follower is ready")


async def test_a_follower_hands_transactions_to_an_authority(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        add_follower(cluster, 4)
        await cluster.start(4)
        await cluster.ready(4)
        status = await cluster.nodes[4].submit(cluster.transfer(ALICE, 0), "certified")
        assert status.status is TransactionState.CERTIFIED
        await cluster.stop(0, 1, 2, 3)
        with pytest.raises(Unreachable) as refused:
            await cluster.nodes[4].submit(cluster.transfer(ALICE, 1), "certified")
        assert refused.value.message == (
            "this node makes no vertices of its own, and no authority took the transaction"
        )


async def test_events_tell_of_blocks_and_certificates(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        subscription = cluster.nodes[1].events.subscribe()
        status = await cluster.nodes[0].submit(cluster.transfer(ALICE, 0), "certified")
        kinds = []
        async for event in subscription:
            kinds.append(event.kind.value)
            if event.kind.value == "certified" and event.data["height"] == status.height:
                break
        assert kinds.index("block") < kinds.index("transaction") < kinds.index("certified")


@pytest.mark.parametrize("count", [1, 2])
async def test_small_committees_work(tmp_path: Path, count: int) -> None:
    async with running(tmp_path, count) as cluster:
        status = await cluster.nodes[0].submit(cluster.transfer(ALICE, 0), "certified")
        assert status.height is not None
        await cluster.level(status.height)
