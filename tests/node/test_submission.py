"""Submission at the door: what is refused, what is waited for, and what a halt or a full disk does."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mpisa.config import Limits
from mpisa.node.views import TransactionState, TransactionStatus, WaitFor
from mpisa.primitives.errors import (
    DiskFull,
    NotFound,
    NotReady,
    Rejection,
    RejectionReason,
    SafeHalt,
    TimedOut,
    UsageError,
)
from mpisa.primitives.operations import Transfer
from mpisa.primitives.transaction import decode_transaction
from tests.node.cluster import Cluster, key_of, running, until

ALICE, BOB = key_of("account 0"), key_of("account 1")
SINK = key_of("receiver").public_key.address


async def rejection(cluster: Cluster, raw: bytes) -> Rejection:
    with pytest.raises(Rejection) as caught:
        await cluster.nodes[0].submit(raw)
    return caught.value


async def test_what_can_be_known_at_the_door_is_refused_there(tmp_path: Path) -> None:
    async with running(tmp_path, 1) as cluster:
        raw = cluster.transfer(ALICE, 0)
        assert (await rejection(cluster, raw[:-1])).reason is RejectionReason.MALFORMED
        assert (await rejection(cluster, raw[:-1] + bytes([raw[-1] ^ 1]))).reason is RejectionReason.BAD_SIGNATURE
        expired = cluster.sign(ALICE, 0, Transfer(key_of("receiver").public_key.address, 1), expires_ms=1)
        assert (await rejection(cluster, expired)).reason is RejectionReason.EXPIRED
        assert (await rejection(cluster, cluster.transfer(ALICE, 66))).reason is RejectionReason.NONCE_GAP
        await cluster.nodes[0].submit(raw, "certified")
        assert (await rejection(cluster, cluster.transfer(ALICE, 0, amount=2))).reason is RejectionReason.REPLAYED
        metrics = cluster.nodes[0].metrics()
        assert (metrics["transactions_refused_total"], metrics["transactions_accepted_total"]) == (5.0, 1.0)


async def test_a_gap_is_accepted_and_filled(tmp_path: Path) -> None:
    async with running(tmp_path, 1) as cluster:
        node = cluster.nodes[0]
        later = await node.submit(cluster.transfer(ALICE, 1))
        assert later.status is TransactionState.ACCEPTED
        assert node.pending_nonce(ALICE.public_key.address) == 0
        first = await node.submit(cluster.transfer(ALICE, 0), "certified")
        await until(
            lambda: node.transaction(later.hash).status is TransactionState.CERTIFIED, "the second is certified"
        )
        assert first.height is not None
        assert node.chain.account(ALICE.public_key.address).nonce == 2


async def test_a_timeout_says_what_is_known(tmp_path: Path) -> None:
    async with running(tmp_path, 2) as cluster:
        await cluster.stop(1)
        raw = cluster.transfer(ALICE, 0)
        with pytest.raises(TimedOut) as caught:
            await cluster.nodes[0].submit(raw, "certified", timeout_s=0.05)
        digest = (await cluster.nodes[0].submit(raw)).hash
        assert str(caught.value) == f"transaction {digest.hex()} is not certified after 0.05 s; it is accepted"
        assert cluster.nodes[0].transaction(digest).raw == raw
        await cluster.start(1)
        assert (await cluster.nodes[0].submit(raw, "certified")).status is TransactionState.CERTIFIED


async def test_a_batch_and_a_stream_through_real_nodes(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        raws = [cluster.transfer(ALICE, nonce) for nonce in range(6)]
        false = cluster.transfer(ALICE, 6)[:-1] + b"x"
        first = await cluster.nodes[0].submit_many([*raws[:3], false], "certified")
        assert [getattr(item, "status", None) for item in first[:3]] == [TransactionState.CERTIFIED] * 3
        assert isinstance(first[3], Rejection)
        states: dict[int, list[str]] = {}
        with cluster.nodes[1].open_stream("certified") as stream:
            for raw in raws:
                await stream.offer(raw)
            stream.finish()
            while (answers := await stream.answers(30.0)) is not None:
                for answer in answers:
                    for place in answer.transactions:
                        states.setdefault(place, []).append(str(answer.status))
        assert [states[place][-1] for place in range(6)] == ["certified"] * 6
        assert [states[place] for place in (3, 4, 5)] == [["accepted", "ordered", "certified"]] * 3
        assert cluster.nodes[1].chain.account(ALICE.public_key.address).nonce == 6


async def test_a_stream_may_be_open_so_many_times(tmp_path: Path) -> None:
    from contextlib import ExitStack

    from mpisa.node.submission import MAX_FLOWS

    async with running(tmp_path, 1) as cluster:
        node = cluster.nodes[0]
        with ExitStack() as stack:
            for _ in range(MAX_FLOWS):
                stack.enter_context(node.open_stream("ordered"))
            with pytest.raises(NotReady, match="64 streams of transactions are open already"):
                stack.enter_context(node.open_stream("ordered"))
        with node.open_stream("ordered"):
            pass


async def test_bad_arguments_and_unknown_hashes_have_their_own_errors(tmp_path: Path) -> None:
    async with running(tmp_path, 1) as cluster:
        node, raw = cluster.nodes[0], cluster.transfer(ALICE, 0)
        with pytest.raises(UsageError, match="wait: expected one of accepted, ordered, certified, got 'soon'"):
            await node.submit(raw, "soon")
        for seconds in (0.0, -1.0, 601.0):
            with pytest.raises(UsageError, match="timeout: expected more than 0 and at most 600 seconds"):
                await node.submit(raw, WaitFor.CERTIFIED, seconds)
        with pytest.raises(NotFound, match="is neither on the chain nor waiting here"):
            node.transaction(bytes(32))


async def test_intake_stops_when_certification_lags_and_opens_when_it_has_caught_up(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        node = cluster.nodes[0]
        submissions, store = node._running.submissions, node._running.store
        first = await node.submit(cluster.transfer(ALICE, 0), "certified")
        submissions._lag = 2
        certified = store.certified_height
        store._certificates.highest = store.height - 3
        with pytest.raises(SafeHalt) as caught:
            await node.submit(cluster.transfer(ALICE, 1))
        assert "certification is 3 chain blocks behind ordering, at most 2 are allowed" in str(caught.value)
        assert node.ready()[0] is False
        store._certificates.highest = certified
        assert first.height is not None
        assert (await node.submit(cluster.transfer(ALICE, 1), "certified")).status is TransactionState.CERTIFIED


async def test_intake_stops_without_a_quorum_and_opens_by_itself(tmp_path: Path) -> None:
    async with running(tmp_path, limits=Limits(certification_stall_ms=500)) as cluster:
        node = cluster.nodes[0]
        await node.submit(cluster.transfer(ALICE, 0), "certified")
        assert node.metrics()["intake_stopped"] == 0.0
        await cluster.stop(2, 3)
        taken = await node.submit(cluster.transfer(ALICE, 1), "accepted")
        await until(lambda: node.metrics()["intake_stopped"] == 1.0, "intake has stopped")
        with pytest.raises(SafeHalt) as caught:
            await node.submit(cluster.transfer(ALICE, 2), "accepted")
        assert "while transactions wait for it, at most 0 s are allowed" in str(caught.value)
        assert caught.value.hint is not None
        assert "opens by itself" in caught.value.hint
        await cluster.start(2, 3)
        await until(lambda: node.metrics()["intake_stopped"] == 0.0, "intake is open again")
        last = await node.submit(cluster.transfer(ALICE, 2), "certified")
        assert last.height is not None
        await cluster.level(last.height)
        assert node.transaction(taken.hash).status is TransactionState.CERTIFIED


async def test_a_replaced_transaction_is_told_and_the_dearer_one_is_executed(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        await cluster.stop(2, 3)  # nothing is ordered: transactions stay where they are
        node = cluster.nodes[0]
        await node.submit(cluster.transfer(BOB, 0), "accepted")
        await until(lambda: node.metrics()["mempool_in_flight"] <= 1.0, "what can be on its way is")
        waiting = [
            asyncio.create_task(node.submit(cluster.sign(ALICE, 1, Transfer(SINK, 1), fee=fee), "certified"))
            for fee in (0, 5)
        ]
        with pytest.raises(Rejection) as caught:
            await waiting[0]
        assert caught.value.reason is RejectionReason.REPLAYED
        assert "nonce 1 was taken over by" in str(caught.value)
        cheap = decode_transaction(cluster.sign(ALICE, 1, Transfer(SINK, 1))).hash
        with pytest.raises(NotFound, match="left this node's pool: replayed: nonce 1 was taken over by"):
            node.transaction(cheap)
        await cluster.start(2, 3)
        await node.submit(cluster.transfer(ALICE, 0), "certified")
        assert (await waiting[1]).status is TransactionState.CERTIFIED


async def test_what_was_certified_survives_the_node_that_took_it(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        raws = [cluster.transfer(ALICE, nonce) for nonce in range(3)]
        done = await cluster.nodes[0].submit_many(raws, "certified")
        heights = [item.height for item in done if isinstance(item, TransactionStatus)]
        await cluster.stop(0)
        for number, node in cluster.nodes.items():
            again = await node.submit_many(raws, "certified")  # handing in again elsewhere changes nothing
            assert [getattr(item, "height", None) for item in again] == heights, number
            assert node.chain.account(ALICE.public_key.address).nonce == 3


async def test_a_full_disk_stops_intake_and_recovers_by_itself(tmp_path: Path) -> None:
    async with running(tmp_path, 1) as cluster:
        node = cluster.nodes[0]
        store = node._running.store
        events = node.events.subscribe()
        real = store._db

        class FullDisk:
            """The database on a disk without space: reads work, writes don't."""

            def __getattr__(self, name: str) -> object:
                return getattr(real, name)

            def write(self, changes: object, *, sync: bool) -> None:
                raise DiskFull("no space left for the chain store", hint="free some space")

        store._db = FullDisk()  # type: ignore[assignment]
        waiting = asyncio.create_task(node.submit(cluster.transfer(ALICE, 0), "certified"))
        async for event in events:
            if event.kind.value == "halt":
                assert event.data == {"reason": "no space left for the chain store"}
                break
        with pytest.raises(DiskFull, match="no space left for the chain store"):
            await node.submit(cluster.transfer(ALICE, 1))
        assert node.ready() == (False, ["no space left for the chain store"])
        store._db = real
        assert (await waiting).status is TransactionState.CERTIFIED
        await until(lambda: node.ready()[0], "ready again")
        assert (await node.submit(cluster.transfer(ALICE, 1), "certified")).status is TransactionState.CERTIFIED


async def test_who_waits_is_told_when_the_node_stops(tmp_path: Path) -> None:
    async with running(tmp_path, 2) as cluster:
        await cluster.stop(1)
        waiting = asyncio.create_task(cluster.nodes[0].submit(cluster.transfer(ALICE, 0), "certified"))
        await until(lambda: cluster.nodes[0].metrics()["mempool_transactions"] == 1.0, "it is pooled")
        await cluster.stop(0)
        with pytest.raises(NotReady, match="the node is stopping"):
            await waiting
