"""Twins: two engines with one key, under enumerated partitions and leader schedules (docs/protocol.md, section 14).

Four authorities, one of them run twice, so five instances. A scenario is a number: its digits say which leader
schedule holds, which authority has the twin, and how the five are partitioned in each of the first phases. Instances
talk within their part only; then all partitions end. Whatever the twins sign between them, the three others agree,
and go on. Leaders are drawn by stake from the hash before the epoch, with stakes so nearly equal that any three of
four are a quorum: each anchor is another schedule, with runs of one leader that round robin never has.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from random import Random

from consensus.dag.validation import verify_vertex
from consensus.dag.vertex import Vertex, VertexRef
from consensus.engine import Engine
from consensus.events import (
    AncestorsUnavailable,
    Broadcast,
    Commit,
    CommittedSubDag,
    Effect,
    Event,
    EvidenceFound,
    Halt,
    PayloadProvided,
    Persist,
    RequestAncestors,
    RequestPayload,
    RequestRange,
    SetTimer,
    TimerFired,
    TimerKind,
    VertexReceived,
    VertexRecord,
)
from consensus.identity import Seat
from consensus.order.epoch import EpochStart
from consensus.parameters import Parameters
from mpisa.primitives.digest import sha256
from mpisa.primitives.identifiers import AuthorityIndex, Epoch
from tests.simulator.invariants import Broken, expect
from tests.simulator.keys import CHAIN_HASH, committee_of
from tests.simulator.machine import Shameless

POWERS = (100, 100, 100, 101)
AUTHORITIES = len(POWERS)
INSTANCES = AUTHORITIES + 1
PHASES = 7
PHASE_MS = 14
HOP_MS = 1
SETTLE_MS = 700
MORE_COMMITS = 6
QUICK = Parameters(
    min_round_delay_ms=4,
    round_timeout_ms=10,
    timeout_cap_ms=40,
    idle_delay_ms=0,
    first_proposal_delay_ms=0,
    fetch_delay_ms=1,
    fetch_timeout_ms=6,
    fetch_timeout_cap_ms=20,
    gc_depth=30,
    heartbeat_ms=60,
)
# The ways to split five instances into two groups, written as the group of each; the first instance is in group 0.
PARTITIONS = tuple((0, *rest) for rest in product((0, 1), repeat=INSTANCES - 1))


@dataclass(frozen=True, slots=True)
class TwinsCase:
    """Which authority runs twice (the last instance is its twin), the anchor of the leader schedule, and the groups of
    the five instances in each phase.
    """

    number: int
    twin: int
    anchor: bytes
    phases: tuple[tuple[int, ...], ...]


def twins_case(number: int) -> TwinsCase:
    """The case with this number. Digits are scattered, so that any range of numbers is a fair sample of them all."""
    random = Random(f"twins {number}")
    twin = random.randrange(AUTHORITIES)
    anchor = sha256(b"twins anchor", random.randrange(1 << 16).to_bytes(4, "big"))
    phases = tuple(random.choice(PARTITIONS) for _ in range(PHASES))
    return TwinsCase(number, twin, anchor, phases)


class Instance:
    """An engine, what it stored, and what it committed."""

    def __init__(self, world: "TwinsWorld", place: int, index: int) -> None:
        self.world = world
        self.place = place
        self.index = AuthorityIndex(index)
        committee, keys = committee_of(POWERS)
        start = EpochStart(Epoch(0), committee, world.case.anchor, 0)
        self.engine = Engine(QUICK, CHAIN_HASH, start, Seat(self.index, keys[index][0]))
        self.is_twin = index == world.case.twin
        if self.is_twin:
            self.engine._presence = Shameless(committee, self.index)
        self.vertices: dict[VertexRef, bytes] = {}
        self.commits: list[CommittedSubDag] = []
        self.evidence: set[int] = set()
        self.halts: list[str] = []
        self._timers: dict[TimerKind, int] = {}
        self._payloads = 0

    def start(self) -> None:
        """Begin."""
        self._perform(self.engine.start(self.world.now))

    def handle(self, event: Event) -> None:
        """Hand an event in and perform what comes out."""
        self._perform(self.engine.handle(event, self.world.now))

    def _perform(self, effects: list[Effect]) -> None:
        world = self.world
        for effect in effects:
            match effect:
                case Persist():
                    for record in effect.records:
                        if isinstance(record, VertexRecord):
                            self.vertices[VertexRef(record.round, record.author, record.id)] = record.raw
                case Broadcast():
                    world.broadcast(self, effect.raw)
                case SetTimer():
                    self._set_timer(effect)
                case RequestPayload():
                    self._payloads += 1
                    payload = b"%d of %d" % (self._payloads, self.place)
                    self.handle_later(PayloadProvided(effect.round, payload if self._payloads % 2 else b""))
                case RequestAncestors():
                    world.ask(self, effect)
                case Commit():
                    self.commits.append(effect.commit)
                case EvidenceFound():
                    self.evidence.add(effect.author)
                case Halt():
                    self.halts.append(effect.reason)
                case RequestRange():
                    world.ask_range(self, effect)
                case _:
                    pass

    def handle_later(self, event: Event) -> None:
        """Behind what is being performed now."""
        self.world.later(0, lambda: self.handle(event))

    def _set_timer(self, effect: SetTimer) -> None:
        self._timers[effect.kind] = effect.at_ms

        def fire() -> None:
            if self._timers.get(effect.kind) == effect.at_ms:
                del self._timers[effect.kind]
                self.handle(TimerFired(effect.kind))

        self.world.later(max(0, effect.at_ms - self.world.now), fire)


class TwinsWorld:
    """Five instances and the partitions between them. Messages take one hop; nothing is random."""

    def __init__(self, case: TwinsCase) -> None:
        self.case = case
        self.now = 0
        self.instances = [Instance(self, place, place) for place in range(AUTHORITIES)]
        self.instances.append(Instance(self, AUTHORITIES, case.twin))
        self.honest = [instance for instance in self.instances if not instance.is_twin]
        self.shown: dict[int, set[bytes]] = {}
        self._committee, _ = committee_of(POWERS)
        self._verified: dict[bytes, Vertex] = {}
        self._queue: list[tuple[int, int, Callable[[], object]]] = []
        self._sequence = 0

    def later(self, delay_ms: int, action: Callable[[], object]) -> None:
        """Do this then."""
        self._sequence += 1
        heapq.heappush(self._queue, (self.now + delay_ms, self._sequence, action))

    def advance(self, until_ms: int) -> None:
        """Run until this time."""
        while self._queue and self._queue[0][0] <= until_ms:
            self.now, _, action = heapq.heappop(self._queue)
            action()
        self.now = until_ms

    def run(self) -> None:
        """All phases, then everybody together until each has more commits; raises Broken."""
        for instance in self.instances:
            self.later(0, instance.start)
        self.advance(PHASES * PHASE_MS)
        self._check("partitioned")
        goal = max(len(instance.commits) for instance in self.honest) + MORE_COMMITS
        end = self.now + SETTLE_MS
        while self.now < end and any(len(instance.commits) < goal for instance in self.honest):
            self.advance(self.now + 10)
        self._check("healed")
        counts = [len(instance.commits) for instance in self.honest]
        expect(min(counts) >= goal, f"{self.case}: no progress, {counts} commits, expected {goal}")
        doubled = [number for number, ids in self.shown.items() if len(ids) > 1 and number < self._lowest_round()]
        for instance in self.honest:
            accused = instance.engine.status().evidence
            expect(not doubled or accused == (self.case.twin,), f"{self.case}: {doubled} doubled, {accused} accused")

    def reaches(self, sender: Instance, receiver: Instance) -> bool:
        """Whether they are in one part now."""
        phase = self.now // PHASE_MS
        if phase >= len(self.case.phases):
            return True
        groups = self.case.phases[phase]
        return groups[sender.place] == groups[receiver.place]

    def broadcast(self, sender: Instance, raw: bytes) -> None:
        """To all others in the sender's part, its own twin too."""
        vertex = self._verify(raw)
        for receiver in self.instances:
            if receiver is not sender and self.reaches(sender, receiver):
                self._deliver(sender, receiver, vertex, HOP_MS)

    def ask(self, asker: Instance, request: RequestAncestors) -> None:
        """Every instance of that authority in the asker's part answers."""
        for peer in self._asked(asker, request.to):
            found = [ref for ref in request.refs if ref in peer.vertices]
            for ref in found:
                self._deliver(peer, asker, self._verify(peer.vertices[ref]), 2 * HOP_MS)
            lacking = tuple(ref for ref in request.refs if ref not in peer.vertices)
            if lacking:
                unavailable = AncestorsUnavailable(lacking, peer.index)
                self.later(2 * HOP_MS, lambda event=unavailable: asker.handle(event))

    def ask_range(self, asker: Instance, request: RequestRange) -> None:
        """As above; every vertex from the round on."""
        for peer in self._asked(asker, request.to):
            for ref in sorted(peer.vertices):
                if ref.round >= request.from_round:
                    self._deliver(peer, asker, self._verify(peer.vertices[ref]), 2 * HOP_MS)

    def _deliver(self, sender: Instance, receiver: Instance, vertex: Vertex, delay_ms: int) -> None:
        if vertex.author == self.case.twin and not receiver.is_twin:
            self.shown.setdefault(vertex.round, set()).add(vertex.id)
        self.later(delay_ms, lambda: receiver.handle(VertexReceived(sender.index, vertex)))

    def _asked(self, asker: Instance, to: int) -> list[Instance]:
        return [peer for peer in self.instances if peer.index == to and self.reaches(asker, peer)]

    def _lowest_round(self) -> int:
        return min(instance.engine.status().open_round for instance in self.honest)

    def _verify(self, raw: bytes) -> Vertex:
        vertex = self._verified.get(raw)
        if vertex is None:
            vertex = self._verified[raw] = verify_vertex(raw, self._committee, CHAIN_HASH, QUICK)
        return vertex

    def _check(self, when: str) -> None:
        longest = max(self.honest, key=lambda instance: len(instance.commits)).commits
        for instance in self.honest:
            expect(not instance.halts, f"{self.case} {when}: {instance.place} halted: {instance.halts}")
            expect(instance.evidence <= {self.case.twin}, f"{self.case} {when}: {instance.evidence} accused")
            for mine, theirs in zip(instance.commits, longest, strict=False):
                same = (mine.digest, mine.time_ms, mine.window_root) == (
                    theirs.digest,
                    theirs.time_ms,
                    theirs.window_root,
                )
                expect(same, f"{self.case} {when}: authority {instance.place} has another commit {mine.index}")


def run_twins(number: int) -> int:
    """Run a case; how many commits the longest chain has. Raises Broken."""
    world = TwinsWorld(twins_case(number))
    world.run()
    return max(len(instance.commits) for instance in world.honest)


__all__ = ["Broken", "TwinsCase", "TwinsWorld", "run_twins", "twins_case"]
