"""Two of seven show each of the five honest ones a branch of its own, all at once: the chain goes on.

The branches reach down to round 1: a chain of authority 1 whose last vertices stand on a chain of authority 0 each.
Every honest authority builds on what it was shown before it hears of the others' branches.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable

from consensus import events as e
from consensus.dag.validation import verify_vertex
from consensus.dag.vertex import Vertex, VertexRef, decode_vertex, encode_vertex
from consensus.engine import Engine
from consensus.parameters import Parameters
from mpisa.primitives.identifiers import AuthorityIndex
from tests.consensus.forge import NOW, Forge
from tests.simulator.world import CHAIN_HASH

PARAMETERS = Parameters(idle_delay_ms=0, first_proposal_delay_ms=0, gc_depth=20)
HONEST = range(2, 7)
BOMBED_ROUNDS = 12
TWINS = 4
"""Of an author and round in each branch: what an authority may introduce while one equivocator is known."""

DELAY_MS = 5


class Net:
    """Five engines, even delays, and whoever forges for the other two: it answers every question."""

    def __init__(self) -> None:
        self.now = NOW
        self.forge = Forge((1,) * 7)
        self.engines: dict[int, Engine] = {seat: self.forge.engine(seat, PARAMETERS) for seat in HONEST}
        self.stored: dict[int, dict[bytes, bytes]] = {seat: {} for seat in HONEST}
        self.forged: dict[bytes, bytes] = {}
        self.commits: dict[int, list[bytes]] = {seat: [] for seat in HONEST}
        self.found: dict[int, set[int]] = {seat: set() for seat in HONEST}
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._sequence = 0

    def later(self, delay_ms: int, action: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._queue, (self.now + delay_ms, self._sequence, action))

    def run(self, milliseconds: int) -> None:
        end = self.now + milliseconds
        while self._queue and self._queue[0][0] <= end:
            self.now, _, action = heapq.heappop(self._queue)
            action()
        self.now = end

    def start(self) -> None:
        for seat, engine in self.engines.items():
            self.perform(seat, engine.start(self.now))

    def give(self, seat: int, sender: int, raw: bytes, delay_ms: int = DELAY_MS) -> None:
        vertex = verify_vertex(raw, self.forge.committee, CHAIN_HASH, PARAMETERS)
        event = e.VertexReceived(AuthorityIndex(sender), vertex)
        self.later(delay_ms, lambda: self.perform(seat, self.engines[seat].handle(event, self.now)))

    def hand(self, seat: int, event: e.Event, delay_ms: int) -> None:
        self.later(delay_ms, lambda: self.perform(seat, self.engines[seat].handle(event, self.now)))

    def perform(self, seat: int, effects: Iterable[e.Effect]) -> None:
        for effect in effects:
            match effect:
                case e.Persist():
                    for record in effect.records:
                        if isinstance(record, e.VertexRecord):
                            self.stored[seat][record.id] = record.raw
                case e.Broadcast():
                    vertex = decode_vertex(effect.raw, PARAMETERS)
                    self.forge.made.setdefault((vertex.round, vertex.author), vertex)
                    for other in HONEST:
                        if other != seat:
                            self.give(other, seat, effect.raw)
                case e.SetTimer():
                    self.hand(seat, e.TimerFired(effect.kind), max(0, effect.at_ms - self.now))
                case e.RequestPayload():
                    self.hand(seat, e.PayloadProvided(effect.round, b""), 0)
                case e.RequestAncestors():
                    self.answer(seat, effect)
                case e.Commit():
                    self.commits[seat].append(effect.commit.digest)
                case e.EvidenceFound():
                    self.found[seat].add(effect.author)
                case e.Halt():
                    raise AssertionError(effect.reason)
                case _:
                    pass

    def answer(self, seat: int, request: e.RequestAncestors) -> None:
        store = self.stored.get(request.to, self.forged)
        lacking = tuple(ref for ref in request.refs if ref.id not in store)
        for ref in request.refs:
            if ref.id in store:
                self.give(seat, request.to, store[ref.id], 2 * DELAY_MS)
        if lacking:
            self.hand(seat, e.AncestorsUnavailable(lacking, request.to), 2 * DELAY_MS)

    def make(self, number: int, author: int, own: VertexRef, extra: list[VertexRef], mark: bytes) -> Vertex:
        parents = [own, *(self.forge.ref(number - 1, other) for other in HONEST), *extra]
        vertex = self.forge.vertex(number, author, parents, payload=mark, timestamp_ms=0, keep=False)
        self.forged[vertex.id] = encode_vertex(vertex)
        return vertex

    def bomb(self) -> None:
        """Every honest authority gets the top of a branch that no other was shown, in the same instant: it fetches all
        of it before any of it is in the graph, and then builds on it at once.
        """
        for victim in HONEST:
            last = self.forge.genesis[1]
            for number in range(1, BOMBED_ROUNDS + 1):
                below = self.forge.genesis[0]
                twins = range(1, number) if number > BOMBED_ROUNDS - TWINS else ()
                for lower in twins:
                    below = self.make(lower, 0, below, [], b"%d %d %d" % (victim, number, lower)).ref
                last = self.make(number, 1, last, [below] if twins else [], b"%d %d" % (victim, number)).ref
            self.give(victim, 1, self.forged[last.id], 0)


def test_the_chain_goes_on() -> None:
    net = Net()
    net.start()
    while any((BOMBED_ROUNDS, seat) not in net.forge.made for seat in HONEST):
        net.run(10)
    net.bomb()
    net.run(1_000)
    counts = [len(commits) for commits in net.commits.values()]
    net.run(3_000)
    assert min(len(commits) for commits in net.commits.values()) > max(counts) + 40
    shortest = min(len(commits) for commits in net.commits.values())
    assert len({tuple(commits[:shortest]) for commits in net.commits.values()}) == 1
    for seat, engine in net.engines.items():
        status = engine.status()
        assert status.evidence == (0, 1), f"authority {seat} knows both"
        assert status.vertices <= (status.highest_accepted_round - status.gc_round) * (5 + 2 * 41)
        assert status.halted is None
    for seat in HONEST:
        shown = [decode_vertex(raw, PARAMETERS).author for raw in net.stored[seat].values()]
        assert shown.count(0) >= 5 * TWINS, "it had to take what all five were shown"
