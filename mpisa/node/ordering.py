"""The shell of consensus: one task that reads events, hands them in with the time, and performs effects in order.

A synced Persist is awaited in the vertex store's writer thread before the next effect begins; a full disk holds the
task until there is space, so nothing is ever sent that isn't durable. What follows from an effect (the payload that
was asked for, our own execution) is handed in after the effects before it. An event and all that follows from it is one
turn; between turns the helm may hand over to another succession. Rules live in `consensus`; this file has none.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import structlog

from consensus import events as e
from mpisa.network.ports import PeerId
from mpisa.node.stages import Stage, Stages
from mpisa.primitives.errors import DiskFull

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from concurrent.futures import Executor

    from mpisa.node.clock import Clock
    from mpisa.node.consensus_store import ConsensusStore
    from mpisa.node.database import Change
    from mpisa.node.epochs import Epochs
    from mpisa.node.evidence import EvidenceKeeper
    from mpisa.node.execution import Execution, Outcome
    from mpisa.node.helm import Helm
    from mpisa.node.inbox import Inbox
    from mpisa.node.key_ring import KeyRing
    from mpisa.node.links import Links
    from mpisa.primitives.identifiers import Epoch

DISK_RETRY_S = 0.5

_T = TypeVar("_T")

log = structlog.get_logger(__name__)


class Ledger(Protocol):
    """What ordering tells the rest of the node; all of it returns at once."""

    def take_payload(self, round_number: int, max_bytes: int) -> bytes: ...
    def lapsed(self, payload: bytes) -> None: ...
    def executed(self, outcome: Outcome) -> None: ...
    def certified(self, event: e.Certified) -> None: ...
    def evidence(self, event: e.EvidenceFound) -> None: ...
    def halted(self, event: e.Halt) -> None: ...
    def is_halted(self) -> bool: ...
    def disk_full(self, error: DiskFull) -> None: ...
    def disk_has_space(self) -> None: ...
    def epoch_opened(self, event: e.EpochOpened) -> None: ...
    def epoch_dropped(self, event: e.EpochDropped) -> None: ...
    def request_certificate(self, event: e.RequestCertificate) -> None: ...
    def taken_over(self) -> None: ...


@dataclass(slots=True)
class Counters:
    """What the engine did since the start, for /metrics."""

    events_handled: int = 0
    vertices_persisted: int = 0
    vertices_proposed: int = 0
    commits: int = 0
    certificates: int = 0
    peer_faults: int = 0
    evidence_found: int = 0


class Ordering:
    """See the module."""

    def __init__(
        self,
        helm: Helm,
        epochs: Epochs,
        inbox: Inbox,
        store: ConsensusStore,
        writer: Executor,
        execution: Execution,
        links: Links,
        ledger: Ledger,
        ring: KeyRing,
        clock: Clock,
        max_payload_bytes: int,
        evidence: EvidenceKeeper,
        stages: Stages | None = None,
    ) -> None:
        self._helm = helm
        self._epochs = epochs
        self._inbox = inbox
        self._store = store
        self._writer = writer
        self._execution = execution
        self._links = links
        self._ledger = ledger
        self._ring = ring
        self._clock = clock
        self._max_payload_bytes = max_payload_bytes
        self._evidence = evidence
        self._stages = stages or Stages()
        self._timers: dict[tuple[Epoch, e.TimerKind], asyncio.TimerHandle] = {}
        self._disk_full = False
        self.counters = Counters()
        self._performers: dict[type, Callable[[e.Effect], Awaitable[e.Event | None]]] = {
            e.Persist: self._persist,
            e.Broadcast: self._broadcast,
            e.BroadcastSignature: self._broadcast_signature,
            e.SetTimer: self._set_timer,
            e.RequestPayload: self._provide_payload,
            e.RequestAncestors: self._request_ancestors,
            e.RequestRange: self._request_range,
            e.Commit: self._commit,
            e.Certified: self._certified,
            e.EvidenceFound: self._evidence_found,
            e.PayloadLapsed: self._payload_lapsed,
            e.PeerFault: self._peer_fault,
            e.Halt: self._halt,
            e.RequestCertificate: self._request_certificate,
            e.RecallEpoch: self._recall_epoch,
            e.EpochOpened: self._epoch_opened,
            e.EpochDropped: self._epoch_dropped,
        }

    async def run(self) -> None:
        """Turn after turn until cancelled; once halted, what comes in is let go unread."""
        try:
            while not self._ledger.is_halted():
                async with self._helm.turn:
                    if self._helm.takes_over():
                        await self._begin()
                event = await self._inbox.take()
                async with self._helm.turn:
                    if self._helm.takes_over():
                        await self._begin()
                    await self._handle(event)
        finally:
            self._cancel_timers()
        while True:
            await self._inbox.take()

    async def _begin(self) -> None:
        """Starts the succession, and hands in what was executed before without a certificate."""
        self._cancel_timers()
        self._execution.forget_folded()
        self._links.keep(self._helm.committees)
        self._ledger.taken_over()
        await self._perform(self._helm.succession.start(self._clock.now_ms()))
        for event in self._execution.uncertified():
            await self._handle(event)
        waiting, changes = self._evidence.waiting(self._helm.epoch)
        self._let_go(changes)
        for raw in waiting:
            await self._handle(e.EvidenceOffered(raw))
        self._helm.has_begun()

    def _cancel_timers(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    async def _handle(self, event: e.Event) -> None:
        await self._perform(self._decide(event))

    def _decide(self, event: e.Event) -> list[e.Effect]:
        self.counters.events_handled += 1
        with self._stages.measure(Stage.ENGINE):
            return self._helm.succession.handle(event, self._clock.now_ms())

    async def _perform(self, effects: list[e.Effect]) -> None:
        pending = deque([effects])
        while pending:
            following: list[e.Event] = []
            for effect in pending.popleft():
                if self._ledger.is_halted():
                    return
                event = await self._performers[type(effect)](effect)
                if event is not None:
                    following.append(event)
            for event in following:
                pending.append(self._decide(event))

    async def _persist(self, effect: e.Effect) -> None:
        assert isinstance(effect, e.Persist)
        changes = [self._change(record) for record in effect.records]
        self.counters.vertices_persisted += len(changes)
        if effect.sync:
            loop = asyncio.get_running_loop()
            await self.durably(lambda: loop.run_in_executor(self._writer, self._write, changes))
            return
        try:
            self._store.write(changes, sync=False)
        except DiskFull:
            await self._persist(e.Persist(effect.records, sync=True))

    def _write(self, changes: list[Change]) -> None:
        with self._stages.measure(Stage.VERTEX_STORE):
            self._store.write(changes, sync=True)

    def _change(self, record: e.VertexRecord | e.ProposalRecord) -> Change:
        if isinstance(record, e.VertexRecord):
            return self._store.vertex_change(record.epoch, record.round, record.author, record.id, record.raw)
        return self._store.proposal_change(record.epoch, record.round, record.raw)

    async def durably(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """Tries until the disk takes it; meanwhile the node says that its disk is full."""
        while True:
            try:
                result = await attempt()
            except DiskFull as error:
                self._disk_full = True
                self._ledger.disk_full(error)
                await asyncio.sleep(DISK_RETRY_S)
            else:
                if self._disk_full:
                    self._disk_full = False
                    self._ledger.disk_has_space()
                return result

    async def _broadcast(self, effect: e.Effect) -> None:
        assert isinstance(effect, e.Broadcast)
        self.counters.vertices_proposed += 1
        await self._links.broadcast_vertex(effect.raw)

    async def _broadcast_signature(self, effect: e.Effect) -> None:
        assert isinstance(effect, e.BroadcastSignature)
        await self._links.broadcast_signature(effect.signature, effect.epoch)

    async def _set_timer(self, effect: e.Effect) -> None:
        assert isinstance(effect, e.SetTimer)
        name = effect.epoch, effect.kind
        earlier = self._timers.pop(name, None)
        if earlier is not None:
            earlier.cancel()
        delay = max(0, effect.at_ms - self._clock.now_ms()) / 1000
        self._timers[name] = asyncio.get_running_loop().call_later(delay, self._inbox.post_timer, *name)

    async def _provide_payload(self, effect: e.Effect) -> e.Event:
        assert isinstance(effect, e.RequestPayload)
        payload = self._ledger.take_payload(effect.round, self._max_payload_bytes)
        return e.PayloadProvided(effect.round, payload, effect.epoch)

    async def _request_ancestors(self, effect: e.Effect) -> None:
        assert isinstance(effect, e.RequestAncestors)
        self._links.request_ancestors(effect.to, effect.refs, effect.epoch, effect.have)

    async def _request_range(self, effect: e.Effect) -> None:
        assert isinstance(effect, e.RequestRange)
        self._links.request_range(effect.to, effect.from_round, effect.epoch)

    async def _commit(self, effect: e.Effect) -> e.Event | None:
        assert isinstance(effect, e.Commit)
        self.counters.commits += 1
        outcome = await self.durably(lambda: self._execution.execute(effect.commit))
        if outcome is None:
            return None
        self._ledger.executed(outcome)
        self._let_go(self._evidence.ordered(effect.commit.content))
        return outcome.event

    async def _certified(self, effect: e.Effect) -> None:
        assert isinstance(effect, e.Certified)
        self.counters.certificates += 1
        self._ledger.certified(effect)

    async def _evidence_found(self, effect: e.Effect) -> None:
        assert isinstance(effect, e.EvidenceFound)
        self.counters.evidence_found += 1
        await self.keep_evidence(effect.evidence)
        self._ledger.evidence(effect)

    async def keep_evidence(self, raw: bytes) -> None:
        """Evidence that was verified is on the disk on return, until a commit orders it."""
        changes = self._evidence.keep(raw)
        if changes:
            loop = asyncio.get_running_loop()
            await self.durably(lambda: loop.run_in_executor(self._writer, self._write, changes))

    def _let_go(self, changes: list[Change]) -> None:
        """A full disk may keep what isn't needed."""
        if changes:
            with contextlib.suppress(DiskFull):
                self._store.write(changes, sync=False)

    async def _payload_lapsed(self, effect: e.Effect) -> None:
        assert isinstance(effect, e.PayloadLapsed)
        self._ledger.lapsed(effect.payload)

    async def _peer_fault(self, effect: e.Effect) -> None:
        assert isinstance(effect, e.PeerFault)
        self.counters.peer_faults += 1
        log.warning("an authority broke a rule", authority=effect.author, error=str(effect.rejection))

    async def _halt(self, effect: e.Effect) -> None:
        assert isinstance(effect, e.Halt)
        self._ledger.halted(effect)

    async def _request_certificate(self, effect: e.Effect) -> None:
        assert isinstance(effect, e.RequestCertificate)
        self._ledger.request_certificate(effect)

    async def _recall_epoch(self, effect: e.Effect) -> e.Event:
        assert isinstance(effect, e.RecallEpoch)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._ring.refresh)
        stored = await loop.run_in_executor(None, self._epochs.stored, effect.epoch)
        return e.EpochRecalled(effect.epoch, stored)

    async def _epoch_opened(self, effect: e.Effect) -> None:
        assert isinstance(effect, e.EpochOpened)
        peers = [PeerId(item.peer_id) for item in self._epochs.record(effect.epoch).validators]
        self._links.open(self._helm.succession.jurisdictions[effect.epoch], peers, has_seat=effect.own is not None)
        self._ledger.epoch_opened(effect)

    async def _epoch_dropped(self, effect: e.Effect) -> None:
        assert isinstance(effect, e.EpochDropped)
        self._links.close(effect.epoch)
        for name in [name for name in self._timers if name[0] == effect.epoch]:
            self._timers.pop(name).cancel()
        own = self._helm.own
        record = None if own is None else self._epochs.record(self._helm.epoch).validators[own]
        await asyncio.get_running_loop().run_in_executor(None, self._ring.settle, record)
        self._ledger.epoch_dropped(effect)
