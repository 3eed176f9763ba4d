"""Walking DAGs: order, sharing, bounds; hints about providers and their bounds."""

from __future__ import annotations

import pytest

from mpisa.network.memory import MemoryHub, MemoryNetwork
from mpisa.network.ports import NetworkConfig, PeerId
from mpisa.node import dag, providers
from mpisa.node.blobs import LocalBlocks
from mpisa.node.dag import Walk, next_piece, scan_local
from mpisa.node.providers import MAX_HINTED_CIDS, MAX_HINTS_PER_CID, Providers
from mpisa.primitives.cid import DAG_CBOR, DAG_JSON, DAG_PB, Cid
from mpisa.primitives.dag_json import encode_dag_json
from mpisa.primitives.dag_pb import PBLink, PBNode, encode_node
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.ipld import Link, encode_dag_cbor
from storage.blockstore import MemoryBlockStore


def node(*children: Cid) -> tuple[Cid, bytes]:
    data = encode_node(PBNode(tuple(PBLink(child.to_bytes(), "", 1) for child in children), None))
    return Cid.of(data, codec=DAG_PB), data


def leaf(data: bytes) -> tuple[Cid, bytes]:
    return Cid.of(data), data


A, B, C = leaf(b"a"), leaf(b"b"), leaf(b"c")
INNER = node(A[0], B[0])
ROOT = node(INNER[0], C[0], INNER[0])


def store_of(*blocks: tuple[Cid, bytes]) -> MemoryBlockStore:
    store = MemoryBlockStore()
    store.put(blocks)
    return store


def test_a_scan_visits_each_block_once_and_names_the_missing_in_order() -> None:
    walk = Walk([ROOT[0]])
    found = scan_local(store_of(ROOT, INNER, B), walk)
    assert (found.blocks, found.missing) == (3, (A[0], C[0]))
    assert found.size == len(ROOT[1]) + len(INNER[1]) + 1
    assert walk.stack == []


def test_the_links_of_documents_are_followed() -> None:
    inner = encode_dag_json({"leaf": Link(A[0])})
    document = (Cid.of(inner, codec=DAG_JSON), inner)
    outer = encode_dag_cbor([Link(document[0]), Link(ROOT[0]), Link(B[0])])
    top = (Cid.of(outer, codec=DAG_CBOR), outer)
    found = scan_local(store_of(top, document, ROOT, INNER, B), Walk([top[0]]))
    assert (found.blocks, found.missing) == (5, (A[0], C[0]))
    piece = next_piece(store_of(top, document, ROOT, INNER, A, B, C), [top[0]])
    assert [cid for cid, _ in piece.blocks][:4] == [top[0], document[0], A[0], ROOT[0]]


def test_a_stream_repeats_a_block_as_often_as_it_is_linked() -> None:
    piece = next_piece(store_of(ROOT, INNER, A, B, C), [ROOT[0]])
    assert [cid for cid, _ in piece.blocks] == [
        ROOT[0], INNER[0], A[0], B[0], C[0], INNER[0], A[0], B[0],
    ]  # fmt: skip
    assert piece.missing is None


def test_a_stream_stops_before_the_first_missing_block_and_goes_on_with_it() -> None:
    store, stack = store_of(ROOT, INNER, B, C), [ROOT[0]]
    piece = next_piece(store, stack)
    assert ([cid for cid, _ in piece.blocks], piece.missing) == ([ROOT[0], INNER[0]], A[0])
    store.put([A])
    assert [cid for cid, _ in next_piece(store, stack).blocks][:2] == [A[0], B[0]]


def test_the_same_bytes_as_leaf_and_as_node_are_two_visits() -> None:
    as_leaf = Cid.of(INNER[1])
    root = node(as_leaf, INNER[0])
    found = scan_local(store_of(root, INNER, (as_leaf, INNER[1])), Walk([root[0]]))
    assert found.missing == (A[0], B[0])


def test_a_dag_is_refused_above_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dag, "MAX_DAG_BLOCKS", 5)
    assert scan_local(store_of(ROOT, INNER, A, B, C), Walk([ROOT[0]])).blocks == 5
    monkeypatch.setattr(dag, "MAX_DAG_BLOCKS", 4)
    with pytest.raises(Rejection) as caught:
        scan_local(store_of(ROOT, INNER, A, B, C), Walk([ROOT[0]]))
    assert caught.value.reason is RejectionReason.TOO_LARGE


def test_pending_links_are_refused_above_their_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dag, "MAX_PENDING_LINKS", 2)
    with pytest.raises(Rejection) as caught:
        next_piece(store_of(ROOT), [ROOT[0]])
    assert caught.value.reason is RejectionReason.TOO_LARGE


def test_a_scan_pauses_at_many_missing_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dag, "SCAN_MISSING", 1)
    walk = Walk([ROOT[0]])
    assert scan_local(store_of(ROOT, INNER), walk).missing == (A[0],)
    assert scan_local(store_of(ROOT, INNER), walk).missing == (B[0],)
    assert scan_local(store_of(ROOT, INNER), walk).missing == (C[0],)


def providers_of(hub: MemoryHub, seed: int) -> tuple[Providers, MemoryNetwork]:
    source = LocalBlocks(MemoryBlockStore(), lambda error: None)
    network = MemoryNetwork(hub, NetworkConfig(bytes([seed]) * 32, bytes(32), "1"), source)
    return Providers(network, bytes(32)), network


async def test_an_announcement_becomes_a_hint_elsewhere() -> None:
    hub = MemoryHub()
    (one, first), (two, second) = providers_of(hub, 1), providers_of(hub, 2)
    async with first, second:
        subscription = await two.subscribe()
        await one.announce(A[0])
        await first.publish(one._topic, b"no cid")
        await subscription.close()
        await first.publish(one._topic, b"late")
        with two.session(A[0]) as found:
            assert not await found.more({first.peer_id})
            assert [peer.peer_id for peer in found.known()] == [first.peer_id]
            assert found.sources == "dht: 1, gossip: 0, connected: 1"


async def test_hints_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    table, _ = providers_of(MemoryHub(), 1)
    for number in range(MAX_HINTS_PER_CID + 3):
        table.hint(A[0], PeerId(f"peer {number}"))
    assert list(table._hints[A[0].digest]) == [PeerId(f"peer {n}") for n in range(3, MAX_HINTS_PER_CID + 3)]
    monkeypatch.setattr(providers, "MAX_HINTED_CIDS", 4)
    for number in range(10):
        table.hint(Cid.of(bytes([number])), PeerId("peer"))
    assert len(table._hints) == 4 < MAX_HINTED_CIDS
