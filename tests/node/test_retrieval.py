"""How soon bytes come from other nodes: without the DHT, before everything has arrived, before they are durable."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from mpisa.network.exchange import BatchAnswer, BlockTransport
from mpisa.network.ports import PeerAddress
from mpisa.node.node import Node
from mpisa.primitives.car_stream import CarStreamVerifier, FileBytes
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import DiskFull, MpisaError
from tests.node.cluster import running

MIB = 1 << 20
DEADLINE_S = 20.0


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    yield data


def distinct(blocks: int) -> bytes:
    return b"".join(number.to_bytes(8, "big") * (MIB // 8) for number in range(blocks))


async def never(cid: Cid, *, limit: int = 8, timeout: float = 10.0) -> list[object]:
    await asyncio.Event().wait()
    raise AssertionError


def mute_dht(node: Node) -> None:
    """Lookups of this node get no answer from now on."""
    node._running.network.find_providers = never  # type: ignore[method-assign, assignment]


async def test_a_block_comes_without_the_dht(tmp_path: Path) -> None:
    async with running(tmp_path, 2) as cluster:
        result = await cluster.nodes[0].blobs.put_stream(chunks(b"four" * 1024))
        mute_dht(cluster.nodes[1])
        started = asyncio.get_running_loop().time()
        assert await cluster.nodes[1].blobs.block(result.cid) == b"four" * 1024
        assert asyncio.get_running_loop().time() - started < 5, "FIND_TIMEOUT_S is 10"
        retrieved = await cluster.nodes[1].blobs.ensure(result.cid)
        assert retrieved.blocks == 1


async def test_a_block_is_answered_before_it_is_stored_and_stored_soon(tmp_path: Path) -> None:
    async with running(tmp_path, 2) as cluster:
        result = await cluster.nodes[0].blobs.put_stream(chunks(b"four" * 1024))
        store = cluster.nodes[1]._running.blocks
        put, gate = store.put, threading.Event()

        def slow(blocks: object) -> None:
            assert gate.wait(DEADLINE_S)
            put(blocks)  # type: ignore[arg-type]

        store.put = slow  # type: ignore[method-assign, assignment]
        blobs = cluster.nodes[1].blobs
        assert await blobs.block(result.cid) == b"four" * 1024
        assert await blobs.block(result.cid) == b"four" * 1024, "from memory"
        assert blobs.local(result.cid) is None, "peers don't get what isn't durable"
        pinning = asyncio.create_task(blobs.pin(result.cid, recursive=False))
        await asyncio.sleep(0.05)
        assert not pinning.done(), "what is pinned is durable"
        gate.set()
        await pinning
        assert blobs.local(result.cid) == b"four" * 1024


class Reluctant:
    """A BlockTransport that hands over three answers and the rest when it is told to."""

    def __init__(self, transport: BlockTransport) -> None:
        self._transport = transport
        self._left = 3
        self.go_on = asyncio.Event()

    async def get_block(self, provider: PeerAddress, cid: Cid, *, timeout: float) -> bytes:
        self._left -= 1
        if self._left < 0:
            await self.go_on.wait()
        return await self._transport.get_block(provider, cid, timeout=timeout)

    async def get_blocks(self, provider: PeerAddress, cids: Sequence[Cid], *, timeout: float) -> BatchAnswer:
        await self.go_on.wait()
        return await self._transport.get_blocks(provider, cids, timeout=timeout)


async def test_the_first_bytes_come_while_the_disk_has_taken_nothing(tmp_path: Path) -> None:
    """No more than the root and two leaves has to be here, and nothing durable, before a reader gets bytes."""
    data = distinct(24)
    async with running(tmp_path, 2) as cluster:
        result = await cluster.nodes[0].blobs.put_stream(chunks(data))
        mute_dht(cluster.nodes[1])
        store = cluster.nodes[1]._running.blocks
        put, gate = store.put, threading.Event()

        def slow(blocks: object) -> None:
            assert gate.wait(DEADLINE_S)
            put(blocks)  # type: ignore[arg-type]

        store.put = slow  # type: ignore[method-assign, assignment]
        exchange = cluster.nodes[1]._running.network.exchange
        transport = exchange._transport = Reluctant(exchange._transport)  # type: ignore[attr-defined]
        verifier, found = CarStreamVerifier(result.cid), bytearray()
        async with asyncio.timeout(DEADLINE_S):
            stream = cluster.nodes[1].blobs.car(result.cid)
            async for piece in stream:
                found += b"".join(event.data for event in verifier.feed(piece) if isinstance(event, FileBytes))
                if found and not gate.is_set():
                    gate.set()
                    transport.go_on.set()
        verifier.finish()
        assert bytes(found) == data
        assert all(store.has(cid) for cid in cluster.nodes[0]._running.blocks.cids()), "durable at the end"


async def test_a_stream_fails_when_its_blocks_can_not_be_kept(tmp_path: Path) -> None:
    async with running(tmp_path, 2) as cluster:
        result = await cluster.nodes[0].blobs.put_stream(chunks(distinct(3)))

        def full(blocks: object) -> None:
            raise DiskFull("no space left")

        cluster.nodes[1]._running.blocks.put = full  # type: ignore[method-assign, assignment]
        with pytest.raises(DiskFull):
            async for _ in cluster.nodes[1].blobs.car(result.cid):
                pass


async def test_what_is_held_in_memory_is_bounded_by_the_window(tmp_path: Path) -> None:
    data = distinct(48)
    async with running(tmp_path, 2) as cluster:
        result = await cluster.nodes[0].blobs.put_stream(chunks(data))
        behind = cluster.nodes[1]._running.retriever._environment.behind
        behind._window = 4 * MIB
        most = 0
        add = behind.add

        async def watched(*arguments: object) -> None:
            nonlocal most
            await add(*arguments)  # type: ignore[arg-type]
            most = max(most, behind.held_bytes)

        behind.add = watched  # type: ignore[method-assign, assignment]
        await cluster.nodes[1].blobs.ensure(result.cid)
        assert 0 < most <= 4 * MIB


async def test_blocks_of_a_retrieval_are_leased_until_it_ends(tmp_path: Path) -> None:
    async with running(tmp_path, 2) as cluster:
        result = await cluster.nodes[0].blobs.put_stream(chunks(distinct(3)))
        store = cluster.nodes[1]._running.blocks
        names: list[str] = []
        lease = store.lease

        def noted(what: str) -> object:
            names.append(what)
            return lease(what)

        store.lease = noted  # type: ignore[method-assign, assignment]
        await cluster.nodes[1].blobs.ensure(result.cid)
        assert names == [f"retrieval of {result.cid}"]
        assert len(store._leases) == 0


async def test_many_who_want_one_block_fetch_it_once(tmp_path: Path) -> None:
    async with running(tmp_path, 2) as cluster:
        result = await cluster.nodes[0].blobs.put_stream(chunks(b"one"))
        blobs = cluster.nodes[1].blobs
        assert await asyncio.gather(*(blobs.block(result.cid) for _ in range(50))) == [b"one"] * 50
        assert cluster.nodes[1]._running.retrieval.blocks_fetched == 1


async def test_a_block_that_nobody_has_says_who_was_asked(tmp_path: Path) -> None:
    async with running(tmp_path, 2) as cluster:
        with pytest.raises(MpisaError, match="isn't at"):
            await cluster.nodes[1].blobs.block(Cid.of(b"nowhere"))
