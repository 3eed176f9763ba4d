"""Joining by a snapshot of a later epoch with nothing but genesis: the validators are proven along closing headers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mpisa.config import HistoryConfig
from mpisa.network.ports import PeerId
from mpisa.node import snapshots
from mpisa.node.certificates import CERTIFICATES
from mpisa.node.chain_records import CERTIFICATE, number
from mpisa.node.database import Database
from mpisa.node.epoch_proof import EpochProof
from mpisa.node.joining import known_chart
from mpisa.node.node import Node
from mpisa.node.snapshots import (
    EPOCHS,
    SNAPSHOTS,
    STATE,
    decode_chunk,
    decode_epochs,
    decode_offers,
    encode_chunk,
    encode_offers,
)
from mpisa.primitives import codec, merkle
from mpisa.primitives.header import make_certificate, sign_header
from mpisa.primitives.identifiers import AuthorityIndex
from mpisa.primitives.state_keys import account_key
from tests.node.cluster import add_follower, key_of, until
from tests.node.validators import Town, town

CLIENT = key_of("account 0")
OLD, NEW = range(4), range(4, 8)
READER = 9
LITTLE = HistoryConfig(blocks=10, snapshot_blocks=16)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a small state comes in several."""
    monkeypatch.setattr(snapshots, "CHUNK_BYTES", 300)


async def grow(made: Town, count: int, through: int = 5) -> int:
    """So many blocks more, through a node that stays; the height of the last."""
    height = 0
    for _ in range(count):
        nonce = made.cluster.nodes[through].pending_nonce(CLIENT.public_key.address)
        status = await made.submit(made.cluster.transfer(CLIENT, nonce), through=through)
        height = status.height or 0
    await made.cluster.level(height)
    return height


async def old_chain(made: Town) -> int:
    """Two epochs on, both without anybody of the genesis set, and no node keeps their closing blocks; its height."""
    for node in made.cluster.nodes.values():
        node._running.providing.snapshots._history = LITTLE
        node._running.behind.pruning._history = LITTLE
    await grow(made, 3)
    await made.hand_over(OLD, NEW)
    await grow(made, 4)
    closing = (await made.submit(made.leave(7), through=4)).height
    assert closing is not None
    height = await grow(made, 80)
    for node in made.cluster.nodes.values():
        await until(lambda node=node: len(node._running.store.pinned_heights) == 2, "snapshots")  # type: ignore[misc]
        await node._running.behind.pruning.prune()
        assert node.status().kept_from > closing
    return height


async def join(made: Town) -> Node:
    """The new node, joined."""
    add_follower(made.cluster, READER)
    await made.cluster.start(READER)
    await made.cluster.ready(READER)
    node = made.cluster.nodes[READER]
    assert node._running.behind.joining.done == 1.0
    return node


async def assert_whole(made: Town, node: Node) -> None:
    """It has the same state as the others, proves it under the present set, and goes on."""
    height = await grow(made, 1)
    other = made.cluster.nodes[5]
    assert node.chain.block(height).hash == other.chain.block(height).hash
    assert node.chain.header(height).state_root == other.chain.header(height).state_root
    assert node.chain.validators(height) == other.chain.validators(height)
    key = account_key(CLIENT.public_key.address)
    proof = node.chain.prove(key)
    assert proof.value is not None
    merkle.verify_membership(proof.header.state_root, key, proof.value, proof.proof)


def tamper(node: Node, kind: str, change: Callable[[bytes], bytes]) -> None:
    links = node.network.authorities
    handler: Callable[[PeerId, bytes], Awaitable[bytes]] = links._handlers[kind]  # type: ignore[attr-defined]

    async def lie(peer: PeerId, body: bytes) -> bytes:
        return change(await handler(peer, body))

    links.set_request_handler(kind, lie)


def changed(change: Callable[[tuple[EpochProof, ...]], tuple[EpochProof, ...]]) -> Callable[[bytes], bytes]:
    """Of the proofs that a peer sends; an answer without any stays."""

    def lie(raw: bytes) -> bytes:
        proofs = decode_epochs(raw)
        return codec.encode(tuple(proof.to_value() for proof in change(proofs))) if proofs else raw

    return lie


async def test_a_node_with_genesis_alone_joins_in_an_epoch_whose_validators_it_has_never_heard_of(
    tmp_path: Path,
) -> None:
    """Nobody of the genesis set runs any more, and nobody keeps a block of its epoch."""
    async with town(tmp_path, 4, 4) as made:
        height = await old_chain(made)
        await made.cluster.stop(*OLD)
        node = await join(made)
        joined = node._running.behind.joining.height
        assert joined % 16 == 0
        assert node.chain.head().height >= height
        assert node.chain.header(joined).epoch == node.status().epoch == 2
        assert node.status().kept_from == joined + 1
        assert node.metrics()["sync_liars_dropped_total"] == 0
        others = made.cluster.nodes[4]._running.store
        for epoch in (1, 2):
            assert node._running.store.epoch(epoch).validators == others.epoch(epoch).validators
            assert node._running.store.epoch_entries(epoch) == others.epoch_entries(epoch), "it hands them on itself"
        await assert_whole(made, node)
        await made.cluster.stop(READER)
        await made.cluster.start(READER)
        await made.cluster.ready(READER)
        await assert_whole(made, made.cluster.nodes[READER])


LIES: tuple[Callable[[bytes], bytes], ...] = (
    changed(lambda proofs: proofs[1:]),  # a link is missing
    changed(lambda proofs: proofs[::-1]),
    changed(lambda proofs: (replace(proofs[0], certificate=proofs[1].certificate), *proofs[1:])),
    changed(lambda proofs: (replace(proofs[0], entries=proofs[1].entries), *proofs[1:])),
    lambda raw: raw[:-1],
)


async def test_liars_about_the_epochs_are_named_and_dropped_and_the_others_lead_on(tmp_path: Path) -> None:
    """Those who are asked first lie, each in its own way."""
    async with town(tmp_path, 4, 4) as made:
        await old_chain(made)
        *liars, sixth, _, _ = sorted(made.cluster.nodes.values(), key=lambda node: node.peer_id)
        for liar, lie in zip(liars, LIES, strict=True):
            tamper(liar, EPOCHS, lie)
        node = await join(made)
        usable = node._running.behind.sources.usable()
        assert [PeerId(liar.peer_id) in usable for liar in liars] == [False] * len(LIES)
        assert PeerId(sixth.peer_id) in usable
        assert node.metrics()["sync_liars_dropped_total"] == len(LIES)
        await assert_whole(made, node)


async def test_liars_about_a_snapshot_of_a_later_epoch_are_dropped(tmp_path: Path) -> None:
    """One offers it as one of the first epoch, one with another set's certificate, one changes the state."""

    def of_first_epoch(raw: bytes) -> bytes:
        return encode_offers(
            tuple(replace(offer, header=replace(offer.header, epoch=0)) for offer in decode_offers(raw))  # type: ignore[arg-type]
        )

    def swapped(raw: bytes) -> bytes:
        return encode_offers(
            tuple(
                replace(offer, certificate=replace(offer.certificate, signatures=offer.certificate.signatures[::-1]))
                for offer in decode_offers(raw)
            )
        )

    def wrong_value(raw: bytes) -> bytes:
        chunk = decode_chunk(raw)
        return encode_chunk(replace(chunk, entries=((chunk.entries[0][0], b"mine"), *chunk.entries[1:])))

    async with town(tmp_path, 4, 4) as made:
        await old_chain(made)
        tamper(made.cluster.nodes[1], SNAPSHOTS, of_first_epoch)
        tamper(made.cluster.nodes[4], SNAPSHOTS, swapped)
        tamper(made.cluster.nodes[6], STATE, wrong_value)
        node = await join(made)
        usable = node._running.behind.sources.usable()
        assert [number for number in range(8) if made.cluster.nodes[number].peer_id not in usable] == [1, 4, 6]
        await assert_whole(made, node)


async def away(made: Town) -> int:
    """The new node has seen the first epoch end, lost the certificate of its end, and was away since: nobody keeps
    what it lacks, and nobody has sent it that certificate yet. The height of the closing block.
    """
    add_follower(made.cluster, READER)
    await made.cluster.start(READER)
    await made.cluster.ready(READER)
    closing = (await made.submit(made.leave(3))).height
    assert closing is not None
    await made.cluster.level(closing)
    await made.cluster.stop(READER)
    await until_forgotten(made, closing)
    place = made.cluster.home(READER) / "ledger"
    database = Database(place, "chain store")
    assert database.get(CERTIFICATE + number(closing)) is not None
    database.write([(CERTIFICATE + number(closing), None)], sync=True)  # it wasn't synced: as a power cut leaves it
    database.close()
    for node in made.cluster.nodes.values():
        tamper(node, CERTIFICATES, lambda _: codec.encode(()))
    return closing


async def until_forgotten(made: Town, height: int) -> None:
    """Grows until no node keeps this block and the next."""
    nodes = made.cluster.nodes.values()
    for node in nodes:
        node._running.providing.snapshots._history = LITTLE
        node._running.behind.pruning._history = LITTLE
    await grow(made, 80, through=0)
    for node in nodes:
        await until(lambda node=node: len(node._running.store.pinned_heights) == 2, "snapshots")  # type: ignore[misc]
        await node._running.behind.pruning.prune()
        assert node.status().kept_from > height + 1


async def come_back(made: Town) -> Node:
    """The new node, joined though it knew of the epoch already."""
    await made.cluster.start(READER)
    node = made.cluster.nodes[READER]
    await until(lambda: node._running.behind.joining.done == 1.0, "joined")
    await made.cluster.ready(READER)
    return node


def assert_shows(made: Town, node: Node, closing: int) -> None:
    """It has what the epoch began behind, and hands it on."""
    store, other = node._running.store, made.cluster.nodes[0]._running.store
    assert store.header(closing) == other.header(closing)
    assert store.certificate(closing) is not None
    assert store.epoch_entries(1) == other.epoch_entries(1)
    assert known_chart(store).latest.epoch == 1


async def test_who_lost_the_certificate_of_an_epoch_s_end_has_it_proven_again_and_joins(tmp_path: Path) -> None:
    """Without the closing header, which nobody could show it, its new ledger wouldn't even open."""
    async with town(tmp_path, 4) as made:
        closing = await away(made)
        node = await come_back(made)
        assert_shows(made, node, closing)
        assert node.metrics()["sync_liars_dropped_total"] == 0
        await made.cluster.stop(READER)
        await made.cluster.start(READER)
        await made.cluster.ready(READER)
        node = made.cluster.nodes[READER]
        assert_shows(made, node, closing)
        height = await grow(made, 1, through=0)
        assert node.chain.header(height) == made.cluster.nodes[0].chain.header(height)


async def test_another_past_that_an_old_set_has_signed_is_a_lie_to_who_has_seen_this_one(tmp_path: Path) -> None:
    """The first who is asked proves an end of the epoch that validators long gone could have signed as well."""

    def another_past(proofs: tuple[EpochProof, ...]) -> tuple[EpochProof, ...]:
        header = replace(proofs[0].header, time_ms=proofs[0].header.time_ms + 1)
        signatures = {}
        for at, validator in enumerate(made.cluster.genesis.validators):
            (key,) = [key for key in keys if key.public_key.address == validator.address]
            signatures[AuthorityIndex(at)] = sign_header(key, header)
        return (replace(proofs[0], header=header, certificate=make_certificate(signatures)), *proofs[1:])

    async with town(tmp_path, 4) as made:
        keys = [made.operator(seat) for seat in range(4)]
        closing = await away(made)
        liar = min(made.cluster.nodes.values(), key=lambda node: node.peer_id)
        tamper(liar, EPOCHS, changed(another_past))
        node = await come_back(made)
        assert PeerId(liar.peer_id) not in node._running.behind.sources.usable()
        assert node.metrics()["sync_liars_dropped_total"] == 1
        assert_shows(made, node, closing)
