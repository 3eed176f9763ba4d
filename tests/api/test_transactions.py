"""Batches and streams over HTTP: one result each, answers while the request is still being sent, and their bounds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from mpisa.api.transaction_routes import MAX_BATCH
from mpisa.primitives.errors import Halted, NotReady, SafeHalt
from mpisa.primitives.operations import Transfer
from mpisa.primitives.transaction import SignedTransaction, Transaction, sign_transaction
from tests.api.fake_node import FakeLedger, FakeNode, key_of

ALICE, BOB = key_of("alice"), key_of("bob")
LINES = {"Content-Type": "application/x-ndjson"}


def transfer(ledger: FakeLedger, nonce: int, amount: int = 1) -> SignedTransaction:
    expires = ledger.context().time_ms + 60_000
    body = Transaction(ledger.genesis.chain_hash, ALICE.address, nonce, expires, (Transfer(BOB.address, amount),))
    return sign_transaction(body, ALICE)


def line(signed: SignedTransaction) -> bytes:
    return json.dumps({"transaction": signed.raw.hex()}).encode() + b"\n"


async def test_a_batch_has_one_result_each(ledger: FakeLedger, http: aiohttp.ClientSession) -> None:
    signed = [transfer(ledger, nonce) for nonce in range(3)]
    raws = [item.raw.hex() for item in (*signed, transfer(ledger, 0, amount=2))]
    body = {"transactions": [*raws, "00"]}
    async with http.post("/v1/transactions/batch?wait=certified", json=body) as answer:
        assert answer.status == 200
        results = (await answer.json())["results"]
    assert [result["transaction"]["hash"] for result in results[:3]] == [item.hash.hex() for item in signed]
    assert {result["transaction"]["status"] for result in results[:3]} == {"certified"}
    assert [result["problem"]["reason"] for result in results[3:]] == ["replayed", "malformed"]
    assert [result["transaction"] for result in results[3:]] == [None, None]


async def test_sending_a_batch_again_executes_nothing_twice(ledger: FakeLedger, http: aiohttp.ClientSession) -> None:
    body = {"transactions": [transfer(ledger, nonce).raw.hex() for nonce in range(3)]}
    answers = []
    for _ in range(2):
        async with http.post("/v1/transactions/batch?wait=certified", json=body) as answer:
            answers.append([item["transaction"]["hash"] for item in (await answer.json())["results"]])
    assert answers[0] == answers[1]
    assert [len(block.transactions) for block in ledger.blocks] == [0, 3]


async def test_bad_batches_are_refused(http: aiohttp.ClientSession) -> None:
    for transactions, detail in (
        ([], f"transactions: expected 1 to {MAX_BATCH}, got 0"),
        (["00"] * (MAX_BATCH + 1), f"transactions: expected 1 to {MAX_BATCH}, got {MAX_BATCH + 1}"),
        (["zz"], "transaction: expected 1 to 65536 bytes in lower-case hex, got 'zz'"),
    ):
        async with http.post("/v1/transactions/batch", json={"transactions": transactions}) as answer:
            assert (answer.status, (await answer.json())["detail"]) == (400, detail)


async def read_answers(answer: aiohttp.ClientResponse) -> list[dict[str, Any]]:
    return [json.loads(text) for text in (await answer.read()).splitlines() if text]


async def test_a_stream_is_answered_while_it_is_sent(ledger: FakeLedger, http: aiohttp.ClientSession) -> None:
    first, second = transfer(ledger, 0), transfer(ledger, 1)
    seen = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield line(first)
        await seen.wait()
        yield line(second)

    states: dict[int, list[str]] = {0: [], 1: []}
    async with http.post("/v1/transactions/stream?wait=certified", data=body(), headers=LINES) as answer:
        assert (answer.status, answer.content_type) == (200, "application/x-ndjson")
        async for text in answer.content:
            found = json.loads(text)
            for place in found["transactions"]:
                states[place].append(found["status"])
            if found["status"] == "certified":
                assert found["height"] == found["transactions"][0] + 1
                seen.set()
    assert states == {0: ["accepted", "ordered", "certified"], 1: ["accepted", "ordered", "certified"]}


async def test_what_is_wrong_with_one_line_is_an_answer(ledger: FakeLedger, http: aiohttp.ClientSession) -> None:
    data = line(transfer(ledger, 0, amount=5)) + line(transfer(ledger, 0)) + b"\n" + line(transfer(ledger, 1))[:-1]
    async with http.post("/v1/transactions/stream?wait=accepted", data=data, headers=LINES) as answer:
        found = await read_answers(answer)
    assert found[0] == {"transactions": [0, 2], "status": "accepted"}
    assert [(item["transactions"], item["problem"]["reason"]) for item in found[1:]] == [([1], "replayed")]


async def test_a_line_that_is_none_ends_the_stream_with_the_reason(
    ledger: FakeLedger, http: aiohttp.ClientSession
) -> None:
    data = line(transfer(ledger, 0)) + b"hello\n" + line(transfer(ledger, 1))
    async with http.post("/v1/transactions/stream?wait=accepted", data=data, headers=LINES) as answer:
        found = await read_answers(answer)
    assert found[0] == {"transactions": [0], "status": "accepted"}
    assert found[1]["transactions"] == []
    assert found[1]["problem"]["detail"] == "line: JSON is malformed: invalid character (byte 0)"
    assert len(found) == 2


async def test_more_than_the_window_goes_through_in_turns(
    node: FakeNode, ledger: FakeLedger, http: aiohttp.ClientSession
) -> None:
    node.window = 4
    data = b"".join(line(transfer(ledger, nonce)) for nonce in range(30))
    async with http.post("/v1/transactions/stream?wait=certified", data=data, headers=LINES) as answer:
        found = await read_answers(answer)
    certified = [place for item in found if item["status"] == "certified" for place in item["transactions"]]
    assert sorted(certified) == list(range(30))
    assert max(len(block.transactions) for block in ledger.blocks) <= 4


async def test_a_safe_halt_says_when_to_come_back(
    node: FakeNode, ledger: FakeLedger, http: aiohttp.ClientSession
) -> None:
    node.refusal = SafeHalt("nothing was certified for 31 s", hint="send again then")
    async with http.post("/v1/transactions", json={"transaction": transfer(ledger, 0).raw.hex()}) as answer:
        found = await answer.json()
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    assert (found["code"], found["reason"], found["hint"]) == ("safe-halt", None, "send again then")
    assert (found["type"], found["title"]) == ("urn:mpisa:problem:safe-halt", "Service Unavailable")
    assert found["detail"] == "nothing was certified for 31 s"


async def test_a_node_that_has_halted_names_no_time_to_come_back(
    node: FakeNode, ledger: FakeLedger, http: aiohttp.ClientSession
) -> None:
    node.refusal = Halted("the node has halted: two certified vertices", hint="send to another node")
    async with http.post("/v1/transactions", json={"transaction": transfer(ledger, 0).raw.hex()}) as answer:
        found = await answer.json()
        assert (answer.status, "Retry-After" in answer.headers) == (503, False)
    assert (found["code"], found["detail"]) == ("halted", "the node has halted: two certified vertices")


async def test_a_stream_that_is_too_many_is_a_problem(node: FakeNode, http: aiohttp.ClientSession) -> None:
    node.fault = NotReady("64 streams of transactions are open already", hint="try again later")
    async with http.post("/v1/transactions/stream", data=b"", headers=LINES) as answer:
        assert answer.status == 503
        assert (await answer.json())["detail"] == "64 streams of transactions are open already"


async def test_a_client_that_leaves_is_forgotten(
    node: FakeNode, ledger: FakeLedger, http: aiohttp.ClientSession
) -> None:
    ledger.scheduled = True  # nothing is sealed
    taken = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield line(transfer(ledger, 0))
        await taken.wait()

    async with http.post("/v1/transactions/stream?wait=certified", data=body(), headers=LINES) as answer:
        assert json.loads(await answer.content.readline())["status"] == "accepted"
        assert len(node.waiting) == 1
    taken.set()
    async with asyncio.timeout(10):
        while len(node.waiting):
            await asyncio.sleep(0.01)
    assert len(node.pool) == 1
