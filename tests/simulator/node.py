"""A simulated node: a shell around the real consensus and the real ledger that keeps nothing but its disk in a crash.

Effects are performed strictly in order; a planned crash strikes between two of them, so before, inside and behind
every persistence point. What a node sends passes through its strategy: an honest one changes nothing. A node without a
place in the current epoch follows: it asks the members for what they have.
"""

from typing import TYPE_CHECKING

from consensus import events as e
from consensus.dag.committee import Committee
from consensus.identity import Identity, Seat
from consensus.succession import Succession
from mpisa.ledger.payload import decode_payload, encode_payload
from mpisa.primitives.account import Account
from mpisa.primitives.header import sign_header
from mpisa.primitives.identifiers import AuthorityIndex, Epoch, Round
from mpisa.primitives.keys import PrivateKey
from mpisa.primitives.state_keys import account_key
from tests.simulator.disk import Disk
from tests.simulator.keys import Keys, seat_keys
from tests.simulator.ledger import Block
from tests.simulator.machine import start_machine, stored_epoch
from tests.simulator.scenario import Loss
from tests.simulator.strategies import Strategy

if TYPE_CHECKING:
    from tests.simulator.world import World

CLOCK_MS = 1_000_000
POLL_MS = 150
GENERATIONS = 3


class Node:
    """One seat. `commits` and `certified` are what this life and earlier ones reported, for the invariants."""

    def __init__(self, world: "World", seat: int, strategy: Strategy) -> None:
        self.world = world
        self.seat = seat
        self.strategy = strategy
        members = len(world.scenario.powers)
        self.keys: list[Keys] = [seat_keys(seat, members, generation) for generation in range(GENERATIONS)]
        self._generation = 0
        self.disk = Disk()
        self.engine: Succession | None = None
        self.open: dict[Epoch, Committee] = {}
        self.pool: dict[bytes, bytes] = {}
        self.commits: dict[int, e.CommittedSubDag] = {}
        self.certified: dict[int, bytes] = {}
        self.accused: set[int] = set()
        self.halts: list[str] = []
        self.life = 0
        self.starts = 0
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
        return self.disk.blocks[-1] if self.disk.blocks else self.world.ledger.first

    # Life and death.

    def boot(self) -> None:
        """Start from the disk."""
        world = self.world
        self.life += 1
        self.starts += 1
        self._timers.clear()
        self.open.clear()
        faulty = self.strategy.is_byzantine
        self.engine = start_machine(world.scenario.parameters, world.ledger, self.identity, self.disk, shameless=faulty)
        world.note(self.seat, "starts" if self.starts == 1 else "starts again")
        self.perform(self.engine.start(self.clock()))
        for block in list(self.disk.blocks):
            if block.header.height not in self.disk.certificates:
                self.handle(self._executed(block))
        self.strategy.start(self)
        self._poll(self.life)

    def crash(self, loss: Loss = Loss.TAIL) -> None:
        """Die now, in the middle of whatever."""
        self.world.note(self.seat, f"dies, losing {loss}")
        self.life += 1
        self.engine = None
        self.crash_after = None
        self.pool.clear()
        if loss is Loss.DISK:
            self.disk = Disk()
            self.commits.clear()
            self.certified.clear()
        elif loss is Loss.TAIL:
            self.disk.lose_power(self.world.random)

    def clock(self) -> int:
        """The node's own idea of the time."""
        return CLOCK_MS + self.world.now + self.skew_ms

    def peers(self) -> list[int]:
        """The seats of the members of all epochs that are open here, without this one."""
        found = {self.world.holders[item.address] for members in self.open.values() for item in members.authorities}
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

    def perform(self, effects: list[e.Effect]) -> None:
        """Strictly in order; a planned crash strikes between two effects."""
        life = self.life
        for effect in effects:
            if self.life != life:
                return
            if self.crash_after is not None:
                self.crash_after -= 1
                if self.crash_after < 0:
                    self.crash(self.loss)
                    return
            _PERFORMERS[type(effect)](self, effect)

    def soon(self, delay_ms: int, event: e.Event) -> None:
        """Hand this in then, unless the node dies before."""
        life = self.life
        self.world.later(delay_ms, lambda: self.life == life and self.handle(event))

    def _persist(self, effect: e.Persist) -> None:
        self.disk.write(effect)

    def _broadcast(self, effect: e.Broadcast) -> None:
        world = self.world
        vertex = world.verify(self, effect.raw)
        key = (vertex.header.epoch, self.open[vertex.header.epoch][vertex.author].address, vertex.round)
        world.signed.setdefault(key, set()).add(vertex.id)
        for peer, raw, delay_ms in self.strategy.vertices(self, vertex, effect.raw):
            world.send_vertex(self.seat, peer, raw, delay_ms)

    def _broadcast_signature(self, effect: e.BroadcastSignature) -> None:
        signature = effect.signature
        key = (self.open[effect.epoch][signature.authority].address, signature.height)
        self.world.headers_signed.setdefault(key, set()).add(signature.header_hash)
        for peer, sent in self.strategy.signatures(self, signature, effect.epoch):
            self.world.send(self.seat, peer, e.ExecutionSignatureReceived(sent.authority, sent, effect.epoch))

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
        if commit.block is None or commit.index <= last.header.last_commit:
            return
        block = self.world.ledger.execute(last, commit)
        self.disk.append(block)
        for raw in block.transactions:
            self.pool.pop(raw, None)
        self._forget_void(block)
        text = f"block {block.header.height} by commit {commit.index}, {len(block.transactions)} transactions"
        self.world.note(self.seat, text + (", the epoch's last" if block.header.closes_epoch else ""))
        self.soon(self.world.random.randint(0, 5), self._executed(block))

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

    def _certified(self, effect: e.Certified) -> None:
        self.disk.certify(effect.height, effect.certificate)
        self.world.certified(self, effect)

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
        stored = stored_epoch(self.disk, self.world.scenario.parameters, effect.epoch)
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
        if self.engine is None:
            return
        transaction = self.world.ledger.decode(raw).transaction
        data = self.last_block.state.get(account_key(transaction.sender))
        if data is not None and Account.decode(transaction.sender, data).nonce > transaction.nonce:
            return
        if self.engine.own is None:
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
    e.Certified: Node._certified,
    e.EvidenceFound: Node._evidence,
    e.PayloadLapsed: Node._lapsed,
    e.PeerFault: Node._fault,
    e.Halt: Node._halt,
    e.RecallEpoch: Node._recall,
    e.EpochOpened: Node._opened,
    e.EpochDropped: Node._dropped,
}
