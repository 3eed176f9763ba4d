"""The whole way with four real nodes: real stores, engines and ledger, real HTTP, the in-memory network."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mpisa.api.routes import ROUTES
from mpisa.api.server import ApiServer
from mpisa.primitives.errors import MpisaError, NotFound, Rejection
from mpisa.primitives.identifiers import format_address
from mpisa.sdk.async_client import AsyncClient
from tests.node.cluster import Cluster, key_of, running

ALICE, BOB = key_of("account 0"), key_of("account 1")


@dataclass
class Served:
    cluster: Cluster
    clients: list[AsyncClient]


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with running(tmp_path / "nodes") as cluster:
        servers = [ApiServer(node) for node in cluster.nodes.values()]
        for server in servers:
            await server.start()
        clients = [AsyncClient(home=cluster.home(number), timeout=60) for number in range(4)]
        yield Served(cluster, clients)
        for client in clients:
            await client.close()
        for server in servers:
            await server.stop()


async def test_a_model_travels(served: Served, tmp_path: Path) -> None:
    first, _, third, fourth = served.clients
    source = tmp_path / "model"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "weights.bin").write_bytes(os.urandom(3_000_000))
    (source / "README.md").write_text("# demo")
    (source / "latest").symlink_to("deep/weights.bin")
    published = await first.publish(source, key=ALICE, license="Apache-2.0", name="alice/demo@v1")
    assert published.certified
    result = await third.get(published.cid, tmp_path / "copy")
    assert result.size == published.size
    assert (tmp_path / "copy" / "latest").read_bytes() == (source / "deep" / "weights.bin").read_bytes()
    await served.cluster.level(published.height)
    verified = await fourth.verify(published.cid)
    assert [check.name for check in verified.checks][-2:] == ["state proof", "record"]
    assert verified.trust.startswith("genesis file")
    chain = await fourth.verify_chain()
    assert (chain.valid, chain.headers_checked) == (True, chain.height + 1)
    assert (await fourth.resolve("alice/demo@v1")).cid == published.cid
    assert (await third.lineage(published.cid)).artefacts[0].license == "Apache-2.0"
    assert (await first.node()).certified_height >= published.height
    assert {entry.name for entry in await third.ls(published.cid)} == {"README.md", "deep", "latest"}


async def test_many_publishes_and_transfers_of_one_account_through_four_nodes(served: Served, tmp_path: Path) -> None:
    paths = []
    for number in range(100):
        paths.append(tmp_path / f"model-{number}")
        paths[-1].write_text(f"model {number}")
    results = await asyncio.gather(
        *[served.clients[number % 4].publish(path, key=ALICE) for number, path in enumerate(paths)]
    )
    assert all(result.certified for result in results)
    assert len({result.tx for result in results}) == 100
    bob = format_address(BOB.address)
    before = (await served.clients[0].account(bob)).balance
    sent = await asyncio.gather(*[served.clients[number % 4].send(bob, 1, key=ALICE) for number in range(20)])
    top = max(transaction.height or 0 for transaction in sent)
    await served.cluster.level(top)
    for client in served.clients:
        assert (await client.account(bob)).balance == before + 20
        assert (await client.account(format_address(ALICE.address))).nonce == 120


async def test_every_read_answers_or_refuses_in_our_words(served: Served) -> None:
    client = served.clients[0]
    await client.send(format_address(BOB.address), 1, key=ALICE)
    head = await client.head()
    block = await client.block(head.height)
    assert (block.hash, block.certified) == (head.hash, True)
    assert (await client.transaction(block.receipts[0].tx)).status == "certified"
    assert len((await client.validators()).validators) == 4
    assert len(await client.peers()) == 3
    assert (await client.artefacts()).artefacts == ()
    with pytest.raises(NotFound):
        await client.block(10_000)
    with pytest.raises(NotFound):
        await client.transaction("00" * 32)
    with pytest.raises(Rejection):
        await client.send(format_address(BOB.address), 10**15, key=ALICE)
    for route in ROUTES:
        if route.method == "GET" and "{" not in route.path and route.answer is not None:
            await client.transport.call(route.answer, "GET", route.path)


async def test_events_tell_of_certified_blocks(served: Served) -> None:
    client = served.clients[1]
    async with asyncio.timeout(30):
        stream = client.events(last_event_id=0)
        sent = await client.send(format_address(BOB.address), 1, key=ALICE)
        while True:
            event = await anext(stream)
            if event.kind == "certified" and event.data.get("height", 0) >= (sent.height or 0):
                break
        await stream.aclose()  # type: ignore[attr-defined]


async def test_proofs_of_what_is_not_there(served: Served) -> None:
    from mpisa.primitives.state_keys import account_key
    from mpisa.sdk.light import read_bundle
    from mpisa.sdk.trust import choose_trust
    from mpisa.sdk.verify import verify_state_proof

    client = served.clients[2]
    await client.send(format_address(BOB.address), 1, key=ALICE)
    chain, _ = await choose_trust(client, None)
    answer = await client.proof(account_key(b"\x09" * 20))
    assert answer.value is None
    assert verify_state_proof(chain, read_bundle(answer))[-1].found.startswith("absent from")
    with pytest.raises(MpisaError):
        await client.proof("00" * 2_000)
