"""A node's life: a failing task ends it with its reason, stopping ends what is under way, its figures are whole."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mpisa.node.views import PeerView
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import MpisaError, NotReady, StoreDamaged, UsageError
from mpisa.primitives.identifiers import ArtefactName
from mpisa.primitives.operations import Publish, SetName
from mpisa.primitives.record import ArtefactKind, Input, ProvenanceRecord
from tests.node.cluster import key_of, make_cluster, running, until

ALICE = key_of("account 0")


async def test_a_failing_task_ends_the_node_with_its_reason(tmp_path: Path) -> None:
    async with running(tmp_path, 1) as cluster:
        node = cluster.nodes[0]
        real = node._running.vertices._db

        class Broken:
            """A database whose writes find damage."""

            def __getattr__(self, name: str) -> object:
                return getattr(real, name)

            def write(self, changes: object, *, sync: bool) -> None:
                raise StoreDamaged("vertex store is damaged: checksum mismatch", hint="run `mpisa node repair`")

        node._running.vertices._db = Broken()  # type: ignore[assignment]
        waiting = asyncio.create_task(node.submit(cluster.transfer(ALICE, 0), "certified"))
        with pytest.raises(StoreDamaged, match="checksum mismatch"):
            await node.wait()
        with pytest.raises(NotReady, match="the node is stopping"):
            await waiting
        assert node.ready() == (False, ["the node isn't running"])
        await node.stop()
        again = cluster.open(0)
        await again.start()
        await again.stop()


async def test_stopping_ends_an_upload_that_waits_for_bytes(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"first"
        await release.wait()
        yield b"never"

    async with running(tmp_path, 1) as cluster:
        node = cluster.nodes[0]
        blobs = node.blobs
        upload = asyncio.create_task(blobs.put_stream(slow()))
        await until(lambda: node.metrics()["bytes_uploaded_total"] == 5.0, "the first bytes came")
        await node.stop()
        release.set()
        with pytest.raises(MpisaError, match="the node is stopping"):
            await upload


async def test_a_node_is_started_once(tmp_path: Path) -> None:
    async with running(tmp_path, 1) as cluster:
        with pytest.raises(UsageError, match="a node is started once"):
            await cluster.nodes[0].start()


async def test_status_peers_and_metrics_are_whole(tmp_path: Path) -> None:
    async with running(tmp_path, 2) as cluster:
        await cluster.nodes[0].submit(cluster.transfer(ALICE, 0), "certified")
        node, other = cluster.nodes[0], cluster.nodes[1]
        status = node.status()
        assert (status.name, status.role, status.authority, status.authority_index) == (
            "node1",
            "validator",
            "node1",
            0,
        )
        assert (status.ready, status.not_ready, status.halted) == (True, (), None)
        assert status.height >= status.certified_height >= 1
        assert [(peer.peer_id, peer.authority, peer.connected, peer.link) for peer in node.peers()] == [
            (other.peer_id, 1, True, True)
        ]
        assert all(isinstance(peer, PeerView) for peer in node.peers())
        metrics = node.metrics()
        assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in metrics)
        assert metrics["transactions_applied_total"] == metrics["transactions_accepted_total"] == 1.0
        await cluster.stop(1)
        assert node.ready() == (False, ["linked to authorities with 1 of 2 stake, a quorum is needed"])
        assert [(peer.authority, peer.connected, peer.link) for peer in node.peers()] == [(1, False, False)]


async def test_names_resolve_once_certified(tmp_path: Path) -> None:
    async with running(tmp_path, 1) as cluster:
        node, name, cid = cluster.nodes[0], ArtefactName.parse("alice/model@v1"), Cid.of(b"model")
        assert node.chain.resolve(name) is None
        await node.submit(cluster.sign(ALICE, 0, SetName(name, cid)), "certified")
        assert node.chain.resolve(name) == cid


async def test_a_start_that_fails_leaves_nothing_open(tmp_path: Path) -> None:
    cluster = make_cluster(tmp_path, 1)
    (cluster.home(0) / "blocks").write_text("not a directory")
    node = cluster.open(0)
    with pytest.raises((MpisaError, OSError)):
        await node.start()
    (cluster.home(0) / "blocks").unlink()
    again = cluster.open(0)
    await again.start()
    await again.stop()


async def test_records_and_lineage_are_listed(tmp_path: Path) -> None:
    base, model = Cid.of(b"base"), Cid.of(b"model")
    first = ProvenanceRecord(ArtefactKind.MODEL, base, 4)
    second = ProvenanceRecord(ArtefactKind.MODEL, model, 5, inputs=(Input("base-model", "finetune", cid=base),))
    async with running(tmp_path, 1) as cluster:
        node = cluster.nodes[0]
        await node.submit(cluster.sign(ALICE, 0, Publish(first), Publish(second)), "certified")
        page = node.chain.records(limit=1)
        assert len(page.records) == 1
        rest = node.chain.records(page.next_cursor)
        assert {view.cid for view in (*page.records, *rest.records)} == {base, model}
        assert rest.next_cursor is None
        (derived,) = node.chain.derived_from(base)
        assert (derived.cid, derived.stored.record) == (model, second)
        assert [view.stored.record for view in node.chain.records_of(base)] == [first]
        assert node.chain.derived_from(model) == ()
        replaced = ProvenanceRecord(ArtefactKind.MODEL, model, 6)
        await node.submit(cluster.sign(ALICE, 1, Publish(replaced)), "certified")
        assert node.chain.derived_from(base) == ()
        with pytest.raises(UsageError, match="the cursor isn't one of this list"):
            node.chain.records(b"account\0")
