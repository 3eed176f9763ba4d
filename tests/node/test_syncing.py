"""Catching up by ranges of certified blocks: from honest peers, past liars, through breaks, never to anything else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from consensus.dag.vertex import decode_vertex, encode_vertex
from consensus.order.ranges import RangeAnswer, decode_answer, encode_answer
from consensus.parameters import Parameters
from mpisa.network.ports import PeerId
from mpisa.node.chain_store import ChainStore
from mpisa.node.execution import Diverged, Execution
from mpisa.node.node import Node
from mpisa.node.serving import BLOCKS, RangeRequest
from mpisa.node.sources import REQUEST_TIMEOUT_S
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.genesis_state import genesis_header, genesis_state
from mpisa.primitives.identifiers import Height
from tests.node.cluster import Cluster, key_of, running, until
from tests.node.syncer import Syncer, syncer

PARAMETERS = Parameters()
ALICE = key_of("account 0")


async def grow(cluster: Cluster, count: int, first: int = 0) -> int:
    """So many transactions, one after the other; the height of the last."""
    height = 0
    for nonce in range(first, first + count):
        status = await cluster.nodes[0].submit(cluster.transfer(ALICE, nonce), "certified")
        assert status.height is not None
        height = status.height
    await cluster.level(height)
    return height


def assert_same(one: Syncer, node: Node, last: int) -> None:
    """Every block up to this height is the same at both, bytes and certificate."""
    for height in range(1, last + 1):
        assert one.store.header(height) == node.chain.header(height)
        assert one.store.transactions(height) == node.chain.block(height).transactions
        assert one.store.receipts(height) == node.chain.block(height).receipts
        assert one.store.certificate(height) is not None


def tamper(node: Node, change: Callable[[RangeAnswer], RangeAnswer]) -> None:
    """From now on the node's answers are changed on their way out."""
    links = node.network.authorities
    handler: Callable[[PeerId, bytes], Awaitable[bytes]] = links._handlers[BLOCKS]  # type: ignore[attr-defined]

    async def lie(peer: PeerId, body: bytes) -> bytes:
        answer = decode_answer(await handler(peer, body), 1_024, PARAMETERS)
        return encode_answer(change(answer) if answer.blocks else answer)

    links.set_request_handler(BLOCKS, lie)


def wrong_vertex(answer: RangeAnswer) -> RangeAnswer:
    """The first block's last vertex has one byte changed."""
    first, *rest = answer.blocks
    raw = bytearray(first.vertices[-1])
    raw[20] ^= 1
    return replace(answer, blocks=(replace(first, vertices=(*first.vertices[:-1], bytes(raw))), *rest))


def unsigned_vertex(answer: RangeAnswer) -> RangeAnswer:
    """The first block's last vertex, the same but for its signature: the id doesn't bind that."""
    first, *rest = answer.blocks
    vertex = decode_vertex(first.vertices[-1], PARAMETERS)
    raw = encode_vertex(replace(vertex, signature=bytes(len(vertex.signature))))
    return replace(answer, blocks=(replace(first, vertices=(*first.vertices[:-1], raw)), *rest))


async def test_a_new_node_gets_the_whole_chain(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        height = await grow(cluster, 12)
        async with syncer(cluster) as one:
            assert await one.syncing.gap() >= height
            await one.syncing.catch_up()
            last = one.store.height
            assert last > height - 9, "level means nearly level"
            assert one.store.certified_height == last
            assert one.heard.certified == list(range(1, last + 1))
            assert [outcome.block.header.height for outcome in one.heard.outcomes] == list(range(1, last + 1))
            assert one.syncing.progress.describe() is None
            assert_same(one, cluster.nodes[2], last)


async def test_the_cursor_is_the_one_that_an_ordinary_node_stores(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        await grow(cluster, 8)
        await cluster.stop(2)
        genesis = cluster.genesis
        ordinary = ChainStore.open(
            cluster.home(2) / "ledger", genesis_header(genesis), genesis_state(genesis), genesis.hash
        )
        try:
            async with syncer(cluster) as one:
                await one.ranging.poll()
                async for batch in one.ranging.batches(one.find(), ordinary.height):
                    await one.applying.keep(batch.blocks)
                    await one.applying.execute(batch.blocks)
                assert one.store.height == ordinary.height > 5
                assert one.store.cursor == ordinary.cursor
                assert (
                    one.find().position.window.root(one.find().position.checkpoint)
                    == ordinary.header(ordinary.height).window_root
                )
        finally:
            ordinary.close()


async def test_a_full_node_follows_as_soon_as_blocks_are_certified(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        await grow(cluster, 3)
        async with syncer(cluster) as one:
            following = asyncio.create_task(one.syncing.follow())
            try:
                for nonce in range(3, 8):
                    status = await cluster.nodes[nonce % 4].submit(cluster.transfer(ALICE, nonce), "certified")
                    assert status.height is not None
                    await until(lambda height=status.height: one.store.certified_height >= height, "followed")  # type: ignore[misc]
                assert_same(one, cluster.nodes[0], one.store.height)
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)


async def test_a_peer_that_withholds_the_next_block_costs_a_full_node_a_moment(tmp_path: Path) -> None:
    """It takes the question and never answers; another is asked long before a request is given up otherwise."""
    async with running(tmp_path) as cluster:
        height = await grow(cluster, 3)
        asked = asyncio.Event()

        async def withhold(peer: PeerId, body: bytes) -> bytes:
            asked.set()
            await asyncio.Event().wait()
            return b""

        async with syncer(cluster) as one:
            await until(lambda: len(one.sources.usable()) == 4, "peers")
            first = one.sources.usable()[1]  # whose turn it is
            (liar,) = [node for node in cluster.nodes.values() if node.peer_id == first]
            liar.network.authorities.set_request_handler(BLOCKS, withhold)
            following = asyncio.create_task(one.syncing.follow())
            try:
                await asyncio.wait_for(asked.wait(), 5)
                async with asyncio.timeout(REQUEST_TIMEOUT_S / 2):
                    await until(lambda: one.store.certified_height >= height, "followed")
                assert first not in one.sources.usable()
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)


async def withhold(peer: PeerId, body: bytes) -> bytes:
    """Takes the question and never answers."""
    await asyncio.Event().wait()
    return b""


def withhold_blocks(node: Node) -> list[RangeRequest]:
    """From now on the node says how far it is, and hands out no block; what it was asked for, as it comes."""
    links = node.network.authorities
    handler: Callable[[PeerId, bytes], Awaitable[bytes]] = links._handlers[BLOCKS]  # type: ignore[attr-defined]
    asked: list[RangeRequest] = []

    async def answer(peer: PeerId, body: bytes) -> bytes:
        request = RangeRequest.decode(body)
        if not request.blocks:
            return await handler(peer, body)
        asked.append(request)
        return await withhold(peer, body)

    links.set_request_handler(BLOCKS, answer)
    return asked


@pytest.mark.parametrize("liars", [1, 3])
async def test_peers_that_withhold_spans_cost_a_moment_each_and_are_asked_last_then(tmp_path: Path, liars: int) -> None:
    """One of four, and all but one: a request that is given up takes ten seconds."""
    async with running(tmp_path) as cluster:
        height = await grow(cluster, 16)
        asked = [withhold_blocks(cluster.nodes[number]) for number in range(liars)]
        async with syncer(cluster, span_blocks=1) as one:
            await until(lambda: len(one.sources.usable()) == 4, "peers")
            async with asyncio.timeout(REQUEST_TIMEOUT_S * liars):
                await one.syncing.catch_up()
            assert one.store.height > height - 9
            assert_same(one, cluster.nodes[3], one.store.height)
            assert all(1 <= len(requests) <= 3 for requests in asked), "those asked ahead, before it was known"
            now = asyncio.get_running_loop().time()
            patience = one.sources.patience
            names = [PeerId(cluster.nodes[number].peer_id) for number in range(4)]
            assert [patience.is_demoted(name, now) for name in names] == [number < liars for number in range(4)]
            assert one.ranging.in_flight == 0
            assert one.sources.liars_dropped == 0, "it may be merely slow"


async def test_what_a_slow_peer_delivers_after_another_was_asked_too_is_taken(tmp_path: Path) -> None:
    """The first one's answer comes late, the second one's never: nobody has failed."""
    async with running(tmp_path) as cluster:
        height = await grow(cluster, 3)
        asked: list[PeerId] = []
        helped = asyncio.Event()

        def slow_down(node: Node) -> None:
            links = node.network.authorities
            handler: Callable[[PeerId, bytes], Awaitable[bytes]] = links._handlers[BLOCKS]  # type: ignore[attr-defined]

            async def answer(peer: PeerId, body: bytes) -> bytes:
                if RangeRequest.decode(body).blocks:
                    asked.append(PeerId(node.peer_id))
                    if len(asked) > 1:
                        helped.set()
                        return await withhold(peer, body)
                    await helped.wait()
                return await handler(peer, body)

            links.set_request_handler(BLOCKS, answer)

        for node in cluster.nodes.values():
            slow_down(node)
        async with syncer(cluster) as one:
            await until(lambda: len(one.sources.usable()) == 4, "peers")
            await one.ranging.poll()
            async with asyncio.timeout(REQUEST_TIMEOUT_S / 2):
                batches = [batch async for batch in one.ranging.batches(one.find(), height)]
            assert batches[-1].after.header.height == height
            now = asyncio.get_running_loop().time()
            assert len(asked) == len(set(asked)) == 2
            assert [one.sources.patience.is_demoted(peer, now) for peer in asked] == [False, False]
            assert one.ranging.in_flight == 0


async def test_a_peer_that_does_not_say_how_far_it_is_holds_up_nobody_who_does(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        height = await grow(cluster, 3)
        cluster.nodes[2].network.authorities.set_request_handler(BLOCKS, withhold)
        async with syncer(cluster) as one:
            await until(lambda: len(one.sources.usable()) == 4, "peers")
            async with asyncio.timeout(REQUEST_TIMEOUT_S / 2):
                assert await one.syncing.gap() >= height
            async with asyncio.timeout(1.0):
                assert await one.syncing.gap() >= height, "it is waited for once"
            assert one.ranging.in_flight == 1


@pytest.mark.parametrize(
    "lie",
    [
        wrong_vertex,
        unsigned_vertex,
        lambda answer: replace(answer, blocks=answer.blocks[1:]),
        lambda answer: replace(answer, blocks=answer.blocks[::-1]),
        lambda answer: replace(answer, blocks=(*answer.blocks[:-1], replace(answer.blocks[-1], certificate=b""))),
        lambda answer: replace(answer, blocks=(replace(answer.blocks[0], vertices=()), *answer.blocks[1:])),
    ],
    ids=["vertex", "signature", "missing block", "reordered", "no certificate", "no vertices"],
)
async def test_a_liar_is_named_and_dropped_and_the_others_deliver(
    tmp_path: Path, lie: Callable[[RangeAnswer], RangeAnswer]
) -> None:
    async with running(tmp_path) as cluster:
        height = await grow(cluster, 12)
        liar = cluster.nodes[1]
        tamper(liar, lie)
        async with syncer(cluster, span_blocks=2) as one:
            await one.syncing.catch_up()
            assert one.store.height > height - 9
            assert one.sources.liars_dropped == 1
            assert PeerId(liar.peer_id) not in one.sources.usable()
            assert_same(one, cluster.nodes[0], one.store.height)


async def test_garbage_for_an_answer_costs_its_sender_the_next_question(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        height = await grow(cluster, 12)

        async def garbage(peer: PeerId, body: bytes) -> bytes:
            return b"\xc1" * 100

        cluster.nodes[3].network.authorities.set_request_handler(BLOCKS, garbage)
        async with syncer(cluster) as one:
            await one.syncing.catch_up()
            assert one.store.height > height - 9
            assert one.sources.liars_dropped == 1


async def test_one_liar_can_not_pretend_that_everybody_is_further(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        height = await grow(cluster, 10)
        links = cluster.nodes[1].network.authorities
        handler = links._handlers[BLOCKS]  # type: ignore[attr-defined]

        async def boast(peer: PeerId, body: bytes) -> bytes:
            answer = decode_answer(await handler(peer, body), 1_024, PARAMETERS)
            return encode_answer(replace(answer, certified=Height(1 << 40)))

        links.set_request_handler(BLOCKS, boast)
        async with syncer(cluster) as one:
            await one.syncing.catch_up()
            assert one.store.height > height - 9
            assert await one.syncing.gap() < 9


async def test_a_break_and_a_restart_go_on_where_it_was(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        height = await grow(cluster, 16)
        async with syncer(cluster, span_blocks=1) as one:
            work = asyncio.create_task(one.syncing.catch_up())
            await until(lambda: one.store.height >= 3, "some blocks")
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            reached = one.store.height
        async with syncer(cluster) as one:
            assert one.store.height >= reached >= 3
            await one.syncing.catch_up()
            assert one.store.height > height - 9
            assert_same(one, cluster.nodes[0], one.store.height)


async def test_peers_that_vanish_are_waited_for(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        height = await grow(cluster, 12)
        async with syncer(cluster, span_blocks=1) as one:
            for node in cluster.nodes.values():
                cluster.hub.cut(one.network.peer_id, PeerId(node.peer_id))
            assert await one.syncing.gap() == 0
            for node in cluster.nodes.values():
                cluster.hub.heal(one.network.peer_id, PeerId(node.peer_id))
            await one.syncing.catch_up()
            assert one.store.height > height - 9


async def test_a_certified_block_that_comes_out_otherwise_halts_with_both_headers_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as cluster:
        await grow(cluster, 12)
        async with syncer(cluster) as one:
            honest = Execution._header

            def other(self: Execution, *arguments: object) -> object:
                header = honest(self, *arguments)  # type: ignore[arg-type]
                return replace(header, receipts_root=bytes(32)) if header.height == 5 else header

            with monkeypatch.context() as patched:
                patched.setattr(Execution, "_header", other)
                with pytest.raises(Diverged, match="they differ in receipts_root"):
                    await one.syncing.catch_up()
            assert one.store.height == 4
            (file,) = one.home.glob("diverged-*.json")
            assert file.name == "diverged-5.json"
            assert one.heard.reasons == [one.heard.reasons[0]]
            assert cluster.nodes[0].chain.block(5).hash.hex() in one.heard.reasons[0]


async def test_what_a_peer_asks_for_is_bounded(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        await grow(cluster, 4)
        node = cluster.nodes[0]
        async with syncer(cluster) as one:
            for body in (b"", RangeRequest(1, 0, 4, 0).encode()[:-1], RangeRequest(1, 0, 4_096, 0).encode()):
                with pytest.raises(Rejection) as caught:
                    await one.sources.ask(PeerId(node.peer_id), BLOCKS, body)
                assert caught.value.reason in (RejectionReason.MALFORMED, RejectionReason.OUT_OF_RANGE)
            raw = await one.sources.ask(PeerId(node.peer_id), BLOCKS, RangeRequest(1, 0, 2, 0).encode())
            assert [len(raw) > 0, len(decode_answer(raw, 2, PARAMETERS).blocks)] == [True, 2]
