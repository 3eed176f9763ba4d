"""Co-signatures of closing headers on real nodes: made by those with a key, fetched by others, false ones refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpisa.config import NodeConfig
from mpisa.network.memory import MemoryHub
from mpisa.network.ports import PeerId
from mpisa.node.cosigning import COSIGNATURES, post_quantum_keys, read_answer
from mpisa.node.home import NodeKeys, init_home
from mpisa.primitives import codec
from mpisa.primitives.cosignature import cosigned_power
from mpisa.primitives.errors import Rejection
from mpisa.primitives.keys import KeyKind
from tests.node.cluster import Cluster, key_of, make_genesis, until, validator_keys
from tests.node.validators import AT_ONCE, Town

WITHOUT_KEY = 3


def keys_with(number: int) -> NodeKeys:
    """A validator's keys, an ML-DSA-65 key among them."""
    keys = validator_keys(number)
    cosigning = key_of(f"post-quantum {number}", KeyKind.ML_DSA_65)
    return NodeKeys(keys.node, keys.consensus, keys.certificate, post_quantum=cosigning)


@pytest.fixture
def town(tmp_path: Path) -> Town:
    """Four validators, one of them without an ML-DSA-65 key."""
    keys = [validator_keys(number) if number == WITHOUT_KEY else keys_with(number) for number in range(4)]
    keys.sort(key=lambda item: item.certificate.address if item.certificate else b"")
    genesis = make_genesis(keys, [key_of("account 0")], staking=AT_ONCE)
    cluster = Cluster(tmp_path, MemoryHub(), genesis)
    for number, item in enumerate(keys):
        init_home(cluster.home(number), NodeConfig(name=f"node{number + 1}"), genesis_text=genesis.to_json(), keys=item)
    return Town(cluster)


async def test_every_node_comes_to_hold_all_of_them(town: Town) -> None:
    cluster = town.cluster
    try:
        await cluster.start(0, 1, 2, 3)
        await cluster.ready()
        await town.submit(town.leave(0))
        await town.in_epoch(1)
        stores = [node._running.store for node in cluster.nodes.values()]
        for store in stores:
            await until(lambda store=store: len(store.cosignatures.get(0)) == 3, "three co-signatures")  # type: ignore[misc]
        record, header = stores[0].epoch(0), stores[0].header(stores[0].epoch(1).base)
        kept = {store.cosignatures.get(0) for store in stores}
        assert len({tuple(item.address for item in items) for items in kept}) == 1
        for items in kept:
            assert cosigned_power(header, items, post_quantum_keys(record), record.validator_set) == 3
        peer = PeerId(record.validators[1].peer_id)
        other = next(node for node in cluster.nodes.values() if node.peer_id != peer)
        answer = await other.network.authorities.request(peer, COSIGNATURES, codec.encode(0))
        assert read_answer(answer) == list(
            next(node for node in cluster.nodes.values() if node.peer_id == peer)._running.store.cosignatures.get(0)
        )
        assert read_answer(await other.network.authorities.request(peer, COSIGNATURES, codec.encode(7))) == []
        with pytest.raises(Rejection, match=r"^malformed"):
            await other.network.authorities.request(peer, COSIGNATURES, codec.encode("latest"))
    finally:
        await cluster.stop(*list(cluster.nodes))


async def test_a_false_co_signature_is_not_kept(town: Town) -> None:
    cluster = town.cluster
    try:
        await cluster.start(0, 1, 2, 3)
        await cluster.ready()
        liar = cluster.nodes[0]

        async def lie(peer: PeerId, body: bytes) -> bytes:
            addresses = [item.address for item in liar._running.store.epoch(0).validators]
            return codec.encode(tuple((address, bytes(3309)) for address in addresses))

        liar.network.authorities.set_request_handler(COSIGNATURES, lie)
        await town.submit(town.leave(1))
        await town.in_epoch(1)
        for number in (1, 2, 3):
            store = cluster.nodes[number]._running.store
            record, header = store.epoch(0), store.header(store.epoch(1).base)
            others = [item.address for item in record.validators[1:] if item.post_quantum_key]
            await until(
                lambda store=store, others=others: {item.address for item in store.cosignatures.get(0)} >= set(others),  # type: ignore[misc]
                "the honest ones' co-signatures",
            )
            items = store.cosignatures.get(0)
            assert cosigned_power(header, items, post_quantum_keys(record), record.validator_set) == len(items)
    finally:
        await cluster.stop(*list(cluster.nodes))


MALFORMED = {
    "no list": codec.encode(b"x"),
    "short signature": codec.encode(((bytes(20), bytes(3308)),)),
    "short address": codec.encode(((bytes(19), bytes(3309)),)),
    "too many": codec.encode(tuple((bytes(20), b"") for _ in range(257))),
    "cut": codec.encode(((bytes(20), bytes(3309)),))[:-1],
}


@pytest.mark.parametrize("what", sorted(MALFORMED))
def test_a_malformed_answer_is_refused(what: str) -> None:
    with pytest.raises(Rejection):
        read_answer(MALFORMED[what])
