"""A simulated node: a shell around the real consensus and the real ledger that keeps nothing but its disk in a crash.

Effects are performed strictly in order; a planned crash strikes between two of them, so before, inside and behind
every persistence point. What a node sends passes through its strategy: an honest one changes nothing. A node without a
place in the current epoch follows: it asks the members for what they have. Where the past is forgotten, it keeps up as
`keeping_up.py` says: its engine rests while it applies certified blocks or joins from a snapshot.
"""

from typing import TYPE_CHECKING

from consensus import events as e
from consensus.dag.committee import Committee
from consensus.dag.vertex import ExecutionSignature, Vertex, VertexRef
from consensus.identity import Identity, Seat
from consensus.order.ranges import CertifiedBlock
from consensus.succession import Succession
from mpisa.ledger.payload import decode_payload, encode_payload
from mpisa.node.execution import outline_of, refs_of
from mpisa.node.keeping_up import SignatureShelf
from mpisa.primitives.account import Account
from mpisa.primitives.header import Certificate, sign_header
from mpisa.primitives.identifiers import AuthorityIndex, Epoch, Round
from mpisa.primitives.keys import PrivateKey
from mpisa.primitives.state_keys import account_key
from tests.simulator.disk import Disk
from tests.simulator.keeping_up import KeepingUp
from tests.simulator.keys import Keys, seat_keys
from tests.simulator.ledger import Block
from tests.simulator.machine import start_machine, stored_epoch
from tests.simulator.provider import Provider
from tests.simulator.scenario import Loss
from tests.simulator.sources import Driver
from tests.simulator.strategies import Strategy

if TYPE_CHECKING:
    from tests.simulator.world import World

CLOCK_MS = 1_000_000
POLL_MS = 150
GENERATIONS = 3


class Node:
    """One seat. `commits`, `history` and `certified` are what this life and earlier ones reported, for the invariants;
    `gaps` are commits that it never saw, folded into blocks of ranges or below a snapshot.
    """

    def __init__(self, world: "World", seat: int, strategy: Strategy) -> None:
        self.world = world
        self.seat = seat
        self.strategy = strategy
        members = len(world.scenario.powers)
        self.keys: list[Keys] = [seat_keys(seat, members, generation) for generation in range(GENERATIONS)]
        self._generation = 0
        self.disk = Disk(world.ledger.first)
        self.engine: Succession | None = None
        self.provider: Provider | None = None
        self.open: dict[Epoch, Committee] = {}
        self.pool: dict[bytes, bytes] = {}
        self.commits: dict[int, e.CommittedSubDag] = {}
        self.gaps: set[int] = set()
        self.history: dict[int, Block] = {}
        self.joins: list[int] = []
        self.certified: dict[int, bytes] = {}
        self.accused: set[int] = set()
        self.halts: list[str] = []
        self.life = 0
        self.process = 0
        self.starts = 0
        self.is_up = False
        self.proposed_early: list[str] = []
        self._owed = 0
        self._folded: list[tuple[VertexRef, ...]] = []
        self._shelf = SignatureShelf()
        self.offended = False
        self.crash_after: int | None = None
        self.loss = Loss.TAIL
        skews = world.scenario.skews_ms
        self.skew_ms = skews[seat % len(skews)] if skews else 0
        self._timers: dict[tuple[Epoch, e.TimerKind], int] = {}
        self._headers = {header.public_key.address: header for _, header in self.keys}
        self._seats: dict[Committee, Seat | None] = {}
        self.identity = Identity(tuple(self._headers), tuple(vertex for vertex, _ in self.keys))
        world.holders.update(dict.fromkeys(self._headers, seat))

    # Who it is.

    def next_keys(self) -> Keys:
        """The pair to change to: a node holds its next keys before it asks for them."""
        self._generation = min(self._generation + 1, GENERATIONS - 1)
        return self.keys[self._generation]

    def seat_in(self, committee: Committee) -> Seat | None:
        """The place in a committee."""
        if committee not in self._seats:
            self._seats[committee] = self.identity.seat_in(committee)
        return self._seats[committee]

    @property
    def index_in_current(self) -> AuthorityIndex | None:
        """Which authority of the current epoch this is, None for a follower and for a node that is down."""
        return None if self.engine is None else self.engine.own

    def header_key(self, committee: Committee) -> PrivateKey | None:
        """The key that signs headers in a committee."""
        held = self.seat_in(committee)
        return None if held is None else self._headers[committee[held.index].address]

    @property
    def last_block(self) -> Block:
        """The last executed block."""
        return self.disk.head

    def is_seated(self) -> bool:
        """Whether it has a place in an epoch that is open here, or in that of the next block."""
        committees = [*self.open.values(), self.disk.starts[self.disk.epoch].committee]
        return any(self.seat_in(committee) is not None for committee in committees)

    # Life and death.

    def boot(self) -> None:
        """Start from the disk."""
        world = self.world
        self.process += 1
        self.starts += 1
        self.is_up = True
        world.note(self.seat, "starts" if self.starts == 1 else "starts again")
        if world.scenario.history is None:
            self.begin()
            return
        self.provider = Provider(self, world.scenario.parameters)
        self.provider.begin()
        if self.strategy.is_byzantine:
            self.begin()
        else:
            keeping_up = KeepingUp(self)
            self._owed = world.least_certified(self) if keeping_up.is_blank() else 0
            Driver(self, keeping_up.run()).resume()

    def begin(self) -> None:
        """The engine goes on from the disk."""
        world = self.world
        self.life += 1
        self._timers.clear()
        self.open.clear()
        self._folded.clear()
        faulty = self.strategy.is_byzantine
        self.engine = start_machine(world.scenario.parameters, world.ledger, self.identity, self.disk, shameless=faulty)
        shelf, self._shelf = self._shelf, SignatureShelf()
        for event in shelf.events_above(self.disk.height):
            self.soon(0, event)
        self.perform(self.engine.start(self.clock()))
        for block in list(self.disk.blocks):
            if block.header.height not in self.disk.certificates:
                self.handle(self._executed(block))
        self.strategy.start(self)
        self._poll(self.life)

    def rest(self) -> None:
        """The engine rests: certified blocks are applied instead."""
        if self.engine is not None:
            self.world.note(self.seat, "lets its engine rest")
        self.life += 1
        self.engine = None
        self.open.clear()

    def crash(self, loss: Loss = Loss.TAIL) -> None:
        """Die now, in the middle of whatever."""
        self.world.note(self.seat, f"dies, losing {loss}")
        self.life += 1
        self.process += 1
        self.is_up = False
        self.engine = None
        self.provider = None
        self.crash_after = None
        self.open.clear()
        self.pool.clear()
        self._shelf = SignatureShelf()
        if loss is Loss.DISK:
            self.disk = Disk(self.world.ledger.first)
            self.commits.clear()
            self.gaps.clear()
            self.history.clear()
            self.certified.clear()
        elif loss is Loss.TAIL:
            self.disk.lose_power(self.world.random)

    def strikes(self) -> bool:
        """Whether a planned crash strikes here."""
        if self.crash_after is None:
            return False
        self.crash_after -= 1
        if self.crash_after < 0:
            self.crash(self.loss)
            return True
        return False

    def clock(self) -> int:
        """The node's own idea of the time."""
        return CLOCK_MS + self.world.now + self.skew_ms

    def peers(self) -> list[int]:
        """The seats of the members of all epochs that are open here, without this one."""
        committees = list(self.open.values()) or [self.disk.starts[self.disk.epoch].committee]
        found = {self.world.holders[item.address] for members in committees for item in members.authorities}
        return sorted(found - {self.seat})

    def _poll(self, life: int) -> None:
        """A follower asks for what the members have."""
        if self.life != life or self.engine is None:
            return
        if self.engine.own is None:
            members = self.engine.committee
            turn = AuthorityIndex(self.world.now // POLL_MS % len(members))
            first = max(1, self.engine.status().highest_accepted_round - 2)
            self.world.ask_range(self, e.RequestRange(turn, Round(first), self.engine.epoch))
        self.world.later(POLL_MS, lambda: self._poll(life))

    # Events in, effects out.

    def handle(self, event: e.Event) -> None:
        """Hand an event in and perform what comes out."""
        if self.engine is not None:
            self.perform(self.engine.handle(event, self.clock()))
        elif self.is_up:
            self._shelf.take_in(event)

    def perform(self, effects: list[e.Effect]) -> None:
        """Strictly in order; a planned crash strikes between two effects."""
        life = self.life
        for effect in effects:
            if self.life != life:
                return
            if self.strikes():
                return
            _PERFORMERS[type(effect)](self, effect)

    def soon(self, delay_ms: int, event: e.Event) -> None:
        """Hand this in then, unless the node dies before."""
        life = self.life
        self.world.later(delay_ms, lambda: self.life == life and self.handle(event))

    def _persist(self, effect: e.Persist) -> None:
        self.disk.write(effect)
        for record in effect.records:
            if isinstance(record, e.ProposalRecord):
                self._look_early(self.world.verify(self, record.raw))

    def _broadcast(self, effect: e.Broadcast) -> None:
        world = self.world
        vertex = world.verify(self, effect.raw)
        key = (vertex.header.epoch, self.open[vertex.header.epoch][vertex.author].address, vertex.round)
        world.signed.setdefault(key, set()).add(vertex.id)
        for signature in vertex.header.execution_signatures:
            self._sign(signature, vertex.header.epoch)
        for peer, raw, delay_ms in self.strategy.vertices(self, vertex, effect.raw):
            world.send_vertex(self.seat, peer, raw, delay_ms)

    def _look_early(self, vertex: Vertex) -> None:
        """Whether it had caught up when it made this, as far as it knew, and with all that everybody else had when it
        started. One that was made before a crash may well be sent first behind it; one of an epoch that is over carries
        nothing, and says nothing of the epoch in which the node is behind.
        """
        assert self.engine is not None
        is_current = vertex.header.epoch == self.engine.epoch
        if is_current and (self.engine.status().catching_up or self.disk.height < self._owed):
            place = f"round {vertex.round} of epoch {vertex.header.epoch}"
            self.proposed_early.append(f"{place} at height {self.disk.height}, owed {self._owed}")

    def _broadcast_signature(self, effect: e.BroadcastSignature) -> None:
        signature = effect.signature
        self._sign(signature, effect.epoch)
        for peer, sent in self.strategy.signatures(self, signature, effect.epoch):
            self.world.send(self.seat, peer, e.ExecutionSignatureReceived(sent.authority, sent, effect.epoch))

    def _sign(self, signature: ExecutionSignature, epoch: Epoch) -> None:
        """An execution signature leaves the node, in a vertex or by itself."""
        key = (self.open[epoch][signature.authority].address, signature.height)
        self.world.headers_signed.setdefault(key, set()).add(signature.header_hash)

    def _set_timer(self, effect: e.SetTimer) -> None:
        key = (effect.epoch, effect.kind)
        self._timers[key] = effect.at_ms
        life = self.life

        def fire() -> None:
            if self.life == life and self._timers.get(key) == effect.at_ms:
                del self._timers[key]
                self.handle(e.TimerFired(effect.kind, effect.epoch))

        self.world.later(max(0, effect.at_ms - self.clock()), fire)

    def _provide_payload(self, effect: e.RequestPayload) -> None:
        raws = list(self.pool.values())
        self.pool.clear()
        self.soon(0, e.PayloadProvided(effect.round, encode_payload(raws), effect.epoch))

    def _ask_ancestors(self, effect: e.RequestAncestors) -> None:
        self.world.ask_ancestors(self, effect)

    def _ask_range(self, effect: e.RequestRange) -> None:
        self.world.ask_range(self, effect)

    def _ask_certificate(self, effect: e.RequestCertificate) -> None:
        self.world.ask_certificate(self, effect)

    def _commit(self, effect: e.Commit) -> None:
        """Execution and its batch are durable before the next effect; the event about it comes a little later.

        Commits of an epoch that the last block closed are void.
        """
        commit, last = effect.commit, self.last_block
        if commit.epoch < last.start.epoch and commit.index > last.header.last_commit:
            return
        before = self.commits.get(commit.index)
        assert before is None or before.digest == commit.digest, "a commit changed across a restart"
        self.commits[commit.index] = commit
        self.gaps.discard(commit.index)
        if commit.index <= last.header.last_commit:
            return
        if commit.block is None:
            self._folded.append(refs_of(commit))
            return
        folded, self._folded = self._folded, []
        block = self.world.ledger.execute(last, commit, lambda: outline_of(folded, commit), self._lineage)
        self._append(block, sync=True)
        for raw in block.transactions:
            self.pool.pop(raw, None)
        self._forget_void(block)
        text = f"block {block.header.height} by commit {commit.index}, {len(block.transactions)} transactions"
        self.world.note(self.seat, text + (", the epoch's last" if block.header.closes_epoch else ""))
        self.soon(self.world.random.randint(0, 5), self._executed(block))

    @property
    def _lineage(self) -> int | None:
        return self.seat if self.joins else None

    def _append(self, block: Block, *, sync: bool) -> None:
        self.disk.append(block, sync=sync)
        self.history[block.header.height] = block
        if self.provider is not None:
            self.provider.executed(block.header)

    def apply(self, block: CertifiedBlock, *, sync: bool) -> None:
        """Execute a block that others certified: it must come out as theirs."""
        header, last = block.header, self.last_block
        done = self.world.ledger.execute(last, block.commit, lambda: block.outline, self._lineage)
        if done.header != header:
            self.halts.append(f"diverged at height {header.height}")
            return
        self.gaps.update(set(range(header.first_commit, header.last_commit)) - self.commits.keys())
        before = self.commits.get(header.last_commit)
        assert before is None or before.digest == block.commit.digest, "a commit differs from the certified one"
        self.commits[header.last_commit] = block.commit
        self._append(done, sync=sync)
        self.world.note(self.seat, f"applies block {header.height}, {len(done.transactions)} transactions")
        self._forget_void(done)
        if block.certificate is not None:
            self._certify(e.Certified(header.height, done.hash, block.certificate))

    def joined(self, base: Block, certificate: Certificate) -> None:
        """The ledger goes on from a snapshot."""
        header = base.header
        self.joins.append(header.height)
        self.gaps.update(set(range(1, header.last_commit + 1)) - self.commits.keys())
        for index in [index for index in self.commits if index > header.last_commit]:
            del self.commits[index]
        self.certified[header.height] = base.hash
        self.world.note(self.seat, f"has joined at height {header.height}")

    def _forget_void(self, block: Block) -> None:
        """Folded commits behind a closing block were reported before it was executed."""
        if block.header.closes_epoch:
            for index in [index for index in self.commits if index > block.header.last_commit]:
                del self.commits[index]

    def _executed(self, block: Block) -> e.Executed:
        era = block.eras[block.header.epoch]
        key = self.header_key(era.committee)
        signature = b"" if key is None else sign_header(key, block.header)
        return e.Executed(block.header.height, block.hash, signature, block.header, block.next_committee)

    def _certify(self, effect: e.Certified) -> None:
        self.disk.certify(effect.height, effect.certificate)
        self.world.certified(self, effect)
        if self.provider is not None:
            self.provider.certified(effect.height)

    def _evidence(self, effect: e.EvidenceFound) -> None:
        seat = self.world.holders[self.open[effect.epoch][effect.author].address]
        self.accused.add(seat)
        self.world.note(self.seat, f"has evidence against node {seat}: {effect.kind} {effect.position}")

    def _lapsed(self, effect: e.PayloadLapsed) -> None:
        self.world.note(self.seat, f"its payload of round {effect.round} lapsed")
        for raw in () if self.strategy.is_byzantine else decode_payload(effect.payload):
            self.submit(raw)

    def _halt(self, effect: e.Halt) -> None:
        self.halts.append(effect.reason)
        self.world.note(self.seat, f"halts: {effect.reason}")

    def _fault(self, effect: e.PeerFault) -> None:
        seat = self.world.holders[self.open[effect.epoch][effect.author].address]
        self.world.faults.append((self.seat, seat, effect.rejection))

    def _recall(self, effect: e.RecallEpoch) -> None:
        stored = stored_epoch(self.disk, self.world.scenario.parameters, self.world.ledger, effect.epoch)
        self.soon(0, e.EpochRecalled(effect.epoch, stored))

    def _opened(self, effect: e.EpochOpened) -> None:
        self.open[effect.epoch] = effect.committee
        place = "follows" if effect.own is None else f"is authority {effect.own} of {len(effect.committee)}"
        self.world.note(self.seat, f"opens epoch {effect.epoch}: {place}")

    def _dropped(self, effect: e.EpochDropped) -> None:
        del self.open[effect.epoch]

    # What clients do.

    def submit(self, raw: bytes) -> None:
        """Take a transaction into the pool, unless it was executed already."""
        if not self.is_up:
            return
        transaction = self.world.ledger.decode(raw).transaction
        data = self.last_block.state.get(account_key(transaction.sender))
        if data is not None and Account.decode(transaction.sender, data).nonce > transaction.nonce:
            return
        if self.engine is None or self.engine.own is None:
            self.world.forward(self, raw)
            return
        self.pool[raw] = raw
        self.soon(0, e.PayloadWaiting())


_PERFORMERS = {
    e.Persist: Node._persist,
    e.Broadcast: Node._broadcast,
    e.BroadcastSignature: Node._broadcast_signature,
    e.SetTimer: Node._set_timer,
    e.RequestPayload: Node._provide_payload,
    e.RequestAncestors: Node._ask_ancestors,
    e.RequestRange: Node._ask_range,
    e.RequestCertificate: Node._ask_certificate,
    e.Commit: Node._commit,
    e.Certified: Node._certify,
    e.EvidenceFound: Node._evidence,
    e.PayloadLapsed: Node._lapsed,
    e.PeerFault: Node._fault,
    e.Halt: Node._halt,
    e.RecallEpoch: Node._recall,
    e.EpochOpened: Node._opened,
    e.EpochDropped: Node._dropped,
}
