"""A town of nodes that run successions: a virtual clock, even delays, disks that survive a crash.

Each node holds seats, from whose numbers its keys follow; a committee is a set of seats. The ledger is a list of
payloads; one that reads `close:NAME` closes the epoch for the committee of that name. Members send to the members of
the epochs they have open, everybody else asks for ranges, as running nodes do.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

from consensus import events as e
from consensus.dag.committee import Authority, Committee
from consensus.dag.judging import Era, ListedEras, is_admissible
from consensus.dag.validation import verify_in_epochs
from consensus.dag.vertex import VertexRef, decode_vertex
from consensus.identity import Identity
from consensus.order.epoch import EpochStart, open_epochs, start_behind
from consensus.parameters import Parameters
from consensus.succession import Succession
from mpisa.primitives.digest import ZERO_DIGEST, sha256, tagged
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.header import Certificate, Header, header_hash, sign_header, verify_certificate
from mpisa.primitives.identifiers import AuthorityIndex, Epoch, Height, Round
from tests.simulator.world import CHAIN_HASH, keys_of

PARAMETERS = Parameters(
    heartbeat_ms=2_000,
    gc_depth=20,
    idle_delay_ms=200,
    range_timeout_ms=400,
    first_proposal_delay_ms=100,
    far_behind_rounds=10,
)
DELAY_MS = 5
POLL_MS = 60
CLOSE = b"close:"


def committee(*seats: int, powers: dict[int, int] | None = None) -> Committee:
    """The committee of these seats."""
    ordered = sorted(seats, key=lambda seat: keys_of(seat)[1].address)
    return Committee(
        [
            Authority(
                AuthorityIndex(index),
                keys_of(seat)[1].address,
                (powers or {}).get(seat, 1),
                keys_of(seat)[0].public_key.data,
            )
            for index, seat in enumerate(ordered)
        ]
    )


def identity(*seats: int) -> Identity:
    """The keys of these seats."""
    return Identity(tuple(keys_of(seat)[1].address for seat in seats), tuple(keys_of(seat)[0] for seat in seats))


def index_of(members: Committee, seats: tuple[int, ...]) -> AuthorityIndex | None:
    """Which authority of the committee holds one of these seats."""
    held = identity(*seats).seat_in(members)
    return None if held is None else held.index


@dataclass
class Disk:
    """What survives: synced as soon as written, for whatever is lost otherwise the engine's own tests have."""

    vertices: dict[tuple[Epoch, VertexRef], bytes] = field(default_factory=dict)
    proposals: dict[Epoch, e.ProposalRecord] = field(default_factory=dict)
    cursors: dict[Epoch, bytes] = field(default_factory=dict)
    headers: list[Header] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)
    certificates: dict[int, Certificate] = field(default_factory=dict)


class Citizen:
    """One node: a succession, a disk, a pool of payloads."""

    def __init__(self, town: Town, name: int, seats: tuple[int, ...]) -> None:
        self.town = town
        self.name = name
        self.seats = seats
        self.disk = Disk()
        self.pool: list[bytes] = []
        self.succession: Succession | None = None
        self.opened: list[tuple[Epoch, AuthorityIndex | None]] = []
        self.dropped: list[Epoch] = []
        self.effects: list[e.Effect] = []
        self.life = 0
        self.crash_before: Callable[[e.Effect], bool] | None = None

    @property
    def running(self) -> Succession:
        assert self.succession is not None, f"node {self.name} is down"
        return self.succession

    def start_of(self, epoch: int) -> EpochStart:
        """Where an epoch begins, as this node's ledger tells."""
        if epoch == 0:
            return start_behind(self.town.genesis, self.town.first)
        closing = next(header for header in self.disk.headers if header.epoch == epoch - 1 and header.closes_epoch)
        return start_behind(closing, self.town.sets[closing.next_validators_hash])

    def stored(self, epoch: Epoch) -> e.StoredEpoch:
        """What the disk holds of an epoch."""
        closing = [header for header in self.disk.headers if header.epoch == epoch and header.closes_epoch]
        return e.StoredEpoch(
            self.disk.cursors.get(epoch),
            [decode_vertex(raw, self.town.parameters) for (of, _), raw in self.disk.vertices.items() if of == epoch],
            self.disk.proposals.get(epoch),
            closing[0] if closing else None,
            earlier=self.earlier(epoch),
        )

    def earlier(self, epoch: Epoch) -> ListedEras:
        """The epochs before one that are admissible in it."""
        starts = [self.start_of(number) for number in range(epoch + 1)]
        return ListedEras(
            {
                begun.epoch: Era(begun.committee, begun.height + 1, ended.height)
                for begun, ended in pairwise(starts)
                if is_admissible(ended.time_ms, starts[-1].time_ms, self.town.unbonding_ms)
            }
        )

    def boot(self) -> None:
        """Start from the disk."""
        self.life += 1
        head = self.disk.headers[-1] if self.disk.headers else self.town.genesis
        certified = max(self.disk.certificates, default=0)
        epochs = open_epochs(head, self.start_of(head.epoch).height, certified)
        stored = [(self.start_of(epoch), self.stored(epoch)) for epoch in epochs]
        self.succession = Succession(self.town.parameters, CHAIN_HASH, identity(*self.seats), stored)
        self.perform(self.succession.start(self.town.now))
        for header in list(self.disk.headers):
            if header.height not in self.disk.certificates:
                self.handle(self.executed(header))
        self.poll(self.life)

    def crash(self) -> None:
        """Die now."""
        self.life += 1
        self.succession = None
        self.pool.clear()
        self.crash_before = None

    def submit(self, payload: bytes) -> None:
        """A client's payload."""
        self.pool.append(payload)
        self.handle(e.PayloadWaiting())

    def poll(self, life: int) -> None:
        """A node without a place in the current epoch asks for what its members have."""
        if self.life != life or self.succession is None:
            return
        if self.succession.own is None:
            members = self.succession.committee
            turn = self.town.now // POLL_MS % len(members)
            first = max(1, self.succession.status().highest_accepted_round - 2)
            request = e.RequestRange(AuthorityIndex(turn), Round(first), self.succession.epoch)
            self.town.ask_range(self, request, members)
        self.town.later(POLL_MS, lambda: self.poll(life))

    def handle(self, event: e.Event) -> None:
        if self.succession is not None:
            self.perform(self.succession.handle(event, self.town.now))

    def receive(self, sender: Citizen, raw: bytes) -> None:
        """A vertex from the wire."""
        if self.succession is None:
            return
        jurisdictions = self.succession.jurisdictions
        try:
            vertex = verify_in_epochs(raw, jurisdictions, self.town.parameters)
        except Rejection as rejection:
            if rejection.reason is not RejectionReason.WRONG_EPOCH:
                raise
            if decode_vertex(raw, self.town.parameters).header.epoch > self.succession.epoch:
                self.handle(e.EpochAhead())
            return
        index = index_of(self.succession.committees[vertex.header.epoch], sender.seats)
        self.handle(e.VertexReceived(vertex.author if index is None else index, vertex))

    def perform(self, effects: list[e.Effect]) -> None:
        life = self.life
        for effect in effects:
            if self.life != life:
                return
            if self.crash_before is not None and self.crash_before(effect):
                self.crash()
                return
            self.effects.append(effect)
            self._perform(effect)

    def soon(self, event: e.Event, delay_ms: int = 1) -> None:
        life = self.life
        self.town.later(delay_ms, lambda: self.life == life and self.handle(event))

    def _perform(self, effect: e.Effect) -> None:
        town = self.town
        match effect:
            case e.Persist():
                for record in effect.records:
                    if isinstance(record, e.VertexRecord):
                        ref = VertexRef(record.round, record.author, record.id)
                        self.disk.vertices[record.epoch, ref] = record.raw
                    else:
                        self.disk.proposals[record.epoch] = record
            case e.Broadcast():
                town.broadcast(self, effect.raw)
            case e.BroadcastSignature():
                town.push(self, effect)
            case e.SetTimer():
                self.soon(e.TimerFired(effect.kind, effect.epoch), max(0, effect.at_ms - town.now))
            case e.RequestPayload():
                payload = b"".join(item + b";" for item in self.pool)
                self.pool.clear()
                self.soon(e.PayloadProvided(effect.round, payload, effect.epoch))
            case e.RequestAncestors():
                town.ask_ancestors(self, effect, self.running.committees[effect.epoch])
            case e.RequestRange():
                town.ask_range(self, effect, self.running.committees[effect.epoch])
            case e.RequestCertificate():
                town.ask_certificate(self, effect, self.running.committees[effect.epoch])
            case e.Commit():
                self._execute(effect.commit)
            case e.Certified():
                header = self.disk.headers[effect.height - 1]
                assert header_hash(header) == effect.header_hash
                verify_certificate(header, effect.certificate, self.start_of(header.epoch).committee.validator_set)
                self.disk.certificates[effect.height] = effect.certificate
            case e.PayloadLapsed():
                self.pool.extend(effect.payload.split(b";")[:-1])
                self.soon(e.PayloadWaiting(), 0)
            case e.RecallEpoch():
                self.soon(e.EpochRecalled(effect.epoch, self.stored(effect.epoch)))
            case e.EpochOpened():
                self.opened.append((effect.epoch, effect.own))
            case e.EpochDropped():
                self.dropped.append(effect.epoch)
            case e.EvidenceFound() if town.has_offenders:
                pass
            case e.Halt() | e.PeerFault() | e.EvidenceFound():
                raise AssertionError(f"node {self.name}: {effect}")

    def _execute(self, commit: e.CommittedSubDag) -> None:
        headers = self.disk.headers
        last = headers[-1] if headers else self.town.genesis
        if (
            commit.block is None
            or commit.index <= last.last_commit
            or (last.closes_epoch and commit.epoch == last.epoch)
        ):
            return
        assert commit.block.height == last.height + 1
        items = [item for vertex in commit.content for item in vertex.payload.split(b";")[:-1]]
        closes = next((item for item in items if item.startswith(CLOSE)), None)
        following = None if closes is None else self.town.named[closes[len(CLOSE) :].decode()]
        header = Header(
            chain_hash=CHAIN_HASH,
            height=commit.block.height,
            time_ms=commit.time_ms,
            epoch=commit.epoch,
            first_commit=commit.block.first_commit,
            last_commit=commit.index,
            previous=header_hash(last),
            commit_digest=commit.digest,
            window_root=commit.window_root,
            tx_root=ZERO_DIGEST,
            receipts_root=ZERO_DIGEST,
            state_root=sha256(last.state_root, *items),
            validators_hash=last.next_validators_hash if last.closes_epoch else last.validators_hash,
            next_validators_hash=ZERO_DIGEST if following is None else following.validator_set.hash,
        )
        headers.append(header)
        self.disk.payloads.extend(items)
        self.disk.cursors[commit.epoch] = commit.cursor
        self.soon(self.executed(header), 2)

    def executed(self, header: Header) -> e.Executed:
        """The event of an executed header, signed where this node has a place in its epoch."""
        held = identity(*self.seats).seat_in(self.start_of(header.epoch).committee)
        signature = b""
        if held is not None:
            address = self.start_of(header.epoch).committee[held.index].address
            key = next(keys_of(seat)[1] for seat in self.seats if keys_of(seat)[1].address == address)
            signature = sign_header(key, header)
        following = self.town.sets[header.next_validators_hash] if header.closes_epoch else None
        return e.Executed(Height(header.height), header_hash(header), signature, header, following)


class Town:
    """All nodes and the queue of what is to come. `sets` names the committees that an epoch may be closed for."""

    def __init__(
        self,
        nodes: dict[int, tuple[int, ...]],
        first: Committee,
        named: dict[str, Committee],
        parameters: Parameters = PARAMETERS,
        unbonding_ms: int = 60_000,
    ) -> None:
        self.now = 1_000_000
        self.unbonding_ms = unbonding_ms
        self.parameters = parameters
        self.first = first
        self.named = named
        self.sets = {members.validator_set.hash: members for members in named.values()}
        self.genesis = Header(
            CHAIN_HASH,
            Height(0),
            0,
            Epoch(0),
            0,
            0,
            ZERO_DIGEST,
            ZERO_DIGEST,
            ZERO_DIGEST,
            ZERO_DIGEST,
            ZERO_DIGEST,
            tagged("state", b"town"),
            first.validator_set.hash,
            ZERO_DIGEST,
        )
        self.signed: dict[tuple[Epoch, Round, bytes], set[bytes]] = {}
        self.cut: set[int] = set()
        self.has_offenders = False
        self._queue: list[tuple[int, int, Callable[[], object]]] = []
        self._sequence = 0
        self.citizens = {name: Citizen(self, name, seats) for name, seats in nodes.items()}

    def boot(self, *names: int) -> Town:
        for name in names or tuple(self.citizens):
            self.citizens[name].boot()
        return self

    def later(self, delay_ms: int, action: Callable[[], object]) -> None:
        self._sequence += 1
        heapq.heappush(self._queue, (self.now + delay_ms, self._sequence, action))

    def run(self, milliseconds: int) -> None:
        end = self.now + milliseconds
        while self._queue and self._queue[0][0] <= end:
            self.now, _, action = heapq.heappop(self._queue)
            action()
        self.now = end

    def until(self, condition: Callable[[], bool], what: str, within_ms: int = 20_000, step_ms: int = 10) -> None:
        """Runs until the condition holds; looks at each step."""
        end = self.now + within_ms
        while not condition():
            assert self.now < end, f"not within {within_ms} ms: {what}; {self.describe()}"
            self.run(step_ms)

    def describe(self) -> str:
        lines = []
        for citizen in self.citizens.values():
            status = None if citizen.succession is None else citizen.succession.status()
            lines.append(f"{citizen.name}: {len(citizen.disk.headers)} headers, opened {citizen.opened}, {status}")
        return "\n".join(lines)

    def peers(self, citizen: Citizen) -> list[Citizen]:
        """Members of the epochs that this node has open."""
        committees = citizen.running.committees.values()
        return [
            peer
            for peer in self.citizens.values()
            if peer is not citizen and any(index_of(members, peer.seats) is not None for members in committees)
        ]

    def _reaches(self, one: Citizen, other: Citizen) -> bool:
        return one.name not in self.cut and other.name not in self.cut

    def broadcast(self, citizen: Citizen, raw: bytes) -> None:
        vertex = decode_vertex(raw, self.parameters)
        address = citizen.running.committees[vertex.header.epoch][vertex.author].address
        self.signed.setdefault((vertex.header.epoch, vertex.round, address), set()).add(vertex.id)
        for peer in self.peers(citizen):
            if self._reaches(citizen, peer):
                self.later(DELAY_MS, lambda peer=peer: peer.receive(citizen, raw))

    def push(self, citizen: Citizen, effect: e.BroadcastSignature) -> None:
        index = effect.signature.authority
        event = e.ExecutionSignatureReceived(index, effect.signature, effect.epoch)
        for peer in self.peers(citizen):
            if self._reaches(citizen, peer):
                self.later(DELAY_MS, lambda peer=peer: peer.handle(event))

    def member(self, members: Committee, index: int) -> Citizen | None:
        """The node that holds a place, if anybody here does."""
        return next((peer for peer in self.citizens.values() if index_of(members, peer.seats) == index), None)

    def _ask(self, citizen: Citizen, members: Committee, to: int, answer: Callable[[Citizen], object]) -> None:
        peer = self.member(members, to)
        if peer is not None and peer.succession is not None and self._reaches(citizen, peer):
            self.later(2 * DELAY_MS, lambda: answer(peer))

    def ask_ancestors(self, citizen: Citizen, request: e.RequestAncestors, members: Committee) -> None:
        def answer(peer: Citizen) -> None:
            lacking = []
            for ref in request.refs:
                raw = peer.disk.vertices.get((request.epoch, ref))
                if raw is None:
                    lacking.append(ref)
                else:
                    citizen.receive(peer, raw)
            if lacking:
                citizen.handle(e.AncestorsUnavailable(tuple(lacking), request.to, request.epoch))

        self._ask(citizen, members, request.to, answer)

    def ask_range(self, citizen: Citizen, request: e.RequestRange, members: Committee) -> None:
        def answer(peer: Citizen) -> None:
            last = request.from_round + self.parameters.range_rounds
            found = sorted(
                (ref, raw)
                for (epoch, ref), raw in peer.disk.vertices.items()
                if epoch == request.epoch and request.from_round <= ref.round < last
            )
            for _, raw in found:
                citizen.receive(peer, raw)
            citizen.handle(e.RangeEnded(request.to, request.epoch))

        self._ask(citizen, members, request.to, answer)

    def ask_certificate(self, citizen: Citizen, request: e.RequestCertificate, members: Committee) -> None:
        def answer(peer: Citizen) -> None:
            certificate = peer.disk.certificates.get(request.height)
            if certificate is not None:
                citizen.handle(e.CertificateReceived(request.height, certificate))

        self._ask(citizen, members, request.to, answer)

    def check(self) -> None:
        """One vertex a round and key; one chain; each payload once."""
        for (epoch, number, address), ids in self.signed.items():
            assert len(ids) == 1, f"{address.hex()} signed {len(ids)} vertices of round {number} in epoch {epoch}"
        longest = max((citizen.disk.headers for citizen in self.citizens.values()), key=len)
        for citizen in self.citizens.values():
            assert citizen.disk.headers == longest[: len(citizen.disk.headers)], f"node {citizen.name} forked"
            assert len(citizen.disk.payloads) == len(set(citizen.disk.payloads)), f"node {citizen.name}: twice"
        for before, after in itertools.pairwise(longest):
            assert after.epoch == before.epoch + before.closes_epoch
            assert after.first_commit == before.last_commit + 1
            assert after.time_ms > before.time_ms

    def in_epoch(self, epoch: int, *names: int) -> bool:
        """Whether these nodes have executed and certified a header of the epoch."""
        for name in names or tuple(self.citizens):
            disk = self.citizens[name].disk
            if not any(header.epoch == epoch and header.height in disk.certificates for header in disk.headers):
                return False
        return True
