"""Signed vertices and engines for tests."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from consensus.dag.committee import Committee
from consensus.dag.vertex import (
    ExecutionSignature,
    Vertex,
    VertexHeader,
    VertexRef,
    encode_vertex,
    evidence_root,
    genesis_refs,
    payload_root,
    sign_vertex,
)
from consensus.engine import Engine
from consensus.events import Effect, PayloadProvided, RequestPayload, SetTimer, TimerFired, TimerKind, VertexReceived
from consensus.identity import Seat
from consensus.order.epoch import EpochStart
from consensus.parameters import Parameters
from mpisa.primitives.identifiers import AuthorityIndex, Epoch, Round
from tests.simulator.world import ANCHOR, CHAIN_HASH, committee_of

NOW = 1_000_000
Kind = TypeVar("Kind")


class Forge:
    """Makes any authority's vertices; remembers the first of each round and author."""

    def __init__(self, powers: Sequence[int] = (1, 1, 1, 1)) -> None:
        self.committee: Committee
        self.committee, self.keys = committee_of(tuple(powers))
        self.genesis = genesis_refs(ANCHOR, len(powers))
        self.made: dict[tuple[int, int], Vertex] = {}

    def ref(self, round_number: int, author: int) -> VertexRef:
        """The ref of the author's first vertex of the round."""
        return self.made[round_number, author].ref if round_number else self.genesis[author]

    def vertex(
        self,
        round_number: int,
        author: int,
        parents: Iterable[VertexRef] | None = None,
        *,
        payload: bytes = b"",
        evidence: tuple[bytes, ...] = (),
        signatures: tuple[ExecutionSignature, ...] = (),
        timestamp_ms: int = NOW,
        chain_hash: bytes = CHAIN_HASH,
        epoch: int = 0,
        keep: bool = True,
    ) -> Vertex:
        """A signed vertex; its parents are all known ones of the round below, own first, unless given."""
        if parents is None:
            below = round_number - 1
            others = [item for item in range(len(self.committee)) if item != author]
            parents = [self.ref(below, item) for item in (author, *others) if below == 0 or (below, item) in self.made]
        header = VertexHeader(
            chain_hash=chain_hash,
            epoch=Epoch(epoch),
            round=Round(round_number),
            author=AuthorityIndex(author),
            timestamp_ms=timestamp_ms,
            parents=tuple(parents),
            payload_root=payload_root(payload),
            payload_length=len(payload),
            execution_signatures=signatures,
            evidence_root=evidence_root(evidence),
        )
        vertex = sign_vertex(header, payload, evidence, self.keys[author][0])
        if keep:
            self.made.setdefault((round_number, author), vertex)
        return vertex

    def layer(self, round_number: int, authors: Iterable[int]) -> list[Vertex]:
        """A round of vertices that reference everything in the round below."""
        return [self.vertex(round_number, author) for author in authors]

    def engine(self, own: int | None = 0, parameters: Parameters | None = None) -> Engine:
        """A fresh engine of this authority (None: a follower)."""
        return Engine(parameters or Parameters(), CHAIN_HASH, self.start, self.seat(own))

    @property
    def start(self) -> EpochStart:
        """Where the epoch begins."""
        return EpochStart(Epoch(0), self.committee, ANCHOR, 0)

    def seat(self, own: int | None = 0) -> Seat | None:
        """The place of an authority (None: of a follower)."""
        return None if own is None else Seat(AuthorityIndex(own), self.keys[own][0])


def receive(engine: Engine, vertex: Vertex, now_ms: int = NOW, sender: int | None = None) -> list[Effect]:
    """Hand a vertex in."""
    origin = vertex.author if sender is None else AuthorityIndex(sender)
    return engine.handle(VertexReceived(origin, vertex), now_ms)


def receive_all(engine: Engine, vertices: Iterable[Vertex], now_ms: int = NOW) -> list[Effect]:
    """Hand vertices in one by one; all effects."""
    return [effect for vertex in vertices for effect in receive(engine, vertex, now_ms)]


def of_kind(effects: Iterable[Effect], kind: type[Kind]) -> list[Kind]:
    """The effects of one kind."""
    return [effect for effect in effects if isinstance(effect, kind)]


def timer(effects: Iterable[Effect], kind: TimerKind) -> int | None:
    """The time that was last asked for."""
    times = [effect.at_ms for effect in of_kind(effects, SetTimer) if effect.kind is kind]
    return times[-1] if times else None


def propose(engine: Engine, now_ms: int, payload: bytes = b"") -> list[Effect]:
    """Let the round timer fire, and answer the request for a payload; all effects."""
    effects = engine.handle(TimerFired(TimerKind.ROUND), now_ms)
    for request in of_kind(effects, RequestPayload):
        effects = [*effects, *engine.handle(PayloadProvided(request.round, payload), now_ms)]
    return effects


def raw_of(vertex: Vertex) -> bytes:
    """The vertex as it is sent."""
    return encode_vertex(vertex)
