"""Late blocks are asked for again elsewhere: a provider that stalls delays nobody for long."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from mpisa.network.exchange import BatchAnswer, BlockExchange
from mpisa.network.ports import NetworkStats, PeerAddress, PeerId
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import NotFound, Unreachable
from tests.network.support import limits

PEERS = [PeerAddress(PeerId(name), (), f"https://{name}:1") for name in ("ann", "bob", "eve")]
ANN, BOB, EVE = PEERS
STEP_SECONDS = 0.02


class Shelves:
    """Peers that hold every block and take STEP_SECONDS an answer, one at a time; some stop answering."""

    def __init__(self, blocks: list[bytes]) -> None:
        self.blocks = {Cid.of(block): block for block in blocks}
        self.turns = {peer.peer_id: asyncio.Lock() for peer in PEERS}
        self.answered = dict.fromkeys(self.turns, 0)
        self.stalls_after: dict[PeerId, int] = {}
        self.given_up: list[PeerId] = []
        self.in_flight = 0

    async def get_block(self, provider, cid, *, timeout):
        peer = provider.peer_id
        self.in_flight += 1
        try:
            async with self.turns[peer]:
                if self.answered[peer] >= self.stalls_after.get(peer, 1 << 30):
                    await asyncio.Event().wait()
                await asyncio.sleep(STEP_SECONDS)
            self.answered[peer] += 1
            return self.blocks[cid]
        except asyncio.CancelledError:
            self.given_up.append(peer)
            raise
        finally:
            self.in_flight -= 1

    async def get_blocks(self, provider, cids, *, timeout):
        return BatchAnswer(tuple([await self.get_block(provider, cid, timeout=timeout) for cid in cids]))


class Feed:
    """A ProviderFeed that a test adds to."""

    def __init__(self, *peers: PeerAddress) -> None:
        self.peers = list(peers)
        self.named: set[PeerId] = set()
        self.ended = False
        self._news = asyncio.Event()

    def add(self, *peers: PeerAddress) -> None:
        self.peers += peers
        self._news.set()

    def end(self) -> None:
        self.ended = True
        self._news.set()

    def known(self):
        return self.peers

    def is_named(self, peer):
        return peer in self.named

    async def more(self, seen):
        while not any(peer.peer_id not in seen for peer in self.peers):
            if self.ended:
                return False
            self._news.clear()
            await self._news.wait()
        return True


@pytest.fixture
def executor():
    with ThreadPoolExecutor(1) as executor:
        yield executor


def distinct(count: int) -> list[bytes]:
    return [index.to_bytes(4, "big") * 16_384 for index in range(count)]


async def test_a_provider_that_stalls_midway_costs_less_than_twice_the_time(executor):
    """Of three providers one stops answering: the other two take over what it has begun, long before its timeout."""
    shelves, stats = Shelves(distinct(96)), NetworkStats()
    exchange = BlockExchange(shelves, executor, limits(), stats)
    loop = asyncio.get_running_loop()
    shelves.stalls_after[EVE.peer_id] = 8
    started = loop.time()
    async with asyncio.timeout(20):
        got = {cid: data async for cid, data in exchange.fetch_many(shelves.blocks, PEERS)}
    seconds = loop.time() - started
    assert got == shelves.blocks
    ideal = (96 - 8 * 3) / 2 * STEP_SECONDS + 8 * STEP_SECONDS
    assert seconds < 2 * ideal + 0.5, f"{seconds:.2f} s, at best {ideal:.2f}"
    assert shelves.in_flight == 0, "nothing is asked for any more"
    assert EVE.peer_id in shelves.given_up
    assert stats.blocks_stolen >= 1
    assert stats.blocks_fetched == 96, "each block is counted once"


async def test_who_has_stalled_is_asked_last_and_can_come_back(executor):
    shelves = Shelves(distinct(3))
    exchange = BlockExchange(shelves, executor, limits(), NetworkStats())
    first, second, third = shelves.blocks
    shelves.stalls_after[ANN.peer_id] = 0
    assert await exchange.fetch(first, [ANN, BOB], timeout=20) == shelves.blocks[first]
    assert shelves.given_up == [ANN.peer_id]
    shelves.stalls_after.clear()
    assert await exchange.fetch(second, [ANN, BOB]) == shelves.blocks[second]
    assert shelves.answered == {"ann": 0, "bob": 2, "eve": 0}
    assert await exchange.fetch(third, [ANN]) == shelves.blocks[third]
    assert exchange.standing(ANN.peer_id).faults == 0


async def test_all_who_have_a_dag_take_part(executor):
    """One that has proved fast doesn't keep the work from others that nobody has tried yet."""
    shelves = Shelves([index.to_bytes(4, "big") * 65_536 for index in range(48)])
    exchange = BlockExchange(shelves, executor, limits(), NetworkStats())
    first, *others = shelves.blocks
    assert await exchange.fetch(first, [ANN]) == shelves.blocks[first]
    got = {cid: data async for cid, data in exchange.fetch_many(others, [ANN, BOB])}
    assert len(got) == 47
    assert min(shelves.answered["ann"], shelves.answered["bob"]) >= 12, shelves.answered


async def test_giving_up_a_call_gives_up_what_it_asked_for(executor):
    shelves = Shelves(distinct(20))
    exchange = BlockExchange(shelves, executor, limits(), NetworkStats())
    blocks = exchange.fetch_many(shelves.blocks, PEERS)
    await anext(blocks)
    await blocks.aclose()
    assert shelves.in_flight == 0
    assert exchange.standing(ANN.peer_id).pending == 0


async def test_a_provider_that_turns_up_later_is_asked(executor):
    shelves, feed = Shelves(distinct(2)), Feed()
    exchange = BlockExchange(shelves, executor, limits(), NetworkStats())
    fetching = asyncio.create_task(exchange.fetch(next(iter(shelves.blocks)), feed))
    await asyncio.sleep(0)
    feed.add(BOB)
    assert await fetching == next(iter(shelves.blocks.values()))
    empty = Feed()
    empty.end()
    with pytest.raises(NotFound, match="no provider to ask"):
        await exchange.fetch(Cid.of(b"nobody"), empty)


async def test_who_was_named_is_asked_before_who_is_merely_connected(executor):
    shelves, feed = Shelves(distinct(1)), Feed(ANN, BOB, EVE)
    feed.named.add(EVE.peer_id)
    exchange = BlockExchange(shelves, executor, limits(), NetworkStats())
    await exchange.fetch(next(iter(shelves.blocks)), feed)
    assert shelves.answered == {"ann": 0, "bob": 0, "eve": 1}


async def test_few_are_asked_for_before_the_first_has_come(executor):
    """One answer of many in flight comes no sooner than all of them; so the first are asked for alone."""
    shelves = Shelves(distinct(20))
    exchange = BlockExchange(shelves, executor, limits(), NetworkStats())
    blocks = exchange.fetch_many(shelves.blocks, PEERS, concurrency=8)
    await anext(blocks)
    assert sum(shelves.answered.values()) + shelves.in_flight <= 3
    assert len([data async for _, data in blocks]) == 19


async def test_a_broken_batch_is_asked_for_elsewhere_block_by_block(executor):
    shelves = Shelves(distinct(8))
    exchange = BlockExchange(shelves, executor, limits(), NetworkStats())
    exchange._mean_size = 1.0
    get_blocks = shelves.get_blocks

    async def broken(provider, cids, *, timeout):
        if provider is ANN:
            raise Unreachable("ann is down")
        return await get_blocks(provider, cids, timeout=timeout)

    shelves.get_blocks = broken
    got = {cid: data async for cid, data in exchange.fetch_many(shelves.blocks, [ANN, BOB])}
    assert got == shelves.blocks
