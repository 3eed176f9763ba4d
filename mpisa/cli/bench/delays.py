"""How many message delays ordering takes, and what a vertex costs, with real engines over a network of one delay.

Virtual time, no losses, every message takes DELAY_MS, thinking takes none: so the answer is the protocol's own and the
same on every machine. A leader's vertex counts from its proposal to the commit that it leads, at every authority. What
does depend on the machine is the CPU time an engine spends on a vertex it receives. Executing and certifying are left
out: both follow ordering.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from consensus.dag.committee import Authority, Committee
from consensus.dag.vertex import VertexRef, decode_vertex
from consensus.engine import Engine
from consensus.events import (
    Broadcast,
    Commit,
    Effect,
    Event,
    PayloadProvided,
    RequestPayload,
    SetTimer,
    TimerFired,
    TimerKind,
    VertexReceived,
)
from consensus.identity import Seat
from consensus.order.epoch import EpochStart
from consensus.parameters import Parameters
from mpisa.primitives.digest import sha256, tagged
from mpisa.primitives.identifiers import AuthorityIndex, Epoch
from mpisa.primitives.keys import KeyKind, private_key

SIZES = (4, 10, 25, 50)
DELAY_MS = 100
START_MS = 1_000_000
VERTICES = 6_000
"""Received in all at each size, about: fewer rounds where there are more authorities."""

MIN_ROUNDS = 12
PACE = Parameters(min_round_delay_ms=0, round_timeout_ms=10 * DELAY_MS, timeout_cap_ms=100 * DELAY_MS)
"""A node paces its rounds by some 20 ms each: taken out, since here a message delay is the unit."""

CHAIN_HASH = sha256(b"bench chain")
ANCHOR = sha256(b"bench anchor")
_PAYLOAD = b"p" * 200


@dataclass(frozen=True, slots=True)
class Delays:
    """At `authorities`: delays from a leader's proposal to its commit, from any vertex's, and CPU time a vertex."""

    authorities: int
    to_order: float
    to_order_any: float
    vertex_us: float


@dataclass(slots=True)
class _Network:
    """Messages and timers under way; ties go in the order in which they were sent."""

    now: int = START_MS
    parameters: Parameters = PACE
    queue: list[tuple[int, int, int, Event]] = field(default_factory=list)
    order: Any = field(default_factory=count)
    engines: list[Engine] = field(default_factory=list)
    timers: dict[tuple[int, TimerKind], int] = field(default_factory=dict)
    proposed: dict[VertexRef, int] = field(default_factory=dict)
    led: list[int] = field(default_factory=list)
    ordered: list[int] = field(default_factory=list)
    received: int = 0
    cpu_s: float = 0.0

    def send(self, at: int, to: int, event: Event) -> None:
        heapq.heappush(self.queue, (at, next(self.order), to, event))

    def perform(self, own: int, effects: Iterable[Effect]) -> None:
        """What an authority's engine wants done."""
        for effect in effects:
            match effect:
                case Broadcast():
                    vertex = decode_vertex(effect.raw, self.parameters)
                    self.proposed.setdefault(vertex.ref, self.now)
                    for other in range(len(self.engines)):
                        if other != own:
                            received = VertexReceived(AuthorityIndex(own), vertex)
                            self.send(self.now + DELAY_MS, other, received)
                case RequestPayload():
                    self.send(self.now, own, PayloadProvided(effect.round, _PAYLOAD))
                case SetTimer():
                    self.timers[own, effect.kind] = effect.at_ms
                    self.send(max(self.now, effect.at_ms), own, TimerFired(effect.kind))
                case Commit():
                    self.led.append(self.now - self.proposed[effect.commit.leader])
                    self.ordered += [self.now - self.proposed[vertex.ref] for vertex in effect.commit.vertices]
                case _:
                    pass

    def run(self, until_round: int) -> None:
        """Until that many rounds have gone by."""
        while max(ref.round for ref in self.proposed) < until_round if self.proposed else True:
            self.now, _, to, event = heapq.heappop(self.queue)
            if isinstance(event, TimerFired) and self.timers.get((to, event.kind)) != self.now:
                continue  # it was set anew meanwhile
            begun = time.thread_time()
            effects = self.engines[to].handle(event, self.now)
            self.cpu_s += time.thread_time() - begun
            self.received += isinstance(event, VertexReceived)
            self.perform(to, effects)


def committee_of(size: int) -> tuple[Committee, list[Seat]]:
    """Authorities of equal power with keys that their number determines."""
    members = []
    for number in range(size):
        certificate = private_key(KeyKind.SECP256K1, tagged("bench-certificate", number.to_bytes(4, "big")))
        consensus = private_key(KeyKind.ED25519, tagged("bench-consensus", number.to_bytes(4, "big")))
        members.append((certificate.public_key.address, consensus))
    members.sort(key=lambda member: member[0])
    committee = Committee(
        [
            Authority(AuthorityIndex(index), address, 1, key.public_key.data, f"authority {index}")
            for index, (address, key) in enumerate(members)
        ]
    )
    return committee, [Seat(AuthorityIndex(index), key) for index, (_, key) in enumerate(members)]


def measure(size: int) -> Delays:
    """One network of this size, from its first round on."""
    committee, seats = committee_of(size)
    network = _Network()
    start = EpochStart(Epoch(0), committee, ANCHOR, START_MS)
    network.engines = [Engine(network.parameters, CHAIN_HASH, start, seat) for seat in seats]
    for own, engine in enumerate(network.engines):
        network.perform(own, engine.start(network.now))
    network.run(max(MIN_ROUNDS, VERTICES // (size * size)))
    return Delays(
        size,
        _mean(network.led) / DELAY_MS,
        _mean(network.ordered) / DELAY_MS,
        network.cpu_s / network.received * 1e6,
    )


def _mean(values: list[int]) -> float:
    return sum(values) / len(values)
