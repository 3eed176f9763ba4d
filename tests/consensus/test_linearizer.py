"""Commits: time, digest, folding, the committed window, and its way back from a cursor."""

from dataclasses import replace

import pytest

from consensus.dag.graph import Graph, Node
from consensus.dag.vertex import Vertex
from consensus.events import BlockBoundary, CommittedSubDag
from consensus.order.checkpoint import Checkpoint, decode_cursor, encode_cursor
from consensus.order.epoch import EpochStart
from consensus.order.linearizer import Linearizer
from mpisa.primitives.digest import ZERO_DIGEST, tagged
from mpisa.primitives.errors import Rejection
from mpisa.primitives.identifiers import Epoch
from tests.consensus.forge import NOW, Forge
from tests.simulator.world import ANCHOR

HEARTBEAT = 10_000
DEPTH = 9


def grown(rounds: int, **payloads: bytes) -> tuple[Forge, Graph]:
    """A full DAG in which author a's vertex of round r is at NOW + 100 r + 10 a; payloads by name r<round>a<author>."""
    forge = Forge()
    graph = Graph(forge.committee)
    for number in range(1, rounds + 1):
        for author in range(4):
            payload = payloads.get(f"r{number}a{author}", b"")
            graph.add(forge.vertex(number, author, payload=payload, timestamp_ms=NOW + 100 * number + 10 * author))
    return forge, graph


def linearizer(forge: Forge, graph: Graph, checkpoint: Checkpoint | None = None, *, leaders: int = 1) -> Linearizer:
    return Linearizer(
        graph,
        forge.committee,
        DEPTH,
        HEARTBEAT,
        leaders,
        checkpoint or EpochStart(Epoch(0), forge.committee, ANCHOR, NOW).checkpoint,
    )


def node(graph: Graph, number: int, author: int) -> Node:
    return graph.at(number, author)[0]


def test_time_is_the_weighted_median_of_the_leader_s_last_round_parents() -> None:
    forge, graph = grown(3)
    line = linearizer(forge, graph)
    assert line.commit(node(graph, 1, 1), 0).time_ms == NOW + 1, "genesis has the time of the closing header"
    # Parents of round 1 at +100, +110, +120, +130: over half of their stake lies at or below +120.
    assert line.commit(node(graph, 2, 2), 0).time_ms == NOW + 120
    assert line.commit(node(graph, 2, 3), 1).time_ms == NOW + 121, "always later than the commit before"


def test_time_weighs_stake() -> None:
    forge = Forge((1, 1, 1, 7))
    graph = Graph(forge.committee)
    for number in (1, 2):
        for author in range(4):
            graph.add(forge.vertex(number, author, timestamp_ms=NOW + 100 * number + 10 * author))
    assert linearizer(forge, graph).commit(node(graph, 2, 0), 0).time_ms == NOW + 130


def test_the_digest_chains_index_leader_and_vertices() -> None:
    forge, graph = grown(2)
    line = linearizer(forge, graph)
    first = line.commit(node(graph, 1, 1), 0)
    leader = forge.ref(1, 1).id
    assert first.digest == tagged("commit", ZERO_DIGEST, (1).to_bytes(8, "big"), leader, leader)
    second = line.commit(node(graph, 2, 2), 0)
    order = [forge.ref(1, author).id for author in (0, 2, 3)] + [forge.ref(2, 2).id]
    assert [vertex.id for vertex in second.vertices] == order
    assert second.digest == tagged("commit", first.digest, (2).to_bytes(8, "big"), forge.ref(2, 2).id, *order)


def commits(line: Linearizer, graph: Graph, rounds: int) -> list[CommittedSubDag]:
    return [line.commit(node(graph, number, number % 4), 0) for number in range(1, rounds + 1)]


def test_empty_commits_are_folded_until_one_carries_something() -> None:
    forge, graph = grown(5, r3a0=b"payload")
    made = commits(linearizer(forge, graph), graph, 5)
    assert [item.block for item in made] == [None, None, None, BlockBoundary(1, 1), None]
    assert [bool(item.window_root) for item in made] == [False, False, False, True, False]
    assert [bool(item.cursor) for item in made] == [False, False, False, True, False]


def test_the_leaders_of_a_round_share_a_block() -> None:
    forge, graph = grown(3, r1a0=b"a", r2a2=b"b")
    line = linearizer(forge, graph, leaders=2)
    first, second = line.commit(node(graph, 1, 0), 0), line.commit(node(graph, 1, 1), 1)
    assert (first.block, first.content) == (None, ())
    assert (second.block, second.content) == (BlockBoundary(1, 1), (forge.made[1, 0],))
    assert (second.vertices, line.owes_block) == ((forge.made[1, 1],), False)


def test_a_block_waits_for_no_slot_that_was_skipped() -> None:
    """What the first slot of a round ordered is closed by the next round's first slot, with what that one brings."""
    forge, graph = grown(3, r1a0=b"a", r2a2=b"b")
    line = linearizer(forge, graph, leaders=2)
    assert line.commit(node(graph, 1, 0), 0).block is None
    assert line.owes_block
    closing = line.commit(node(graph, 2, 2), 0)
    assert (closing.block, closing.content) == (BlockBoundary(1, 1), (forge.made[1, 0], forge.made[2, 2]))
    assert not line.owes_block


def test_a_leader_whose_round_has_no_slots_left_closes_its_block() -> None:
    """It changed the schedule: the slot that is settled is its round's last."""
    forge, graph = grown(1, r1a0=b"a")
    assert linearizer(forge, graph, leaders=2).commit(node(graph, 1, 0), 1).block == BlockBoundary(1, 1)


def test_evidence_closes_a_block_as_well() -> None:
    forge = Forge()
    graph = Graph(forge.committee)
    graph.add(replace(forge.vertex(1, 1), evidence=(b"evidence",)))
    assert linearizer(forge, graph).commit(node(graph, 1, 1), 0).block == BlockBoundary(1, 1)


def test_the_heartbeat_closes_a_block_on_an_idle_chain() -> None:
    forge, graph = grown(4)
    late = forge.vertex(5, 1, [forge.ref(4, author) for author in (1, 0, 2, 3)], timestamp_ms=NOW + 500)
    graph.add(late)
    for author in (0, 2, 3):
        graph.add(forge.vertex(5, author, timestamp_ms=NOW + HEARTBEAT + author))
    graph.add(forge.vertex(6, 2))
    line = linearizer(forge, graph)
    assert all(item.block is None for item in commits(line, graph, 5))
    closing = line.commit(node(graph, 6, 2), 0)
    assert closing.time_ms == NOW + HEARTBEAT + 2
    assert closing.block == BlockBoundary(1, 1)
    assert line.checkpoint.block_time_ms == closing.time_ms


def test_the_window_root_binds_what_the_next_commit_needs() -> None:
    forge, graph = grown(12, r1a0=b"x", r9a0=b"x", r11a1=b"y")
    line = linearizer(forge, graph)
    closing = [item for item in commits(line, graph, 12) if item.block is not None][-1]
    checkpoint = decode_cursor(closing.cursor)
    leader = checkpoint.leader
    assert leader is not None
    assert closing.index == 12
    ids = sorted(
        forge.ref(number, author).id
        for number in range(leader.round - DEPTH + 1, leader.round + 1)
        for author in range(4)
        if number < leader.round or author == leader.author
    )
    numbers = (leader.round, 0, 12, closing.time_ms)
    expected = tagged(
        "window", b"".join(item.to_bytes(8, "big") for item in numbers), closing.digest, ZERO_DIGEST, *ids
    )
    assert closing.window_root == expected == checkpoint.window_root


def test_a_cursor_leads_back_to_the_same_window_and_the_same_next_commits() -> None:
    forge, graph = grown(16, r9a0=b"x", r14a0=b"y")
    line = linearizer(forge, graph)
    made = commits(line, graph, 15)
    closing = next(item for item in made if item.block is not None)
    checkpoint = decode_cursor(closing.cursor)
    again = Graph(forge.committee)
    again.prune(checkpoint.gc_round(DEPTH))
    for number in range(again.pruned_round + 1, 17):
        for author in range(4):
            again.add(forge.made[number, author])
    resumed = linearizer(forge, again, checkpoint)
    assert resumed.restore() is None
    assert resumed.window_root() == checkpoint.window_root
    rest = [resumed.commit(node(again, number, number % 4), 0) for number in range(closing.index + 1, 16)]
    assert rest == made[closing.index :]


def test_a_lost_vertex_is_named_on_the_way_back() -> None:
    forge, graph = grown(3, r1a0=b"x", r2a0=b"x")
    line = linearizer(forge, graph)
    checkpoint = decode_cursor([item for item in commits(line, graph, 3) if item.block][-1].cursor)
    again = Graph(forge.committee)
    for vertex in (forge.made[1, author] for author in range(4)):
        again.add(vertex)
    assert linearizer(forge, again, checkpoint).restore() == forge.ref(3, 3)


def test_cursors_come_back_and_bad_ones_are_refused() -> None:
    forge, graph = grown(3, r1a0=b"x")
    line = linearizer(forge, graph)
    commits(line, graph, 3)
    raw = encode_cursor(line.checkpoint)
    assert decode_cursor(raw) == line.checkpoint
    for length in range(len(raw)):
        with pytest.raises(Rejection):
            decode_cursor(raw[:length])
    with pytest.raises(Rejection, match=r"cursor\.version: expected 2\.\.2, got 1"):
        decode_cursor(raw[:1] + b"\x01" + raw[2:])


def test_a_vertex_carries_its_payload_to_the_executor_once() -> None:
    forge, graph = grown(6, r1a0=b"x")
    line = linearizer(forge, graph)
    carried: list[Vertex] = [vertex for item in commits(line, graph, 6) for vertex in item.vertices if vertex.payload]
    assert [vertex.id for vertex in carried] == [forge.ref(1, 0).id]
