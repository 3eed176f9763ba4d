"""Batches and streams of the SDK, against a fake node behind a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from mpisa.sdk import submitting
from mpisa.sdk.async_client import AsyncClient
from mpisa.sdk.client import Client
from tests.api.fake_node import FakeLedger, FakeNode
from tests.api.test_transactions import transfer


async def test_batches_are_cut_and_put_together(
    client: AsyncClient, ledger: FakeLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submitting, "MAX_BATCH", 2)
    signed = [transfer(ledger, nonce) for nonce in range(5)]
    results = await client.submit_many([item.raw for item in signed])
    assert [result.transaction and result.transaction.hash for result in results] == [s.hash.hex() for s in signed]
    (refused,) = await client.submit_many([transfer(ledger, 0, amount=9).raw], "accepted")
    assert refused.problem is not None
    assert refused.problem.reason == "replayed"


async def test_a_stream_gives_answers_as_they_come(client: AsyncClient, ledger: FakeLedger) -> None:
    certified = asyncio.Event()

    async def source() -> AsyncIterator[bytes | list[bytes]]:
        yield transfer(ledger, 0).raw
        await certified.wait()
        yield [transfer(ledger, nonce).raw for nonce in (1, 2)]

    seen: list[tuple[str | None, int]] = []
    async for answer in client.submit_stream(source()):
        seen += [(answer.status, place) for place in answer.transactions]
        if answer.status == "certified":
            certified.set()
    assert seen[:3] == [("accepted", 0), ("ordered", 0), ("certified", 0)]
    states = ("accepted", "ordered", "certified")
    assert sorted(map(str, seen[3:])) == sorted(str((state, place)) for state in states for place in (1, 2))


async def test_the_synchronous_client_does_the_same(node: FakeNode, client: AsyncClient, ledger: FakeLedger) -> None:
    def use() -> tuple[list[str | None], int]:
        with Client(client.endpoint, home=node.home, timeout=20) as plain:
            states = [
                answer.status
                for answer in plain.submit_stream(transfer(ledger, nonce).raw for nonce in range(3))
                for _ in answer.transactions
            ]
            return states, len(plain.submit_many([transfer(ledger, 3).raw, transfer(ledger, 4).raw]))

    states, batch = await asyncio.to_thread(use)
    assert sorted(str(state) for state in states) == ["accepted"] * 3 + ["certified"] * 3 + ["ordered"] * 3
    assert batch == 2
