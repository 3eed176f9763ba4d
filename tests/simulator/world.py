"""The simulator: real engines, a virtual clock, one seed (docs/protocol.md, section 14).

Everything that happens is drawn from the seed and happens in the order of (time, sequence number), so a seed replays
bit for bit. Nodes keep nothing but their `Disk` across a crash. Equivocators are ordinary nodes whose broadcasts are
forked on the way out. After every run the invariants of `check` must hold.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from random import Random

from consensus.dag.committee import Authority, Committee
from consensus.dag.validation import verify_vertex
from consensus.dag.vertex import Vertex, decode_vertex, encode_vertex, payload_root, sign_vertex
from consensus.engine import Engine
from consensus.events import (
    AncestorsUnavailable,
    Broadcast,
    BroadcastSignature,
    Certified,
    Commit,
    CommittedSubDag,
    Effect,
    Event,
    EvidenceFound,
    Executed,
    ExecutionSignatureReceived,
    Halt,
    PayloadLapsed,
    PayloadProvided,
    PayloadWaiting,
    PeerFault,
    Persist,
    RangeEnded,
    RequestAncestors,
    RequestPayload,
    RequestRange,
    SetTimer,
    StoredEpoch,
    TimerFired,
    VertexReceived,
)
from consensus.identity import Seat
from consensus.order.epoch import EpochStart
from consensus.parameters import Parameters
from mpisa.primitives.digest import ZERO_DIGEST, sha256, tagged
from mpisa.primitives.header import (
    Header,
    Validator,
    ValidatorSet,
    header_hash,
    sign_header,
    verify_certificate,
)
from mpisa.primitives.identifiers import AuthorityIndex, Epoch, Height, Round
from mpisa.primitives.keys import KeyKind, PrivateKey, private_key
from tests.simulator.disk import Disk
from tests.simulator.network import LinkFaults, Links

CHAIN_HASH = tagged("chain", b"simulator")
ANCHOR = tagged("anchor", b"simulator")
TOKEN_BYTES = 12


@cache
def keys_of(seat: int) -> tuple[PrivateKey, PrivateKey]:
    """The vertex key and the certificate key of a simulated authority."""
    material = seat.to_bytes(4, "big")
    return (
        private_key(KeyKind.ED25519, sha256(b"vertex", material)),
        private_key(KeyKind.SECP256K1, sha256(b"header", material)),
    )


@cache
def committee_of(powers: tuple[int, ...]) -> tuple[Committee, tuple[tuple[PrivateKey, PrivateKey], ...]]:
    """A committee of these powers, and its keys by authority."""
    seats = sorted((keys_of(seat) for seat in range(len(powers))), key=lambda pair: pair[1].address)
    authorities = [
        Authority(AuthorityIndex(index), pair[1].address, power, pair[0].public_key.data)
        for index, (pair, power) in enumerate(zip(seats, powers, strict=True))
    ]
    return Committee(authorities), tuple(seats)


@dataclass(frozen=True)
class Scenario:
    """What a run is made of; times in ms."""

    seed: int
    powers: tuple[int, ...] = (1, 1, 1, 1)
    parameters: Parameters = field(default_factory=Parameters)
    duration_ms: int = 4_000
    faults: LinkFaults = field(default_factory=lambda: LinkFaults(heal_ms=0))
    crashes: tuple[tuple[int, int, int], ...] = ()
    partition: tuple[frozenset[int], int, int] | None = None
    equivocators: frozenset[int] = frozenset()
    silent: frozenset[int] = frozenset()
    skews_ms: tuple[int, ...] = ()
    payload_every_ms: int = 60
    payloads_until_ms: int = 3_000


class Node:
    """A shell around a real engine."""

    def __init__(self, world: "World", index: int) -> None:
        self.world = world
        self.index = AuthorityIndex(index)
        self.disk = Disk()
        self.engine: Engine | None = None
        self.pool: list[bytes] = []
        self.commits: dict[int, CommittedSubDag] = {}
        self.certified: dict[int, bytes] = {}
        self.evidence: set[int] = set()
        self.halts: list[str] = []
        self.life = 0
        self.starts = 0
        self.crash_after: int | None = None

    def boot(self) -> None:
        """Start from the disk."""
        world, scenario = self.world, self.world.scenario
        self.life += 1
        self.starts += 1
        stored = StoredEpoch(
            self.disk.cursor,
            [decode_vertex(raw, scenario.parameters) for raw in self.disk.vertices.values()],
            self.disk.proposal,
        )
        start = EpochStart(Epoch(0), world.committee, ANCHOR, 0)
        seat = Seat(self.index, world.keys[self.index][0])
        self.engine = Engine.recover(scenario.parameters, CHAIN_HASH, start, seat, stored)
        self.perform(self.engine.start(self.clock()))
        for height, (digest, signature) in enumerate(self.disk.headers, 1):
            if height not in self.certified:
                self.handle(Executed(Height(height), digest, signature, world.blocks[digest]))

    def crash(self) -> None:
        """Die now, in the middle of whatever."""
        self.life += 1
        self.engine = None
        self.crash_after = None
        self.pool.clear()
        self.disk.lose_power(self.world.random)

    def clock(self) -> int:
        """The node's own idea of the time."""
        skews = self.world.scenario.skews_ms
        return 1_000_000 + self.world.now + (skews[self.index] if skews else 0)

    def handle(self, event: Event) -> None:
        """Hand an event in and perform what comes out."""
        if self.engine is not None:
            self.perform(self.engine.handle(event, self.clock()))

    def perform(self, effects: list[Effect]) -> None:
        """Strictly in order; a planned crash strikes between two effects."""
        life = self.life
        for effect in effects:
            if self.life != life:
                return
            if self.crash_after is not None:
                self.crash_after -= 1
                if self.crash_after < 0:
                    self.crash()
                    return
            self._perform(effect)

    def _perform(self, effect: Effect) -> None:
        world = self.world
        match effect:
            case Persist():
                self.disk.write(effect)
            case Broadcast():
                world.broadcast(self, effect.raw)
            case BroadcastSignature():
                for peer in world.peers(self.index):
                    world.send(self.index, peer, ExecutionSignatureReceived(self.index, effect.signature))
            case SetTimer():
                life = self.life
                delay = max(0, effect.at_ms - self.clock())
                world.later(delay, lambda: self.life == life and self.handle(TimerFired(effect.kind)))
            case RequestPayload():
                payload = b"".join(self.pool)
                self.pool.clear()
                life = self.life
                world.later(0, lambda: self.life == life and self.handle(PayloadProvided(effect.round, payload)))
            case RequestAncestors():
                world.ask_ancestors(self, effect)
            case RequestRange():
                world.ask_range(self, effect)
            case Commit():
                self._execute(effect.commit)
            case Certified():
                world.certify(self, effect)
            case EvidenceFound():
                self.evidence.add(effect.author)
            case PayloadLapsed():
                self.pool.append(effect.payload)
                life = self.life
                world.later(0, lambda: self.life == life and self.handle(PayloadWaiting()))
            case Halt():
                self.halts.append(effect.reason)
            case PeerFault():
                raise AssertionError(f"seed {world.scenario.seed}: {effect}")

    def _execute(self, commit: CommittedSubDag) -> None:
        """Execution is a hash; its batch is durable at once, the event about it comes a little later."""
        before = self.commits.get(commit.index)
        assert before is None or before.digest == commit.digest, "a commit changed across a restart"
        self.commits[commit.index] = commit
        if commit.block is None:
            return
        height = commit.block.height
        if height <= len(self.disk.headers):
            assert self.world.blocks[self.disk.headers[height - 1][0]].commit_digest == commit.digest
            return
        header = self.world.make_header(self, commit)
        signature = sign_header(self.world.keys[self.index][1], header)
        self.disk.headers.append((header_hash(header), signature))
        self.disk.cursor = commit.cursor
        life = self.life
        event = Executed(height, header_hash(header), signature, header)
        self.world.later(self.world.random.randint(0, 5), lambda: self.life == life and self.handle(event))


class World:
    """All nodes, the links between them, and the queue of what is to come."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.random = Random(scenario.seed)
        self.now = 0
        self.committee, self.keys = committee_of(scenario.powers)
        self.validators = ValidatorSet.of(
            Validator(authority.address, authority.power) for authority in self.committee.authorities
        )
        self.links = Links(self.random, len(scenario.powers), scenario.faults)
        self.nodes = [Node(self, index) for index in range(len(scenario.powers))]
        self.blocks: dict[bytes, Header] = {}
        self.signed: dict[tuple[int, int], set[bytes]] = {}
        self.tokens = 0
        self.messages = 0
        self._verified: dict[bytes, Vertex] = {}
        self._queue: list[tuple[int, int, Callable[[], object]]] = []
        self._sequence = 0

    def later(self, delay_ms: int, action: Callable[[], object]) -> None:
        """Do this then."""
        self._sequence += 1
        heapq.heappush(self._queue, (self.now + delay_ms, self._sequence, action))

    def run(self) -> "World":
        """The whole scenario."""
        scenario = self.scenario
        for node in self.nodes:
            if node.index not in scenario.silent:
                self.later(self.random.randint(0, 50), node.boot)
        for index, at_ms, down_ms in scenario.crashes:
            self.later(at_ms, lambda index=index, down_ms=down_ms: self._plan_crash(index, down_ms))
        if scenario.partition is not None:
            members, at_ms, until_ms = scenario.partition
            self.later(at_ms, lambda: self.links.cut(set(members), until_ms))
        for at_ms in range(100, scenario.payloads_until_ms, max(1, scenario.payload_every_ms)):
            self.later(at_ms, self._submit)
        self.advance(scenario.duration_ms)
        return self

    def advance(self, until_ms: int) -> None:
        """Run until this time."""
        while self._queue and self._queue[0][0] <= until_ms:
            self.now, _, action = heapq.heappop(self._queue)
            action()
        self.now = until_ms

    def peers(self, index: int) -> list[int]:
        """All but this one."""
        return [peer for peer in range(len(self.nodes)) if peer != index]

    def honest(self) -> list[Node]:
        """Those that keep to the protocol and run."""
        scenario = self.scenario
        return [node for node in self.nodes if node.index not in scenario.equivocators | scenario.silent]

    def send(self, sender: int, receiver: int, event: Event) -> None:
        """One message over a link."""
        self.messages += 1
        for arrival in self.links.arrivals(sender, receiver, self.now):
            self.later(arrival - self.now, lambda: self.nodes[receiver].handle(event))

    def verify(self, raw: bytes) -> Vertex:
        """As a shell would on receipt; a second check of the same bytes is skipped for speed."""
        vertex = self._verified.get(raw)
        if vertex is None:
            vertex = verify_vertex(raw, self.committee, CHAIN_HASH, self.scenario.parameters)
            self._verified[raw] = vertex
        return vertex

    def broadcast(self, node: Node, raw: bytes) -> None:
        """An own vertex to everyone; an equivocator's twin to some."""
        vertex = self.verify(raw)
        fork = self._fork(node, vertex) if node.index in self.scenario.equivocators else vertex
        self.signed.setdefault((node.index, vertex.round), set()).add(vertex.id)
        offset = self.random.randint(0, 1)
        for position, peer in enumerate(self.peers(node.index)):
            chosen = fork if (position + offset) % 2 else vertex
            self.send(node.index, peer, VertexReceived(node.index, chosen))

    def _fork(self, node: Node, vertex: Vertex) -> Vertex:
        payload = b"twin of node %d" % node.index
        header = replace(
            vertex.header,
            timestamp_ms=vertex.timestamp_ms + 1,
            payload_root=payload_root(payload),
            payload_length=len(payload),
        )
        twin = sign_vertex(header, payload, vertex.evidence, self.keys[node.index][0])
        node.disk.vertices[twin.ref] = encode_vertex(twin)
        return self.verify(encode_vertex(twin))

    def ask_ancestors(self, node: Node, request: RequestAncestors) -> None:
        """The other side answers from its disk, over the same links."""

        def answer() -> None:
            peer = self.nodes[request.to]
            if peer.engine is None:
                return
            lacking = tuple(ref for ref in request.refs if ref not in peer.disk.vertices)
            for ref in request.refs:
                if ref not in lacking:
                    event = VertexReceived(peer.index, self.verify(peer.disk.vertices[ref]))
                    self.send(peer.index, node.index, event)
            if lacking:
                self.send(peer.index, node.index, AncestorsUnavailable(lacking, peer.index))

        for arrival in self.links.arrivals(node.index, request.to, self.now):
            self.later(arrival - self.now, answer)

    def ask_range(self, node: Node, request: RequestRange) -> None:
        """A range comes over a stream: in order, all at once."""
        rounds = self.scenario.parameters.range_rounds

        def answer() -> None:
            peer = self.nodes[request.to]
            if peer.engine is None:
                return
            raws = peer.disk.from_round(request.from_round, rounds)
            for arrival in self.links.arrivals(peer.index, node.index, self.now):
                self.later(arrival - self.now, lambda: deliver(peer, raws))

        def deliver(peer: Node, raws: list[bytes]) -> None:
            for raw in raws:
                node.handle(VertexReceived(peer.index, self.verify(raw)))
            node.handle(RangeEnded(peer.index))

        for arrival in self.links.arrivals(node.index, request.to, self.now):
            self.later(arrival - self.now, answer)

    def make_header(self, node: Node, commit: CommittedSubDag) -> Header:
        """The header of a block whose state is the hash of all payloads so far."""
        assert commit.block is not None
        chain = node.disk.headers
        previous = chain[-1][0] if chain else ZERO_DIGEST
        before = self.blocks[previous].state_root if chain else ZERO_DIGEST
        header = Header(
            chain_hash=CHAIN_HASH,
            height=commit.block.height,
            time_ms=commit.time_ms,
            epoch=commit.epoch,
            first_commit=commit.block.first_commit,
            last_commit=commit.index,
            previous=previous,
            commit_digest=commit.digest,
            window_root=commit.window_root,
            tx_root=ZERO_DIGEST,
            receipts_root=ZERO_DIGEST,
            state_root=sha256(before, *(vertex.payload for vertex in commit.vertices)),
            validators_hash=self.validators.hash,
            next_validators_hash=ZERO_DIGEST,
        )
        self.blocks[header_hash(header)] = header
        return header

    def certify(self, node: Node, certified: Certified) -> None:
        """Check the certificate as a light client would."""
        verify_certificate(self.blocks[certified.header_hash], certified.certificate, self.validators)
        node.certified[certified.height] = certified.header_hash

    def _plan_crash(self, index: int, down_ms: int) -> None:
        node = self.nodes[index]
        node.crash_after = self.random.randint(0, 12)
        self.later(down_ms, lambda: self._restart(node))

    def _restart(self, node: Node) -> None:
        if node.engine is not None:
            node.crash()
        node.boot()

    def _submit(self) -> None:
        node = self.random.choice(self.nodes)
        if node.engine is None:
            return
        self.tokens += 1
        node.pool.append(b"tx" + self.tokens.to_bytes(TOKEN_BYTES - 2, "big"))
        node.handle(PayloadWaiting())


def committed_tokens(commits: dict[int, CommittedSubDag]) -> list[bytes]:
    """The clients' tokens in order of commitment."""
    tokens: list[bytes] = []
    for index in sorted(commits):
        for vertex in commits[index].vertices:
            payload = vertex.payload
            if not payload.startswith(b"twin"):
                tokens.extend(payload[start : start + TOKEN_BYTES] for start in range(0, len(payload), TOKEN_BYTES))
    return tokens


def check_safety(world: World) -> None:
    """Prefix-consistent commits and headers, one signature a round, each payload once."""
    where = f"seed {world.scenario.seed}"
    honest = world.honest()
    for node in honest:
        assert node.halts == [], f"{where}: node {node.index} halted: {node.halts}"
        assert sorted(node.commits) == list(range(1, len(node.commits) + 1)), f"{where}: gaps in node {node.index}"
        tokens = committed_tokens(node.commits)
        assert len(tokens) == len(set(tokens)), f"{where}: node {node.index} committed a payload twice"
    longest = max(honest, key=lambda node: len(node.commits))
    for node in honest:
        for index, commit in node.commits.items():
            other = longest.commits[index]
            mine = (commit.digest, commit.leader, commit.time_ms, commit.block, commit.window_root, commit.cursor)
            theirs = (other.digest, other.leader, other.time_ms, other.block, other.window_root, other.cursor)
            assert mine == theirs, f"{where}: nodes {node.index} and {longest.index} differ at commit {index}"
        for (digest, _), (other, _) in zip(node.disk.headers, longest.disk.headers, strict=False):
            assert digest == other, f"{where}: headers differ"
        for height, digest in node.certified.items():
            assert digest == node.disk.headers[height - 1][0], f"{where}: certified another header"
    for (author, round_number), ids in world.signed.items():
        assert len(ids) == 1, f"{where}: authority {author} signed {len(ids)} vertices for round {round_number}"


def check_liveness(world: World, more_commits: int, within_ms: int) -> None:
    """From now on, every honest node gets at least so many commits above today's highest within the time."""
    highest = max(len(node.commits) for node in world.honest())
    goal = highest + more_commits
    deadline = world.now + within_ms
    while world.now < deadline and any(len(node.commits) < goal for node in world.honest()):
        world.advance(world.now + 50)
    counts = [len(node.commits) for node in world.nodes]
    assert all(len(node.commits) >= goal for node in world.honest()), (
        f"seed {world.scenario.seed}: {counts} commits {within_ms} ms after {highest}: "
        f"{[node.engine.status() for node in world.nodes if node.engine is not None]}"
    )


__all__ = ["Node", "Round", "Scenario", "World", "check_liveness", "check_safety", "committed_tokens"]
