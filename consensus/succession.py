"""One node's consensus through all epochs: each in its own engine (docs/protocol.md, section 16).

It owns the engine of the current epoch and, while that must still serve, the one before. Events go to the engine whose
epoch they name, and so do the answers to what each engine asked for. An epoch ends in three steps: its closing header
is executed (its engine commits no more, and goes on with empty vertices), the header's certificate exists (the shell is
asked for what its stores hold of the next epoch, then that one opens), a header of the next epoch is certified (the old
engine is dropped). No epoch is ever opened without asking the stores: whatever was signed in it before is known then.
Where they hold no proposal, the others are asked too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from consensus import events
from consensus.dag.committee import Committee
from consensus.dag.evidence import Charge, charge_of, read_subject
from consensus.dag.judging import EarlierEras, Era, Jurisdiction, read_evidence
from consensus.dag.vertex import decode_vertex
from consensus.engine import Engine
from consensus.identity import Seat, Seats
from consensus.inquiry import Inquiry
from consensus.order.epoch import EpochStart, start_behind
from consensus.parameters import Parameters
from consensus.proposer import MAX_EVIDENCE_WAITING
from consensus.status import EngineStatus
from consensus.survey import SeenVertex, Survey
from mpisa.primitives.errors import Rejection
from mpisa.primitives.header import Header
from mpisa.primitives.identifiers import AuthorityIndex, Epoch


@dataclass(slots=True)
class _Term:
    """An epoch that is open here; `following` is where the next begins, once the closing header is executed."""

    start: EpochStart
    seat: Seat | None
    engine: Engine
    earlier: EarlierEras
    closing: Header | None = None
    following: EpochStart | None = None
    is_closed: bool = False
    is_open: bool = False
    inquiry: Inquiry | None = None


class Succession:
    """See the module. Not thread-safe: one owner calls `start` once, then `handle`."""

    def __init__(
        self,
        parameters: Parameters,
        chain_hash: bytes,
        identity: Seats,
        epochs: Sequence[tuple[EpochStart, events.StoredEpoch]],
    ) -> None:
        """From what the stores hold, at the beginning of a chain nothing: of the epoch that is open (its closing header
        isn't certified), and before it of the one that is still served (no header behind its closing one is certified)
        if there is such. Raises what `Engine` does.
        """
        self._parameters = parameters
        self._chain_hash = chain_hash
        self._identity = identity
        terms = [self._term(start, stored) for start, stored in epochs]
        self._current = terms[-1]
        self._served: _Term | None = None
        for term in terms[:-1]:
            term.following, term.is_closed = self._current.start, True
            self._served = term
        self._effects: list[events.Effect] = []
        self._evidence: dict[Charge, bytes] = {}
        self._pool_waiting = False
        self._asked_ms = 0
        self._now = 0

    def _term(self, start: EpochStart, stored: events.StoredEpoch) -> _Term:
        seat = self._identity.seat_in(start.committee)
        if seat is not None and stored.proposal is not None:
            author = decode_vertex(stored.proposal.raw, self._parameters).author
            if author != seat.index:  # the keys were changed within the epoch: what these signed isn't known
                lost = f"the last proposal kept is authority {author}'s, the keys held now are authority {seat.index}'s"
                stored = replace(stored, proposal=None, lost=lost)
        engine = Engine(self._parameters, self._chain_hash, start, seat, stored)
        term = _Term(start, seat, engine, stored.earlier, stored.closing)
        if seat is not None and stored.proposal is None:
            inquiry = Inquiry(self._parameters, start.committee, seat.index)
            if not inquiry.is_done:
                term.inquiry, engine.is_unsure = inquiry, True
        return term

    @property
    def epoch(self) -> Epoch:
        """The epoch that is current here."""
        return self._current.start.epoch

    @property
    def committee(self) -> Committee:
        """The current epoch's."""
        return self._current.start.committee

    @property
    def own(self) -> AuthorityIndex | None:
        """Which authority of the current epoch this node is, None for a follower."""
        return None if self._current.seat is None else self._current.seat.index

    @property
    def committees(self) -> Mapping[Epoch, Committee]:
        """The committees of the epochs that are open here: vertices of others can't be judged now."""
        return {term.start.epoch: term.start.committee for term in self._terms()}

    @property
    def jurisdictions(self) -> Mapping[Epoch, Jurisdiction]:
        """The same epochs, with those before each of which its vertices may carry evidence."""
        return {term.start.epoch: self._jurisdiction(term) for term in self._terms()}

    def _jurisdiction(self, term: _Term) -> Jurisdiction:
        """Nothing in it depends on how far this node is: the epoch itself counts as running."""
        era = Era(term.start.committee, term.start.height + 1)
        return Jurisdiction(self._chain_hash, term.start.epoch, era, term.earlier)

    def start(self, now_ms: int) -> list[events.Effect]:
        """Begin: each open epoch is told of, then its engine starts; evidence goes on once all have."""
        self._now = now_ms
        for term in self._terms():
            self._opened(term)
        self._offer()
        return self._take()

    def handle(self, event: events.Event, now_ms: int) -> list[events.Effect]:
        """Take in one event; the effects to perform, in order."""
        self._now = max(self._now, now_ms)
        match event:
            case events.PayloadWaiting():
                self._wait(event)
            case events.EpochAhead():
                self._ahead()
            case events.EvidenceOffered():
                self._remember(event.evidence)
                self._run(self._current, event)
            case events.EpochRecalled():
                self._open(event)
            case events.CertificateReceived():
                for term in self._terms():
                    self._run(term, event)
            case events.Executed():
                self._executed(event)
            case events.VertexReceived():
                self._route(event, event.vertex.header.epoch)
            case _:
                self._route(event, event.epoch)
        return self._take()

    @property
    def sitting_out(self) -> str | None:
        """Why the current epoch's engine makes no vertices, None when it does."""
        return self._current.engine.sitting_out

    def status(self) -> EngineStatus:
        """The current epoch's engine."""
        return self._current.engine.status()

    def survey(self, rounds: int) -> Survey:
        """The recent DAG of the current epoch."""
        return self._current.engine.survey(rounds)

    def find(self, prefix: bytes) -> list[tuple[Epoch, SeenVertex]]:
        """The vertices in the graphs of the open epochs whose id begins so, two an epoch at most."""
        return [(term.start.epoch, vertex) for term in self._terms() for vertex in term.engine.find(prefix)]

    def _terms(self) -> list[_Term]:
        return [self._current] if self._served is None else [self._served, self._current]

    def _route(self, event: events.Event, epoch: Epoch) -> None:
        """To the engine of its epoch. Nobody listens to an epoch that is over, but a payload must not be lost with it;
        one that isn't open yet shows that the others are further.
        """
        for term in self._terms():
            if term.start.epoch == epoch:
                self._run(term, event)
                if isinstance(event, events.TimerFired) and event.kind is events.TimerKind.RESEND:
                    self._ask_certificate()
                self._inquire(term, event)
                return
        if isinstance(event, events.PayloadProvided):
            if event.payload:
                self._effects.append(events.PayloadLapsed(event.round, event.payload))
        elif epoch > self.epoch:
            self._ahead()

    def _inquire(self, term: _Term, event: events.Event | None = None) -> None:
        """Ask what others hold of this authority, take an answer in; once a quorum answered it may sign."""
        inquiry = term.inquiry
        if inquiry is None:
            return
        epoch = term.start.epoch
        if isinstance(event, events.RangeEnded):
            further = inquiry.answered(event.sender, term.engine.status().highest_accepted_round)
            if further is not None:
                self._effects.append(events.RequestRange(event.sender, further, epoch))
        if inquiry.is_done:
            term.inquiry, term.engine.is_unsure = None, False
            self._run(term, events.TimerFired(events.TimerKind.ROUND, epoch))
            return
        asked = inquiry.due(self._now)
        self._effects.extend(events.RequestRange(to, first, epoch) for to, first in asked)
        if asked:
            self._effects.append(events.SetTimer(events.TimerKind.INQUIRY, inquiry.next_ms, epoch))

    def _wait(self, event: events.PayloadWaiting) -> None:
        """Payloads wait for an epoch that can still order them."""
        if self._current.closing is None:
            self._run(self._current, event)
        else:
            self._pool_waiting = True

    def _ahead(self) -> None:
        """The others have opened a later epoch: the rest of this one is asked for, or the certificate that ends it."""
        if self._current.closing is None:
            self._run(self._current, events.EpochAhead())
        self._ask_certificate()

    def _ask_certificate(self) -> None:
        """From each authority in turn, not more often than ranges are."""
        term, patience = self._current, self._parameters.range_timeout_ms
        if term.closing is None or term.is_closed or self._now < self._asked_ms:
            return
        self._asked_ms = self._now + patience
        others = [item.index for item in term.start.committee.authorities if item.index != self.own]
        if others:
            to = others[self._now // patience % len(others)]
            self._effects.append(events.RequestCertificate(to, term.closing.height, term.start.epoch))

    def _executed(self, event: events.Executed) -> None:
        term = next((term for term in self._terms() if term.start.epoch == event.header.epoch), None)
        if term is None:
            return
        if event.header.closes_epoch and term.following is None:
            assert event.next_committee is not None, "a closing header comes with the committee that it names"
            term.closing = event.header
            term.following = start_behind(event.header, event.next_committee)
        self._run(term, event)

    def _run(self, term: _Term, event: events.Event) -> None:
        self._collect(term, term.engine.handle(event, self._now))

    def _collect(self, term: _Term, effects: list[events.Effect]) -> None:
        """Hand the effects on; a certificate among them may end an epoch."""
        self._effects.extend(effects)
        for effect in effects:
            if isinstance(effect, events.Certified):
                self._certified(term, effect)
            elif isinstance(effect, events.EvidenceFound):
                self._remember(effect.evidence)
                if term is not self._current and self._current.is_open:
                    self._run(self._current, events.EvidenceOffered(effect.evidence))
            elif isinstance(effect, events.Commit):
                for item in (item for vertex in effect.commit.content for item in vertex.evidence):
                    self._evidence.pop(charge_of(read_subject(item, self._parameters)), None)

    def _remember(self, evidence: bytes) -> None:
        """Until it is ordered: the epoch may end before."""
        if len(self._evidence) < MAX_EVIDENCE_WAITING:
            self._evidence.setdefault(charge_of(read_subject(evidence, self._parameters)), evidence)

    def _offer(self) -> None:
        """What no epoch so far has ordered goes to the one that is current now, if it is admissible there."""
        jurisdiction = self._jurisdiction(self._current)
        waiting, self._evidence = self._evidence, {}
        for charge, evidence in waiting.items():
            try:
                read_evidence(evidence, jurisdiction, self._parameters)
            except Rejection:
                continue
            self._evidence[charge] = evidence
            self._run(self._current, events.EvidenceOffered(evidence))

    def _certified(self, term: _Term, effect: events.Certified) -> None:
        if term is self._current and self._served is not None:
            self._effects.append(events.EpochDropped(self._served.start.epoch))
            self._served = None
        is_last = term.closing is not None and effect.height == term.closing.height
        if is_last and not term.is_closed and term.following is not None:
            term.is_closed = True
            self._effects.append(events.RecallEpoch(term.following.epoch))

    def _open(self, event: events.EpochRecalled) -> None:
        """The next epoch begins, with all that was kept of it."""
        before = self._current
        start = before.following
        if start is None or not before.is_closed or event.epoch != start.epoch:
            return
        self._served, self._current = before, self._term(start, event.stored)
        self._opened(self._current)
        self._offer()
        if self._pool_waiting:
            self._pool_waiting = False
            self._run(self._current, events.PayloadWaiting())

    def _opened(self, term: _Term) -> None:
        term.is_open = True
        own = None if term.seat is None else term.seat.index
        self._effects.append(events.EpochOpened(term.start.epoch, term.start.committee, own))
        self._collect(term, term.engine.start(self._now))
        self._inquire(term)

    def _take(self) -> list[events.Effect]:
        effects, self._effects = self._effects, []
        return effects
