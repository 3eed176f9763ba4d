"""The exchange's decisions, over a transport made of dicts: who is asked, who is believed, what is raised."""

import asyncio
import gc
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from mpisa.network.exchange import LIAR_SECONDS, BatchAnswer, BlockExchange
from mpisa.network.ports import NetworkStats, PeerAddress, PeerId
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import IntegrityError, NotFound, TimedOut, Unreachable
from tests.network.support import limits

PEERS = [PeerAddress(PeerId(name), (), f"https://{name}:1") for name in ("ann", "bob", "eve")]
ANN, BOB, EVE = PEERS


class Shelves:
    """A BlockTransport: blocks by peer; an exception in a block's place is raised."""

    def __init__(self) -> None:
        self.held: dict[PeerId, dict[Cid, bytes | Exception]] = {peer.peer_id: {} for peer in PEERS}
        self.asked: list[tuple[PeerId, Cid]] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.down: set[PeerId] = set()
        self.stall: asyncio.Event | None = None
        self.batch_cut = 1000

    async def get_block(self, provider, cid, *, timeout):
        self.asked.append((provider.peer_id, cid))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if self.stall is not None:
                await self.stall.wait()
            await asyncio.sleep(0)
            return self._take(provider, cid)
        finally:
            self.in_flight -= 1

    async def get_blocks(self, provider, cids, *, timeout):
        blocks = []
        for cid in cids[: self.batch_cut]:
            self.asked.append((provider.peer_id, cid))
            try:
                blocks.append(self._take(provider, cid))
            except NotFound:
                blocks.append(None)
        return BatchAnswer(tuple(blocks))

    def _take(self, provider, cid):
        if provider.peer_id in self.down:
            raise Unreachable(f"{provider.peer_id} is down")
        found = self.held[provider.peer_id].get(cid)
        if isinstance(found, Exception):
            raise found
        if found is None:
            raise NotFound(f"block {cid} isn't at {provider.peer_id}")
        return found


@pytest.fixture
def shelves():
    return Shelves()


@pytest.fixture
def stats():
    return NetworkStats()


@pytest.fixture
def executor():
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest.fixture
def exchange(shelves, stats, executor):
    return BlockExchange(shelves, executor, limits(), stats)


def put(shelves, data: bytes, *peers: PeerAddress) -> Cid:
    cid = Cid.of(data)
    for peer in peers:
        shelves.held[peer.peer_id][cid] = data
    return cid


async def test_a_block_comes_from_whoever_has_it(shelves, stats, exchange):
    cid = put(shelves, b"model" * 10_000, EVE)
    assert await exchange.fetch(cid, PEERS) == b"model" * 10_000
    assert (stats.blocks_fetched, stats.block_bytes_fetched) == (1, 50_000)


async def test_a_block_is_let_go_without_the_collector(shelves, exchange, executor):
    """A gigabyte fetched past providers that lack it must not stay in memory until the collector comes by."""
    data = b"model" * 10_000
    cid = put(shelves, data, EVE)
    gc.disable()
    try:
        before = sys.getrefcount(data)
        assert await exchange.fetch(cid, PEERS) == data
        assert [peer for peer, _ in shelves.asked] == ["ann", "bob", "eve"]
        executor.submit(int).result()  # its thread drops a job only after the result is out
        assert sys.getrefcount(data) == before
    finally:
        gc.enable()


async def test_a_liar_is_found_out_and_asked_no_more(shelves, stats, exchange):
    good, other = put(shelves, b"good", BOB), put(shelves, b"other", BOB)
    shelves.held[ANN.peer_id] |= {good: b"evil", other: b"evil too"}
    assert await exchange.fetch(good, [ANN, BOB]) == b"good"
    assert await exchange.fetch(other, [ANN, BOB]) == b"other"
    assert [peer for peer, _ in shelves.asked] == ["ann", "bob", "bob"]
    assert (stats.blocks_mismatched, stats.providers_demoted) == (1, 1)
    assert exchange.standing(ANN.peer_id).liar_until > asyncio.get_running_loop().time() + LIAR_SECONDS - 60
    with pytest.raises(NotFound, match="no provider to ask"):
        await exchange.fetch(put(shelves, b"true", ANN), [ANN])


async def test_when_all_lie_the_error_says_so(shelves, exchange):
    cid = put(shelves, b"good")
    shelves.held[ANN.peer_id][cid] = b"evil"
    with pytest.raises(IntegrityError, match="what ann sent hashes to something else"):
        await exchange.fetch(cid, [ANN, BOB])


async def test_what_nobody_has_is_not_found(shelves, exchange):
    cid = put(shelves, b"nowhere")
    with pytest.raises(NotFound, match=f"block {cid} isn't at"):
        await exchange.fetch(cid, PEERS)
    with pytest.raises(NotFound, match="no provider to ask"):
        await exchange.fetch(cid, [])


async def test_a_broken_connection_gets_a_second_chance(shelves, exchange):
    cid = put(shelves, b"block", ANN)
    shelves.down.add(ANN.peer_id)
    with pytest.raises(Unreachable, match="ann is down"):
        await exchange.fetch(cid, [ANN])
    assert len(shelves.asked) == 2


async def test_a_peer_that_keeps_failing_is_demoted(shelves, stats, exchange):
    shelves.down.add(ANN.peer_id)
    for index in range(3):
        cid = put(shelves, b"block %d" % index, BOB)
        assert await exchange.fetch(cid, [ANN, BOB]) == b"block %d" % index
    assert exchange.standing(ANN.peer_id).faults >= 1
    assert shelves.asked[-1][0] == BOB.peer_id
    shelves.asked.clear()
    await exchange.fetch(put(shelves, b"last", BOB), [ANN, BOB])
    assert [peer for peer, _ in shelves.asked] == ["bob"]


async def test_a_stalling_peer_times_out(shelves, exchange):
    shelves.stall = asyncio.Event()
    with pytest.raises(TimedOut, match=r"didn't arrive within 0.01 s"):
        await exchange.fetch(put(shelves, b"block", ANN), [ANN], timeout=0.01)


async def test_many_blocks_come_once_each_from_several_peers(shelves, exchange):
    cids = [put(shelves, b"%d" % index * 50_000, ANN if index % 2 else BOB) for index in range(60)]
    got = {cid: data async for cid, data in exchange.fetch_many([*cids, *cids], PEERS)}
    assert got == {cid: b"%d" % index * 50_000 for index, cid in enumerate(cids)}


async def test_small_blocks_travel_in_batches(shelves, exchange):
    cids = [put(shelves, b"%d" % index, ANN) for index in range(500)]
    batches: list[int] = []
    get_blocks = shelves.get_blocks

    async def counted(provider, wanted, *, timeout):
        batches.append(len(wanted))
        return await get_blocks(provider, wanted, timeout=timeout)

    shelves.get_blocks = counted
    got = [cid async for cid, _ in exchange.fetch_many(cids, [ANN])]
    assert sorted(map(str, got)) == sorted(map(str, cids))
    assert max(batches) == 64, "the bound of a batch"


async def test_what_a_batch_lacks_is_asked_elsewhere(shelves, exchange):
    exchange._mean_size = 1.0
    shelves.batch_cut = 10
    cids = [put(shelves, b"%d" % index, BOB, *([ANN] if index % 3 else [])) for index in range(100)]
    shelves.held[ANN.peer_id][cids[1]] = b"a lie"
    got = {cid: data async for cid, data in exchange.fetch_many(cids, [ANN, BOB])}
    assert got == {cid: b"%d" % index for index, cid in enumerate(cids)}


async def test_no_more_is_in_flight_than_was_asked_for(shelves, exchange):
    cids = [put(shelves, bytes([index]) * 100_000, ANN) for index in range(40)]
    drawn = 0

    def lazily():
        nonlocal drawn
        for cid in cids:
            drawn += 1
            yield cid

    blocks = exchange.fetch_many(lazily(), [ANN], concurrency=4)
    await anext(blocks)
    assert drawn <= 9, "the consumer is slow, so no more is read than is in flight and waiting"
    assert [data async for _, data in blocks] != []
    assert shelves.most_in_flight <= 4


async def test_the_first_block_that_nobody_has_ends_it(shelves, exchange):
    cids = [put(shelves, b"here" * 100_000, ANN), put(shelves, b"nowhere" * 100_000)]
    with pytest.raises(NotFound):
        async for _ in exchange.fetch_many(cids, [ANN]):
            pass


async def test_standings_are_bounded(exchange):
    for index in range(1100):
        exchange.standing(PeerId(f"peer {index}"))
    assert len(exchange._standings) == 1024
