"""Two certified vertices in one slot: the node halts, keeps what it saw, says what to do, and stays so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from consensus.dag.vertex import Vertex, VertexHeader, VertexRef, encode_vertex, genesis_refs, payload_root, sign_vertex
from mpisa.network.ports import PeerId
from mpisa.node.consensus_store import ConsensusStore
from mpisa.node.halting import EVIDENCE_NAME, RECORD_NAME, Halts, read_halt, write_halt
from mpisa.node.inbox import INBOX_EVENTS
from mpisa.node.links import VERTEX_FRAME
from mpisa.primitives import codec
from mpisa.primitives.digest import ZERO_DIGEST
from mpisa.primitives.errors import Halted, InvalidConfig
from mpisa.primitives.genesis_state import genesis_header
from mpisa.primitives.identifiers import AuthorityIndex, Epoch, Round
from tests.node.cluster import Cluster, key_of, make_cluster, until

REASON = "two certified vertices in slot 0 of round 1"


class Colluders:
    """All authorities but the first, which sign whatever they like."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.keys = [cluster.open(number)._setup.keys.consensus for number in range(4)]
        self.genesis = genesis_refs(genesis_header(cluster.genesis).hash, 4)

    def vertex(self, number: int, author: int, parents: list[VertexRef], payload: bytes = b"") -> Vertex:
        key = self.keys[author]
        assert key is not None
        header = VertexHeader(
            chain_hash=self.cluster.genesis.chain_hash,
            epoch=Epoch(0),
            round=Round(number),
            author=AuthorityIndex(author),
            timestamp_ms=self.cluster.genesis.time_ms,
            parents=tuple(parents),
            payload_root=payload_root(payload),
            payload_length=len(payload),
            execution_signatures=(),
            evidence_root=ZERO_DIGEST,
        )
        return sign_vertex(header, payload, (), key)

    async def send(self, vertex: Vertex) -> None:
        peer = PeerId(self.cluster.genesis.validators[vertex.author].peer_id)
        await self.cluster.nodes[0]._running.links._on_frame(peer, VERTEX_FRAME + encode_vertex(vertex))

    async def certify_both_twins(self) -> None:
        """Three of four vote for both vertices of the leader of round 1."""
        first = {
            author: self.vertex(1, author, [self.genesis[other] for other in (author, *({0, 1, 2, 3} - {author}))])
            for author in (1, 2, 3)
        }
        twin = self.vertex(1, 1, list(first[1].parents), b"twin")
        for vertex in first.values():
            await self.send(vertex)
        for mark, leader in enumerate((first[1], twin)):
            voters = {
                author: self.vertex(
                    2,
                    author,
                    [
                        leader.ref if other == 1 else first[other].ref
                        for other in (author, *sorted({1, 2, 3} - {author}))
                    ],
                    bytes([mark]),
                )
                for author in (1, 2, 3)
            }
            holder = 2 + mark
            order = [voters[holder], *(vote for author, vote in voters.items() if author != holder)]
            await self.send(self.vertex(3, holder, [vote.ref for vote in order]))
            for vote in voters.values():
                await self.send(vote)
            await self.send(twin)


def remember(cluster: Cluster, vertex: Vertex) -> None:
    """The first node made this vertex before: it needn't ask the others whether it ever had a past here."""
    store = ConsensusStore(cluster.open(0)._setup.home.consensus)
    raw = encode_vertex(vertex)
    store.write(
        [store.vertex_change(0, vertex.round, vertex.author, vertex.id, raw), store.proposal_change(0, 1, raw)],
        sync=True,
    )
    store.close()


async def test_it_halts_with_the_evidence_on_disk_and_stays_halted(tmp_path: Path) -> None:
    cluster = make_cluster(tmp_path)
    colluders = Colluders(cluster)
    remember(cluster, colluders.vertex(1, 0, list(colluders.genesis)))
    await cluster.start(0)
    try:
        node = cluster.nodes[0]
        await until(lambda: node._running.helm.status().round == 1, "it begins where it left off")
        await colluders.certify_both_twins()
        home = cluster.home(0)
        await until((home / RECORD_NAME).exists, "the node halts")
        assert node.status().halted == REASON
        record = json.loads((home / RECORD_NAME).read_text())
        assert (record["reason"], record["evidence"]) == (REASON, EVIDENCE_NAME)
        seen = codec.decode((home / EVIDENCE_NAME).read_bytes(), max_bytes=1 << 20)
        assert isinstance(seen, tuple)
        assert len(seen) >= 4 + 6 + 2, "both vertices, their votes, their certificates"
        advice = (
            f"halted: {REASON}; keep its home as it is and compare with the other operators; {home / EVIDENCE_NAME} "
            f"holds what it saw; to let it go on, stop it and delete {home / RECORD_NAME}"
        )
        assert advice in node.ready()[1]

        await cluster.stop(0)
        await cluster.start(0)
        node = cluster.nodes[0]
        assert node.status().halted == REASON
        assert advice in node.ready()[1]
        with pytest.raises(Halted, match=REASON):
            await node.submit(cluster.transfer(key_of("account 0"), 0))
        proposed = node._running.vertices.proposal(0)
        for number in range(INBOX_EVENTS + 50):  # more than the inbox holds: what comes in is let go, and blocks nobody
            await colluders.send(
                colluders.vertex(1, 2, [colluders.genesis[item] for item in (2, 0, 1, 3)], b"%d" % number)
            )
        assert node._running.vertices.proposal(0) == proposed
        assert node.metrics()["vertices_proposed_total"] == 0
        assert node.chain.head().height == 0, "what it has is served"

        await cluster.stop(0)
        (home / RECORD_NAME).unlink()
        assert read_halt(home) is None
    finally:
        for node in cluster.nodes.values():
            await node.stop()


def test_what_was_seen_first_is_kept(tmp_path: Path) -> None:
    first = write_halt(tmp_path, "one", 1, b"seen")
    assert write_halt(tmp_path, "other", 2, b"else") == first == read_halt(tmp_path)
    assert (tmp_path / EVIDENCE_NAME).read_bytes() == b"seen"
    halts = Halts(tmp_path, lambda: 3)
    halts.note("third")
    assert halts.reason == "one"


def test_it_halts_where_nothing_can_be_written(tmp_path: Path) -> None:
    halts = Halts(tmp_path, lambda: 3)
    (tmp_path / (RECORD_NAME + ".new")).mkdir()
    halts.note("reason", b"seen")
    assert halts.reason == "reason"
    assert (tmp_path / EVIDENCE_NAME).read_bytes() == b"seen"


def test_a_record_that_cannot_be_read_keeps_the_node_down(tmp_path: Path) -> None:
    (tmp_path / RECORD_NAME).write_text("{}")
    with pytest.raises(InvalidConfig, match="not a record of a halt"):
        Halts(tmp_path, lambda: 0)
