"""From two signatures on the wire to a punished validator in the state of every node."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from consensus.dag.vertex import ExecutionSignature, Vertex, decode_vertex, encode_vertex, sign_vertex
from consensus.parameters import Parameters
from mpisa.ledger.offences import OffenceKind
from mpisa.network.ports import PeerId
from mpisa.node.home import NodeKeys
from mpisa.node.links import SIGNATURE_FRAME, VERTEX_FRAME, encode_signature
from mpisa.primitives import codec
from mpisa.primitives.errors import Rejection
from mpisa.primitives.header import certificate_digest, make_certificate, sign_header
from mpisa.primitives.identifiers import AuthorityIndex, Epoch, Height
from mpisa.primitives.state_keys import offence_key
from tests.node.cluster import Cluster, key_of, running, until

ALICE = key_of("account 0")
OFFENDER = 2
EPOCH = Epoch(0)


def recorded(cluster: Cluster, number: int, *, punishable: bool = True) -> codec.Value:
    """What a node's state holds against the offender."""
    operator = cluster.genesis.validators[OFFENDER].address
    raw = cluster.nodes[number]._running.store.get(offence_key(operator, EPOCH, punishable))
    return None if raw is None else codec.decode(raw, max_bytes=1_024)


async def everywhere(cluster: Cluster, *, punishable: bool = True) -> codec.Value:
    """The same on every node, once it is there."""
    for number in cluster.nodes:
        await until(lambda number=number: recorded(cluster, number, punishable=punishable) is not None, "an offence")
    found = {codec.encode(recorded(cluster, number, punishable=punishable)) for number in cluster.nodes}
    assert len(found) == 1
    return codec.decode(found.pop(), max_bytes=1_024)


def twin_of(vertex: Vertex, cluster: Cluster) -> bytes:
    """What the offender also signs."""
    keys = cluster.nodes[OFFENDER]._setup.keys
    assert keys.consensus is not None
    header = replace(vertex.header, timestamp_ms=vertex.timestamp_ms + 1)
    return encode_vertex(sign_vertex(header, vertex.payload, vertex.evidence, keys.consensus))


async def test_two_vertices_of_one_round(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        runtime = cluster.nodes[0]._running
        peer = cluster.nodes[OFFENDER]._running.network.peer_id

        def last() -> Vertex | None:
            found = [decode_vertex(raw, Parameters()) for raw in runtime.vertices.all_from(0, 0)]
            return next((vertex for vertex in reversed(found) if vertex.author == OFFENDER), None)

        await until(lambda: last() is not None, "a vertex of the offender")
        vertex = last()
        assert vertex is not None
        await runtime.links._on_frame(peer, VERTEX_FRAME + twin_of(vertex, cluster))
        kind, position, _ = codec.expect_tuple(await everywhere(cluster), "offence", length=3)
        assert (kind, position) == (OffenceKind.DOUBLE_VERTEX, vertex.round)
        for node in cluster.nodes.values():
            await until(lambda node=node: node._running.helm.epoch == 1, "the next epoch")  # type: ignore[misc]
        addresses = [item.address for item in runtime.helm.committee.authorities]
        assert addresses == [item.address for index, item in enumerate(cluster.genesis.validators) if index != OFFENDER]
        done = await cluster.nodes[1].submit(cluster.transfer(ALICE, 0), "certified")
        assert done.height is not None
        await cluster.level(done.height)


def false_header(cluster: Cluster, height: int, mark: int) -> bytes:
    """A frame with the offender's signature over a header that nobody made."""
    keys = validator_keys_of(cluster, OFFENDER)
    assert keys.certificate is not None
    digest = certificate_digest(cluster.genesis.chain_hash, height, bytes([mark]) * 32)
    signature = keys.certificate.sign_digest(digest)
    signed = ExecutionSignature(Height(height), bytes([mark]) * 32, AuthorityIndex(OFFENDER), signature)
    return SIGNATURE_FRAME + encode_signature(signed, EPOCH)


def validator_keys_of(cluster: Cluster, number: int) -> NodeKeys:
    return cluster.open(number)._setup.keys


async def test_what_one_node_alone_saw_outlives_its_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        done = await cluster.nodes[0].submit(cluster.transfer(ALICE, 0), "certified")
        assert done.height is not None
        await cluster.level(done.height)
        await cluster.stop(1, 2, 3)
        peer = PeerId(cluster.genesis.validators[OFFENDER].peer_id)
        for mark in (1, 2):
            await cluster.nodes[0]._running.links._on_frame(peer, false_header(cluster, done.height + 1, mark))
        vertices = cluster.nodes[0]._running.vertices
        await until(lambda: len(vertices.evidence(9)) == 1, "the evidence is kept")
        await cluster.stop(0)
        await cluster.start(0, 1, 2, 3)
        kind, position, _ = codec.expect_tuple(await everywhere(cluster), "offence", length=3)
        assert (kind, position) == (OffenceKind.DOUBLE_HEADER, done.height + 1)
        kept = cluster.nodes[0]._running.vertices
        await until(lambda: kept.evidence(9) == [], "what is ordered is let go")


async def test_two_headers_of_one_height(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        done = await cluster.nodes[0].submit(cluster.transfer(ALICE, 0), "certified")
        assert done.height is not None
        peer = cluster.nodes[OFFENDER]._running.network.peer_id
        await cluster.nodes[0]._running.links._on_frame(peer, false_header(cluster, done.height, 7))
        kind, position, _ = codec.expect_tuple(await everywhere(cluster), "offence", length=3)
        assert (kind, position) == (OffenceKind.DOUBLE_HEADER, done.height)


async def test_a_report_of_two_certified_headers_convicts_whoever_signed_both(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        done = await cluster.nodes[0].submit(cluster.transfer(ALICE, 0), "certified")
        assert done.height is not None
        await cluster.level(done.height)
        header = cluster.nodes[0].chain.header(done.height)
        certificate = cluster.nodes[0].chain.certificate(done.height)
        assert certificate is not None
        keys = validator_keys_of(cluster, OFFENDER)
        assert keys.certificate is not None
        genuine = make_certificate({OFFENDER: sign_header(keys.certificate, header)})
        fork = replace(header, state_root=bytes(32))
        forged = make_certificate({OFFENDER: sign_header(keys.certificate, fork)})
        with pytest.raises(Rejection, match="bad-evidence: nobody signed two of these headers"):
            await cluster.nodes[0].report([(header, certificate)])
        [offence] = await cluster.nodes[0].report([(header, genuine), (fork, forged)])
        assert (offence.kind, offence.epoch, offence.position) == ("double-header", 0, done.height)
        assert offence.address == cluster.genesis.validators[OFFENDER].address
        kind, position, _ = codec.expect_tuple(await everywhere(cluster), "offence", length=3)
        assert (kind, position) == (OffenceKind.DOUBLE_HEADER, done.height)
