"""Joining from a snapshot: a new node where nobody keeps the old blocks, past liars, over breaks, along epochs."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from consensus.order.ranges import MAX_ANSWER_BLOCKS, decode_answer, decode_outline, encode_answer, encode_outline
from consensus.parameters import Parameters
from mpisa.config import HistoryConfig
from mpisa.network.ports import PeerId
from mpisa.node import snapshots
from mpisa.node.chain_store import REPLACED
from mpisa.node.node import Node
from mpisa.node.serving import BLOCKS
from mpisa.node.snapshots import SNAPSHOTS, STATE, Offer, decode_chunk, decode_offers, encode_chunk, encode_offers
from mpisa.node.sources import REQUEST_TIMEOUT_S
from mpisa.primitives import merkle
from mpisa.primitives.state_keys import account_key
from tests.node.cluster import Cluster, add_follower, key_of, running, until

ALICE = key_of("account 0")
FOLLOWER = 4
LITTLE = HistoryConfig(blocks=10, snapshot_blocks=16)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a small state comes in several."""
    monkeypatch.setattr(snapshots, "CHUNK_BYTES", 300)


def keep_little(cluster: Cluster) -> None:
    """From now on the nodes offer a snapshot each 16 heights, and keep ten blocks beside what it needs."""
    for node in cluster.nodes.values():
        node._running.providing.snapshots._history = LITTLE
        node._running.behind.pruning._history = LITTLE


async def grow(cluster: Cluster, count: int, first: int = 0) -> int:
    height = 0
    for nonce in range(first, first + count):
        status = await cluster.nodes[0].submit(cluster.transfer(ALICE, nonce), "certified")
        height = status.height or 0
    await cluster.level(height)
    return height


async def old_chain(cluster: Cluster, count: int = 80) -> int:
    """A chain whose first blocks nobody keeps any more; its height."""
    keep_little(cluster)
    height = await grow(cluster, count)
    for node in cluster.nodes.values():
        await until(lambda node=node: len(node._running.store.pinned_heights) == 2, "snapshots")  # type: ignore[misc]
        await node._running.behind.pruning.prune()
        assert node.status().kept_from > 1
    return height


def joined(node: Node) -> bool:
    return node._running.behind.joining.height > 0 and node._running.behind.joining.done == 1.0


def tamper(node: Node, kind: str, change: Callable[[bytes], bytes]) -> None:
    links = node.network.authorities
    handler: Callable[[PeerId, bytes], Awaitable[bytes]] = links._handlers[kind]  # type: ignore[attr-defined]

    async def lie(peer: PeerId, body: bytes) -> bytes:
        return change(await handler(peer, body))

    links.set_request_handler(kind, lie)


def wrong_value(raw: bytes) -> bytes:
    chunk = decode_chunk(raw)
    return encode_chunk(replace(chunk, entries=((chunk.entries[0][0], b"mine"), *chunk.entries[1:])))


def left_out(raw: bytes) -> bytes:
    chunk = decode_chunk(raw)
    return encode_chunk(replace(chunk, entries=chunk.entries[1:]))


async def assert_whole(cluster: Cluster, number: int) -> None:
    """The node has the same state as the others, proves it, and goes on."""
    node = cluster.nodes[number]
    status = await cluster.nodes[1].submit(cluster.transfer(key_of("account 1"), 0), "certified")
    assert status.height is not None
    await cluster.level(status.height)
    address = ALICE.public_key.address
    assert node.chain.account(address).balance == cluster.nodes[0].chain.account(address).balance
    proof = node.chain.prove(account_key(address))
    assert proof.value is not None
    merkle.verify_membership(proof.header.state_root, account_key(address), proof.value, proof.proof)


async def test_a_new_node_joins_where_nobody_keeps_the_first_blocks(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        height = await old_chain(cluster)
        add_follower(cluster, FOLLOWER)
        await cluster.start(FOLLOWER)
        await cluster.ready(FOLLOWER)
        node = cluster.nodes[FOLLOWER]
        assert joined(node)
        assert node._running.behind.joining.height % 16 == 0
        assert node.status().kept_from == node._running.behind.joining.height + 1 > 1
        assert node.chain.head().height >= height
        assert not (cluster.home(FOLLOWER) / "ledger.joining").exists()
        await assert_whole(cluster, FOLLOWER)
        await cluster.stop(FOLLOWER)
        await cluster.start(FOLLOWER)
        await cluster.ready(FOLLOWER)
        await grow(cluster, 2, first=80)


@pytest.mark.parametrize("lie", [wrong_value, left_out, lambda raw: raw[:-1], lambda _: b"\xc1" * 40])
async def test_a_liar_about_the_state_is_dropped_and_another_asked(
    tmp_path: Path, lie: Callable[[bytes], bytes]
) -> None:
    async with running(tmp_path) as cluster:
        await old_chain(cluster)
        tamper(cluster.nodes[2], STATE, lie)
        add_follower(cluster, FOLLOWER)
        await cluster.start(FOLLOWER)
        await cluster.ready(FOLLOWER)
        assert joined(cluster.nodes[FOLLOWER])
        assert cluster.nodes[FOLLOWER].metrics()["sync_liars_dropped_total"] == 1
        await assert_whole(cluster, FOLLOWER)


async def test_peers_that_withhold_the_state_cost_a_moment_each(tmp_path: Path) -> None:
    """All but one: each chunk that is asked of them would take ten seconds."""
    async with running(tmp_path) as cluster:
        await old_chain(cluster)
        asked: list[PeerId] = []

        async def withhold(peer: PeerId, body: bytes) -> bytes:
            asked.append(peer)
            await asyncio.Event().wait()
            return b""

        for number in range(3):
            cluster.nodes[number].network.authorities.set_request_handler(STATE, withhold)
        add_follower(cluster, FOLLOWER)
        await cluster.start(FOLLOWER)
        node = cluster.nodes[FOLLOWER]
        async with asyncio.timeout(2 * REQUEST_TIMEOUT_S):
            await until(lambda: joined(node), "joined")
        assert 1 <= len(asked) <= 3
        assert node.metrics()["sync_liars_dropped_total"] == 0
        await assert_whole(cluster, FOLLOWER)


async def test_an_offer_that_nobody_certified_is_refused(tmp_path: Path) -> None:
    def other_root(raw: bytes) -> bytes:
        return encode_offers(
            tuple(replace(offer, header=replace(offer.header, state_root=bytes(32))) for offer in decode_offers(raw))
        )

    def other_base(raw: bytes) -> bytes:
        return encode_offers(
            tuple(replace(offer, base=replace(offer.base, commit_digest=bytes(32))) for offer in decode_offers(raw))
        )

    async with running(tmp_path) as cluster:
        await old_chain(cluster)
        tamper(cluster.nodes[1], SNAPSHOTS, other_root)
        tamper(cluster.nodes[2], SNAPSHOTS, other_base)
        add_follower(cluster, FOLLOWER)
        await cluster.start(FOLLOWER)
        await cluster.ready(FOLLOWER)
        assert joined(cluster.nodes[FOLLOWER])
        assert cluster.nodes[FOLLOWER].metrics()["sync_liars_dropped_total"] == 2


def near_base(node: Node) -> Callable[[Offer], Offer]:
    """The certified header just below: the blocks between don't hold the window."""
    store = node._running.store

    def change(offer: Offer) -> Offer:
        below = offer.header.height - 1
        return replace(offer, base=store.header(below), base_certificate=store.certificate(below))

    return change


def pruned_base(node: Node) -> Callable[[Offer], Offer]:
    """Genesis: nobody keeps the blocks behind it."""
    return lambda offer: replace(offer, base=node._running.store.header(0), base_certificate=None)


@pytest.mark.parametrize(("lie", "dropped"), [(near_base, 3), (pruned_base, 0)])
async def test_a_certified_header_above_a_base_that_leads_nowhere_keeps_nobody_from_joining(
    tmp_path: Path, lie: Callable[[Node], Callable[[Offer], Offer]], dropped: int
) -> None:
    """Three of four offer it, and are asked before the fourth."""
    async with running(tmp_path) as cluster:
        await old_chain(cluster)
        *liars, _ = sorted(cluster.nodes.values(), key=lambda node: node.peer_id)
        for node in liars:
            change = lie(node)
            tamper(
                node,
                SNAPSHOTS,
                lambda raw, change=change: encode_offers(tuple(map(change, decode_offers(raw)))),  # type: ignore[misc]
            )
        add_follower(cluster, FOLLOWER)
        await cluster.start(FOLLOWER)
        node = cluster.nodes[FOLLOWER]
        await until(lambda: joined(node) and node.chain.head().height > 0, "joined")
        assert node.metrics()["sync_liars_dropped_total"] == dropped


async def test_who_lies_about_the_slot_in_a_snapshot_s_last_block_is_dropped(tmp_path: Path) -> None:
    """Nothing but the window root binds it."""

    def other_slot(raw: bytes) -> bytes:
        answer = decode_answer(raw, MAX_ANSWER_BLOCKS, Parameters())
        if not answer.blocks:
            return raw
        *blocks, last = answer.blocks
        outline = decode_outline(last.outline, 1 << 16)
        forged = replace(last, outline=encode_outline(replace(outline, slot=outline.slot + 1)))
        return encode_answer(replace(answer, blocks=(*blocks, forged)))

    async with running(tmp_path) as cluster:
        await old_chain(cluster)
        *liars, _ = sorted(cluster.nodes.values(), key=lambda node: node.peer_id)
        for node in liars:
            tamper(node, BLOCKS, other_slot)
        add_follower(cluster, FOLLOWER)
        await cluster.start(FOLLOWER)
        node = cluster.nodes[FOLLOWER]
        await until(lambda: joined(node) and node.chain.head().height > 0, "joined")
        assert node.metrics()["sync_liars_dropped_total"] == 3


async def test_what_was_verified_stays_over_a_kill_in_the_middle(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        await old_chain(cluster)
        asked: list[bytes] = []
        stalled = asyncio.Event()
        for node in cluster.nodes.values():
            links = node.network.authorities
            handler = links._handlers[STATE]  # type: ignore[attr-defined]

            async def answer(
                peer: PeerId, body: bytes, handler: Callable[[PeerId, bytes], Awaitable[bytes]] = handler
            ) -> bytes:
                asked.append(body)
                if len(asked) == 3:
                    stalled.set()
                    await asyncio.Event().wait()
                return await handler(peer, body)

            links.set_request_handler(STATE, answer)
        add_follower(cluster, FOLLOWER)
        await cluster.start(FOLLOWER)
        await asyncio.wait_for(stalled.wait(), 20)
        node = cluster.nodes[FOLLOWER]
        assert f"catching up by {node.status().syncing}" in node.ready()[1]
        assert "of the state is here" in str(node.status().syncing)
        copy = cluster.snapshot(FOLLOWER, "killed")
        await cluster.stop(FOLLOWER)
        shutil.rmtree(cluster.home(FOLLOWER))
        copy.rename(cluster.home(FOLLOWER))
        await cluster.start(FOLLOWER)
        await cluster.ready(FOLLOWER)
        assert joined(cluster.nodes[FOLLOWER])
        assert asked.count(asked[0]) == 1, "what came before the kill isn't asked for again"
        assert asked[3] == asked[2]
        await assert_whole(cluster, FOLLOWER)


@pytest.mark.parametrize("stage", ["moved away", "in place"])
async def test_a_crash_while_the_ledger_is_replaced_is_put_right(tmp_path: Path, stage: str) -> None:
    async with running(tmp_path) as cluster:
        height = await old_chain(cluster)
        add_follower(cluster, FOLLOWER)
        await cluster.start(FOLLOWER)
        await cluster.ready(FOLLOWER)
        await cluster.stop(FOLLOWER)
        home = cluster.home(FOLLOWER)
        if stage == "moved away":
            (home / "ledger").rename(home / "ledger.joining")
        shutil.copytree(cluster.home(0) / "pins", home / f"ledger{REPLACED}")
        await cluster.start(FOLLOWER)
        await cluster.ready(FOLLOWER)
        assert cluster.nodes[FOLLOWER].chain.head().height >= height
        assert not (home / f"ledger{REPLACED}").exists()
        assert not (home / "ledger.joining").exists()


async def test_a_trusted_header_must_belong_to_the_chain_joined(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        await old_chain(cluster)
        known = cluster.nodes[0]._running.store
        height = known.pinned_heights[0]
        right, wrong = known.hash_at(height).hex(), "00" * 32
        add_follower(cluster, FOLLOWER)
        config = cluster.home(FOLLOWER) / "config.toml"
        text = config.read_text()
        config.write_text(text.replace("[history]", f'[history]\ntrust = "{height}:{wrong}"'))
        await cluster.start(FOLLOWER)
        node = cluster.nodes[FOLLOWER]
        await until(lambda: node.status().syncing is not None, "trying")
        await asyncio.sleep(0.5)
        assert node.chain.head().height == 0
        await cluster.stop(FOLLOWER)
        config.write_text(text.replace("[history]", f'[history]\ntrust = "{height}:{right}"'))
        await cluster.start(FOLLOWER)
        await cluster.ready(FOLLOWER)
        assert joined(cluster.nodes[FOLLOWER])


async def test_an_authority_that_joins_by_a_snapshot_within_its_epoch_sits_it_out(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        await old_chain(cluster)
        await cluster.stop(3)
        home = cluster.home(3)
        for name in ("ledger", "consensus"):
            (home / name).rename(home / f"{name}.gone")
        await cluster.start(3)
        node = cluster.nodes[3]
        await until(lambda: joined(node), "joined")
        await cluster.ready(3)
        assert "joined by a snapshot within epoch 0" in str(node.status().sitting_out)
        assert node.metrics()["vertices_proposed_total"] == 0
        await assert_whole(cluster, 3)


async def test_an_archive_joins_no_snapshot(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        await old_chain(cluster)
        add_follower(cluster, FOLLOWER)
        config = cluster.home(FOLLOWER) / "config.toml"
        config.write_text(config.read_text().replace("archive = false", "archive = true"))
        await cluster.start(FOLLOWER)
        node = cluster.nodes[FOLLOWER]
        await until(lambda: node.status().syncing is not None, "trying")
        await asyncio.sleep(0.5)
        assert node.chain.head().height == 0
