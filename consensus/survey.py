"""A look at the recent DAG for people: rounds, vertices, leader slots with their verdicts, and each authority's part.

Read from an engine's graph and nothing else, so it costs what the rounds asked for hold. Verdicts are the commit rule's
own (docs/protocol.md, section 6); one is final once every slot before it is decided. Non-goals: what was pruned.
"""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice
from typing import Final

from consensus.dag.committee import Committee
from consensus.dag.graph import Graph, Node
from consensus.order.committer import Decision, Slot, Verdict
from consensus.order.conduct import Record
from consensus.order.sequencer import Sequencer
from mpisa.primitives.identifiers import Epoch

MAX_ROUNDS: Final = 200


@dataclass(frozen=True, slots=True)
class SeenVertex:
    """A vertex: whose, what it builds on, how many bytes of payload its header names, and whether a commit took it."""

    id: bytes
    round: int
    author: int
    time_ms: int
    parents: tuple[tuple[int, int, bytes], ...]
    payload_bytes: int
    signatures: int
    committed: bool


@dataclass(frozen=True, slots=True)
class SeenSlot:
    """A leader slot; `vertex` is the one committed. `final`: ordered, or skipped for good."""

    number: int
    authority: int
    verdict: Verdict
    final: bool
    vertex: bytes | None


@dataclass(frozen=True, slots=True)
class SeenRound:
    """Vertices by author (twins in order of arrival), slots by number."""

    number: int
    vertices: tuple[SeenVertex, ...]
    slots: tuple[SeenSlot, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """An authority's part in the rounds looked at: rounds with a vertex, leader slots it could vote for and did, slots
    it led and what became of those; and its standing. `last_round` and `last_ms` are of its latest vertex.
    """

    authority: int
    power: int
    last_round: int
    last_ms: int | None
    vertices: int
    asked: int
    voted: int
    led: int
    committed: int
    skipped: int
    points: int
    suspended_until: int
    suspect: bool
    equivocator: bool


@dataclass(frozen=True, slots=True)
class Survey:
    """Rounds ascending, parts by authority."""

    epoch: Epoch
    gc_round: int
    commit_index: int
    rounds: tuple[SeenRound, ...]
    parts: tuple[Part, ...]


def look(
    epoch: Epoch,
    committee: Committee,
    graph: Graph,
    sequencer: Sequencer,
    suspects: Collection[int],
    equivocators: Collection[int],
    count: int,
) -> Survey:
    """The last `count` rounds, at most MAX_ROUNDS and those that aren't pruned."""
    highest = graph.highest_round
    first = max(graph.pruned_round + 1, highest - min(count, MAX_ROUNDS) + 1, 1)
    verdicts = sequencer.committer.verdicts(first)
    rounds = tuple(_round(graph, sequencer, verdicts.get(number), number) for number in range(first, highest + 1))
    checkpoint = sequencer.linearizer.checkpoint
    conduct = {record.author: record for record in checkpoint.conduct}
    parts = tuple(
        _part(committee, graph, rounds, conduct, author, author in suspects, author in equivocators)
        for author in range(len(committee))
    )
    return Survey(epoch, graph.pruned_round, checkpoint.index, rounds, parts)


def find_vertices(graph: Graph, prefix: bytes) -> list[SeenVertex]:
    """Those whose id begins so, two at most: more than one means that the prefix is too short."""
    found = (node for node in graph.nodes() if node.id.startswith(prefix))
    return [_describe(node) for node in islice(found, 2)]


def _describe(node: Node) -> SeenVertex:
    header = node.vertex.header
    return SeenVertex(
        node.id,
        node.round,
        node.author,
        header.timestamp_ms,
        tuple((ref.round, ref.author, ref.id) for ref in node.parents),
        header.payload_length,
        len(header.execution_signatures),
        node.committed,
    )


def _round(graph: Graph, sequencer: Sequencer, decisions: list[Decision] | None, number: int) -> SeenRound:
    vertices = tuple(
        _describe(node) for author in sorted(graph.authors_at(number)) for node in graph.at(number, author)
    )
    last = sequencer.last_slot
    if decisions is None:  # nobody votes on it yet
        leaders = sequencer.committer.schedule.leaders(number)
        decisions = [
            Decision(Slot(number, place), leader, Verdict.UNDECIDED, None) for place, leader in enumerate(leaders)
        ]
    slots = tuple(
        SeenSlot(
            item.slot.number,
            item.authority,
            item.verdict,
            last is not None and item.slot <= last,
            None if item.node is None else item.node.id,
        )
        for item in decisions
    )
    return SeenRound(number, vertices, slots)


def _part(
    committee: Committee,
    graph: Graph,
    rounds: tuple[SeenRound, ...],
    conduct: dict[int, Record],
    author: int,
    suspect: bool,
    equivocator: bool,
) -> Part:
    led = [slot for item in rounds for slot in item.slots if slot.authority == author]
    asked = voted = 0
    for item in rounds:
        for node in graph.at(item.number + 1, author)[:1]:
            asked += len(item.slots)
            voted += sum(slot.authority in node.votes for slot in item.slots)
    last = graph.latest_round(author)
    latest = graph.at(last, author)
    record = conduct.get(author)
    return Part(
        authority=author,
        power=committee.powers[author],
        last_round=last,
        last_ms=latest[0].vertex.timestamp_ms if latest else None,
        vertices=sum(any(vertex.author == author for vertex in item.vertices) for item in rounds),
        asked=asked,
        voted=voted,
        led=len(led),
        committed=sum(slot.verdict is Verdict.COMMIT for slot in led),
        skipped=sum(slot.verdict is Verdict.SKIP for slot in led),
        points=0 if record is None else record.points,
        suspended_until=0 if record is None else record.until,
        suspect=suspect,
        equivocator=equivocator,
    )
