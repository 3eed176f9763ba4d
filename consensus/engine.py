"""The engine: events and the time in, effects out (docs/protocol.md, sections 9 to 13).

It owns all state of one authority (or follower) in one epoch and does no I/O. Every call works the same way: take the
event in, move what it sets free into the graph, emit the commits that follow, then see whether a vertex is due, what
to fetch, and which timers to set. Own vertices are durable before they are sent, together with everything they build
on. Once the epoch's closing header is executed no commit is emitted any more: empty vertices carry its signatures
round (section 16). The epochs of a node are `consensus.succession`'s business.
"""

from collections.abc import Iterable
from typing import Final

from consensus import events
from consensus.catch_up import CatchUp
from consensus.closing import Closing
from consensus.dag.admission import Admission
from consensus.dag.evidence import Found, read_subject
from consensus.dag.graph import Graph, Node
from consensus.dag.threshold_clock import ThresholdClock
from consensus.dag.vertex import encode_vertex, genesis_refs
from consensus.fetching import fetch
from consensus.halting import halt_evidence
from consensus.identity import Seat
from consensus.journal import Journal
from consensus.notary import Notary
from consensus.order.checkpoint import decode_cursor
from consensus.order.epoch import EpochStart
from consensus.order.rota import Rota
from consensus.order.sequencer import Sequencer
from consensus.pacemaker import Pacemaker
from consensus.parameters import Parameters
from consensus.presence import Presence
from consensus.proposer import Proposer
from consensus.recovery import read_proposal, restore, resume
from consensus.reporting import hear, report, unhear
from consensus.resender import Resender
from consensus.status import EngineStatus, describe
from consensus.survey import SeenVertex, Survey, find_vertices, look
from consensus.timers import Timers
from consensus.workload import Workload
from mpisa.primitives.header import Header
from mpisa.primitives.identifiers import Round

NOTHING_STORED: Final = events.StoredEpoch()


class Engine:
    """One node's consensus in one epoch. Not thread-safe: one owner calls `start` once, then `handle`.

    Without a seat it follows: it orders and certifies like everybody, and signs nothing. It begins with what was stored
    of the epoch: `start` then emits the commits behind the cursor again and re-sends the last proposal. Rejection is
    raised for a cursor or proposal that can't be read, StoreDamaged where vertices don't lead to the cursor's window.
    """

    def __init__(
        self,
        parameters: Parameters,
        chain_hash: bytes,
        start: EpochStart,
        seat: Seat | None = None,
        stored: events.StoredEpoch = NOTHING_STORED,
    ) -> None:
        committee, epoch = start.committee, start.epoch
        at = start.checkpoint if stored.cursor is None else decode_cursor(stored.cursor)
        genesis = genesis_refs(start.anchor, len(committee))
        rota = Rota(parameters, committee, chain_hash, start.anchor, at)
        own = None if seat is None else seat.index
        self._parameters = parameters
        self._epoch = epoch
        self._committee = committee
        self._own = own
        self._graph = Graph(committee)
        self._graph.prune(at.gc_round(parameters.gc_depth))
        self._admission = Admission(parameters, committee, self._graph, genesis, own)
        self._sequencer = Sequencer(parameters, committee, rota, self._graph, at)
        self._clock = ThresholdClock(committee, self._graph, 0)
        self._pacemaker = Pacemaker(parameters, self._graph, self._sequencer.committer, own)
        self._proposer = (
            None if seat is None else Proposer(parameters, committee, self._graph, chain_hash, epoch, seat, genesis)
        )
        self._notary = Notary(parameters, chain_hash, start, own, at.height)
        self._catch_up = CatchUp(parameters, committee, own, epoch)
        self._presence = Presence(committee, own)
        self._journal = Journal(parameters.max_unpersisted, epoch)
        self._closing = Closing()
        self._effects: list[events.Effect] = []
        self._timers = Timers(epoch)
        self._workload = Workload(parameters.certify_patience_rounds)
        self._now = 0
        self._first_proposal_ms = 0
        self._awaiting_payload = False
        self._payload: bytes | None = None
        self._resender = Resender(parameters)
        self._halted: str | None = None
        self.is_unsure = False
        """Whether it may not propose yet, for it doesn't know what it signed: set from outside."""
        self._restore(stored)

    def _restore(self, stored: events.StoredEpoch) -> None:
        """As it was when this was stored."""
        last = read_proposal(stored, self._proposer, self._parameters)
        accepted = restore(self._admission, self._sequencer, stored.vertices, last)
        for node in accepted:
            self._journal.restored(node.vertex)
            self._take_in(node)
        resume(stored, last, accepted, self._proposer, self._presence, self._resender)
        if stored.closing is not None:
            self._close(stored.closing)

    def start(self, now_ms: int) -> list[events.Effect]:
        """Begin: the commits that follow from the store, and the identical bytes of the last proposal."""
        self._now = now_ms
        self._clock.opened_ms = now_ms
        self._resender.sent_ms = now_ms
        if self._resender.raw is None:
            self._first_proposal_ms = now_ms + self._parameters.first_proposal_delay_ms
        self._absorb([])
        if self._resender.raw is not None and self._halted is None and self._presence.absent is None:
            self._effects.append(events.Broadcast(self._resender.raw))
        return self._settle()

    def handle(self, event: events.Event, now_ms: int) -> list[events.Effect]:
        """Take in one event; the effects to perform, in order. A clock that ran backwards stands still instead."""
        self._now = max(self._now, now_ms)
        match event:
            case events.VertexReceived():
                self._receive(event)
            case events.TimerFired():
                self._timers.fired(event.kind)
                self._fire(event.kind)
            case events.PayloadWaiting():
                self._workload.pool_waiting = True
            case events.PayloadProvided():
                self._provide(event)
            case events.Executed():
                self._executed(event)
            case events.ExecutionSignatureReceived():
                if event.signature.authority == event.sender:
                    self._notary.observe(self._effects, event.signature)
            case events.AncestorsUnavailable():
                self._admission.pending.unavailable(event.refs, event.sender, self._now)
            case events.RangeEnded():
                self._catch_up.ended(event.sender, self._clock.round)
            case events.CertificateReceived():
                self._notary.received(self._effects, event)
            case events.EpochAhead():
                self._catch_up.want_rest()
            case events.EvidenceOffered():
                if self._proposer is not None:
                    self._proposer.carry_evidence(Found(read_subject(event.evidence, self._parameters), event.evidence))
        return self._settle()

    @property
    def sitting_out(self) -> str | None:
        """Why this authority makes no vertices, None when it does."""
        return self._presence.absent

    def status(self) -> EngineStatus:
        """A snapshot."""
        return describe(
            self._epoch,
            self._own,
            self._proposer,
            self._clock,
            self._graph,
            self._catch_up,
            self._sequencer,
            self._notary.certifier,
            self._admission,
            self._pacemaker,
            closing=self._closing.header,
            is_idle=self._is_idle(),
            sitting_out=self._presence.absent,
            halted=self._halted,
        )

    def survey(self, rounds: int) -> Survey:
        """The recent DAG."""
        suspects, equivocators = self._pacemaker.suspects, self._admission.equivocators
        return look(self._epoch, self._committee, self._graph, self._sequencer, suspects, equivocators, rounds)

    def find(self, prefix: bytes) -> list[SeenVertex]:
        """The vertices of the graph whose id begins so, two at most."""
        return find_vertices(self._graph, prefix)

    def _receive(self, event: events.VertexReceived) -> None:
        vertex = event.vertex
        for signature in vertex.header.execution_signatures:
            self._notary.observe(self._effects, signature)
        if self._halted is not None:
            return
        self._catch_up.note(vertex.author, vertex.round)
        if not self._admission.is_known(vertex.id):
            self._presence.observe(vertex, None if self._proposer is None else self._proposer.last)
        if self._catch_up.is_far(vertex.round, self._clock.round):
            return
        self._absorb(self._admission.receive(vertex, event.sender, self._now))

    def _fire(self, kind: events.TimerKind) -> None:
        if self._halted is not None:
            return
        if kind is events.TimerKind.HELD:
            self._absorb(self._admission.wake(self._now))
        elif kind is events.TimerKind.RESEND and self._resender.raw is not None and self._resend_at() <= self._now:
            self._resender.resent(self._now)
            if self._presence.absent is None:
                self._effects.append(events.Broadcast(self._resender.raw))
            if self._closing.signature is not None:
                self._effects.append(events.BroadcastSignature(self._closing.signature, self._epoch))
            self._catch_up.want_rest()

    def _provide(self, event: events.PayloadProvided) -> None:
        if not self._awaiting_payload:
            return
        assert len(event.payload) <= self._parameters.max_payload_bytes, "the shell keeps to max_payload_bytes"
        self._awaiting_payload = False
        self._workload.pool_waiting = bool(event.payload)
        if self._halted is not None or self._presence.absent is not None or self._closing.header is not None:
            self._lapse([(event.round, event.payload)])
            return
        self._payload = event.payload
        self._propose()

    def _executed(self, event: events.Executed) -> None:
        is_due = self._workload.is_pending and self._may_propose() and not event.header.closes_epoch
        own = self._notary.sign(self._effects, event, self._proposer, push=not is_due)
        self._closing.executed(event.header.last_commit)
        if event.header.closes_epoch:
            self._closing.signature = own
            self._close(event.header)
        self._notary.executed(self._effects, event, own)

    def _close(self, header: Header) -> None:
        """The epoch ends with this header: what it doesn't hold comes back, nothing more is committed."""
        self._workload.pool_waiting = False
        self._lapse(self._closing.close(header))
        if self._payload:
            self._lapse([(Round(self._clock.round), self._payload)])
        self._payload = b""

    def _lapse(self, payloads: Iterable[tuple[Round, bytes]]) -> None:
        self._effects.extend(events.PayloadLapsed(number, payload) for number, payload in payloads if payload)

    def _absorb(self, nodes: list[Node]) -> None:
        """Count accepted vertices, emit the commits they make, and take in what those set free."""
        waiting = nodes
        while True:
            for node in waiting:
                self._journal.accepted(node.vertex)
                self._take_in(node)
            if waiting:
                self._catch_up.progressed(self._now)
            self._report()
            waiting = self._commit()
            if not waiting:
                return

    def _take_in(self, node: Node) -> None:
        """Everything but persistence that an accepted vertex means."""
        vertex = node.vertex
        self._sequencer.add(node)
        if node.author == self._own and not node.committed:
            self._closing.sent(vertex)
        if node.author not in self._admission.equivocators:
            self._graph.vouch(node)
        self._workload.accepted(node)
        if self._proposer is None or node.round >= self._proposer.last.round:
            self._pacemaker.seen_in_time(node.author)
        self._catch_up.note(node.author, node.round)
        self._clock.observe(node.round, self._admission.equivocators, self._now)
        by_equivocator = node.author in self._admission.equivocators
        hear(vertex, self._parameters, self._notary.witness, self._proposer, by_equivocator=by_equivocator)

    def _report(self) -> None:
        witness = self._notary.witness
        report(self._effects, self._admission, witness, self._proposer, self._presence, self._own, self._epoch)

    def _commit(self) -> list[Node]:
        """Emit the slots decided now; what the moved GC round lets into the graph."""
        steps = self._sequencer.advance()
        conflict = self._sequencer.conflict
        if conflict is not None and self._halted is None:
            self._halted = f"two certified vertices in slot {conflict.slot.number} of round {conflict.slot.round}"
            self._journal.flush(self._effects, sync=True)
            self._effects.append(events.Halt(self._halted, halt_evidence(self._graph, conflict)))
        for step in steps:
            if step.commit is None:
                self._pacemaker.skipped(step.authority)
            else:
                self._pacemaker.committed(step.authority)
                self._emit(step.commit)
        if not any(step.commit is not None for step in steps):
            return []
        gc_round = self._sequencer.linearizer.gc_round
        for node in self._graph.prune(gc_round):
            self._workload.settled(node.id)
            if not node.committed:
                self._lapse(self._closing.drop(node.id))
                unhear(node.vertex, self._parameters, self._proposer)
        self._sequencer.committer.prune(gc_round)
        return self._admission.prune(gc_round, self._now)

    def _emit(self, commit: events.CommittedSubDag) -> None:
        """Behind a closing header commits are void."""
        for vertex in commit.vertices:
            self._workload.settled(vertex.id)
            self._graph.shed(vertex.id)
            self._closing.committed(vertex.id, commit.index)
        if self._closing.header is not None:
            return
        self._journal.committed(self._effects, commit)
        self._effects.append(events.Commit(commit))

    def _settle(self) -> list[events.Effect]:
        """Propose, fetch, set timers; hand the effects over."""
        self._report()
        if self._halted is None:
            self._pace()
            gc_round = self._graph.pruned_round
            open_round = self._clock.round
            again = fetch(self._effects, self._admission, self._catch_up, self._epoch, open_round, gc_round, self._now)
            self._timers.set(self._effects, events.TimerKind.FETCH, again)
            if len(self._admission.held):
                self._timers.set(self._effects, events.TimerKind.HELD, self._admission.held.next_due())
            if self._resender.raw is not None and self._may_propose():
                self._timers.set(self._effects, events.TimerKind.RESEND, self._resend_at())
        self._journal.flush_full(self._effects)
        effects, self._effects = self._effects, []
        return effects

    def _pace(self) -> None:
        """Ask for a payload when a vertex is due, or set the timer for when it may be."""
        self._clock.reconsider(self._admission.equivocators)
        is_waiting = self._awaiting_payload and self._closing.header is None
        if not self._may_propose() or is_waiting or self._proposer is None:
            return
        if self._clock.round <= self._proposer.last.round:
            return
        at = self._pacemaker.next_step(
            self._clock.round,
            self._clock.opened_ms,
            is_idle=self._is_idle(),
            equivocators=self._admission.equivocators,
            now_ms=self._now,
        )
        if self._now < self._first_proposal_ms:
            at = max(self._first_proposal_ms, at or 0)
        if at is not None:
            self._timers.set(self._effects, events.TimerKind.ROUND, at)
        elif self._payload is not None or self._closing.header is not None:
            self._propose()
        else:
            self._awaiting_payload = True
            self._effects.append(events.RequestPayload(Round(self._clock.round), self._epoch))

    def _propose(self) -> None:
        """Make the vertex of the open round, and send it once it is on the disk."""
        proposer, payload = self._proposer, self._payload if self._closing.header is None else b""
        if proposer is None or payload is None or not self._may_propose():
            return
        target = Round(self._clock.round)
        if target <= proposer.last.round:
            return  # evidence closed the round again while the payload was on its way: the next vertex takes it
        vertex = proposer.propose(target, payload, self._admission.equivocators, self._now)
        if vertex is None:
            return
        self._payload = None
        self._pacemaker.proposed()
        raw = encode_vertex(vertex)
        accepted = self._admission.add_own(vertex)
        assert [node.id for node in accepted[:1]] == [vertex.id], "an own vertex builds on accepted ones alone"
        self._journal.accepted(vertex)
        self._journal.propose(self._effects, events.ProposalRecord(target, raw, self._epoch))
        self._effects.append(events.Broadcast(raw))
        self._resender.sent(raw, self._now)
        self._take_in(accepted[0])
        self._absorb(accepted[1:])

    def _may_propose(self) -> bool:
        if self._proposer is None or self._halted is not None or self._presence.absent is not None or self.is_unsure:
            return False
        last = self._proposer.last
        if last.round == 0 and self._catch_up.known_round > self._clock.round:
            return False  # whoever remembers no vertex of its own looks at what others built before it makes one
        is_chain_here = last.round <= self._graph.pruned_round or last.id in self._graph
        return is_chain_here and not self._catch_up.is_behind(self._clock.round)

    def _resend_at(self) -> int:
        return self._resender.due_ms(self._pacemaker.timeout_ms, is_idle=self._is_idle())

    def _is_idle(self) -> bool:
        """Nothing to order or certify."""
        closing = self._closing.header
        is_loaded = self._proposer is not None and self._proposer.is_loaded(with_signatures=closing is not None)
        owes_block = closing is None and self._sequencer.linearizer.owes_block
        if self._workload.is_pending or self._payload or is_loaded or owes_block:
            return False
        ordered = self._sequencer.linearizer.checkpoint.height if closing is None else closing.height
        certifier = self._notary.certifier
        height = max(ordered, certifier.executed_height)
        return not self._workload.is_certifying(height, certifier.certified_height, self._clock.round)
