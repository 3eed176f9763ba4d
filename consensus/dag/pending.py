"""Pending vertices: valid, but with ancestors that aren't here yet (docs/protocol.md, section 4).

A missing ancestor is waited for about a round trip, for it may just be late; then asked from the sender, then from
the authors whose vertices reference it, then from everyone in turn, beginning at a place that follows from its id.
Whoever let a question go unanswered is asked last, until it answers one, and a source that turns up meanwhile is asked
at once: withholding costs the others a round trip, not a timeout each round.
Everything is bounded, and every author has its own share of each bound, so that whoever floods or withholds uses up its
own: vertices, bytes, missing ancestors, requests in flight. (An ancestor counts for the author of the first vertex that
waits for it, and what an equivocator's vertex needs for whoever introduced that one.) What doesn't fit is dropped:
whoever needs it will bring it, or it is fetched again. What an event costs doesn't grow with what waits.
"""

import heapq
from collections import deque
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from consensus.dag.vertex import Vertex, VertexRef
from consensus.parameters import Parameters
from mpisa.primitives.identifiers import AuthorityIndex

_IN_TURN: Final = -1


@dataclass(slots=True)
class _Missing:
    """An ancestor that vertices wait for; `charged` is the author whose share it takes."""

    ref: VertexRef
    charged: AuthorityIndex
    sources: list[AuthorityIndex]
    next_ms: int
    attempts: int = 0
    asked: list[AuthorityIndex] = field(default_factory=list)
    waiters: dict[bytes, None] = field(default_factory=dict)
    is_flying: bool = False
    patient_until_ms: int = 0
    payer: int = 0


@dataclass(slots=True)
class _Waiting:
    vertex: Vertex
    payer: AuthorityIndex
    missing: dict[bytes, None]


@dataclass(slots=True)
class _Account:
    """What an author takes of the room, and its missing ancestors that wait for a place in flight."""

    vertices: int = 0
    size: int = 0
    missing: int = 0
    flying: int = 0
    turn: deque[bytes] = field(default_factory=deque)


class Pending:
    """The waiting room and what is missing."""

    __slots__ = (
        "_accounts",
        "_committee_size",
        "_hungry",
        "_missing",
        "_missing_by_round",
        "_own",
        "_parameters",
        "_queue",
        "_silent",
        "_waiting",
        "_waiting_by_round",
    )

    def __init__(self, parameters: Parameters, committee_size: int, own: AuthorityIndex | None) -> None:
        self._parameters = parameters
        self._committee_size = committee_size
        self._own = own
        self._waiting: dict[bytes, _Waiting] = {}
        self._missing: dict[bytes, _Missing] = {}
        self._waiting_by_round: dict[int, dict[bytes, None]] = {}
        self._missing_by_round: dict[int, dict[int, dict[bytes, None]]] = {}
        self._accounts = [_Account() for _ in range(committee_size)]
        self._hungry: dict[AuthorityIndex, None] = {}
        self._queue: list[tuple[int, VertexRef]] = []
        self._silent: set[int] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, identifier: bytes) -> bool:
        return identifier in self._waiting

    @property
    def missing_count(self) -> int:
        """How many ancestors are missing."""
        return len(self._missing)

    def is_missing(self, identifier: bytes) -> bool:
        """Whether some vertex waits for this one."""
        return identifier in self._missing

    def missing_at(self, round_number: int, author: int) -> int:
        """How many different vertices of the author and round are missing."""
        return len(self._missing_by_round.get(round_number, {}).get(author, ()))

    def waiters(self, identifier: bytes) -> list[Vertex]:
        """The vertices that wait for this one."""
        missing = self._missing.get(identifier)
        return [self._waiting[waiter].vertex for waiter in missing.waiters] if missing is not None else []

    def charged(self, identifier: bytes) -> AuthorityIndex | None:
        """Whose share a missing vertex takes, None where nothing waits for it."""
        missing = self._missing.get(identifier)
        return None if missing is None else missing.charged

    def add(
        self,
        vertex: Vertex,
        missing: Sequence[VertexRef],
        sender: AuthorityIndex,
        now_ms: int,
        charged: AuthorityIndex | None = None,
    ) -> bool:
        """Let a vertex wait for its missing parents; False where whoever it is charged to (its author, unless said
        otherwise) has no room left for it.
        """
        payer = vertex.author if charged is None else charged
        new = [ref for ref in missing if ref.id not in self._missing]
        if not self._has_room(vertex, payer, len(new)):
            return False
        # An ancestor of one that was itself asked for isn't on its way: no use in waiting for it.
        delay = 0 if self.is_missing(vertex.id) else self._parameters.fetch_delay_ms
        account = self._accounts[payer]
        self._waiting[vertex.id] = _Waiting(vertex, payer, {ref.id: None for ref in missing})
        self._waiting_by_round.setdefault(vertex.round, {})[vertex.id] = None
        account.vertices += 1
        account.size += _size(vertex)
        account.missing += len(new)
        for ref in new:
            self._missing[ref.id] = _Missing(ref, payer, [sender], now_ms + delay)
            self._missing_by_round.setdefault(ref.round, {}).setdefault(ref.author, {})[ref.id] = None
            heapq.heappush(self._queue, (now_ms + delay, ref))
        for ref in missing:
            entry = self._missing[ref.id]
            entry.waiters[vertex.id] = None
            if vertex.author not in entry.sources:
                self._turned_up(entry, vertex.author, now_ms)
        return True

    def _turned_up(self, entry: _Missing, author: AuthorityIndex, now_ms: int) -> None:
        """An author builds on what is missing, so it holds it by now, whatever it answered before."""
        entry.sources.append(author)
        if entry.is_flying and entry.asked[-1] == author:
            return
        entry.attempts = 0
        if author in entry.asked:
            entry.asked.remove(author)
        soon = now_ms + self._parameters.fetch_delay_ms
        if entry.next_ms > soon or entry.next_ms == _IN_TURN:
            self._schedule(entry, soon)

    def _has_room(self, vertex: Vertex, payer: AuthorityIndex, new: int) -> bool:
        """One vertex an author always fits, however large."""
        parameters, count = self._parameters, self._committee_size
        account = self._accounts[payer]
        return (
            account.vertices < max(1, parameters.max_pending // count)
            and (not account.size or account.size + _size(vertex) <= parameters.max_pending_bytes // count)
            and account.missing + new <= max(2 * count, parameters.max_missing // count)
        )

    def resolve(self, identifier: bytes) -> list[Vertex]:
        """This vertex is here now: those that wait for nothing else any more, in order of arrival."""
        entry = self._missing.get(identifier)
        if entry is None:
            return []
        if entry.is_flying:
            self._silent.discard(entry.asked[-1])
        self._drop_missing(entry)
        ready: list[Vertex] = []
        for waiter in entry.waiters:
            waiting = self._waiting[waiter]
            del waiting.missing[identifier]
            if not waiting.missing:
                ready.append(waiting.vertex)
                self._remove(waiting.vertex)
        return ready

    def prune(self, through: int) -> tuple[list[Vertex], list[Vertex]]:
        """The GC round moved: (those that became ready since what they miss is taken unread now, those dropped)."""
        dropped: list[Vertex] = []
        for number in [number for number in self._waiting_by_round if number <= through]:
            for identifier in tuple(self._waiting_by_round[number]):
                waiting = self._waiting[identifier]
                self._remove(waiting.vertex)
                dropped.append(waiting.vertex)
                for needed in waiting.missing:
                    entry = self._missing[needed]
                    del entry.waiters[identifier]
                    if not entry.waiters:
                        self._drop_missing(entry)
        ready: list[Vertex] = []
        for number in sorted(number for number in self._missing_by_round if number <= through):
            for identifiers in tuple(self._missing_by_round[number].values()):
                for identifier in tuple(identifiers):
                    ready.extend(self.resolve(identifier))
        return ready, dropped

    def unavailable(self, refs: Iterable[VertexRef], sender: AuthorityIndex, now_ms: int) -> None:
        """The sender doesn't have these: ask the next source at once, unless all were asked already."""
        for ref in refs:
            entry = self._missing.get(ref.id)
            if entry is not None and entry.asked[-1:] == [sender] and entry.attempts < self._committee_size:
                self._land(entry)
                self._schedule(entry, now_ms)

    def due(self, now_ms: int, held: Container[bytes] = ()) -> list[tuple[AuthorityIndex, tuple[VertexRef, ...]]]:
        """What to ask now, and whom; those held are here already.

        An author has no more in flight than its share of `max_in_flight` ancestors, the others wait their turn; a
        request names no more than `max_refs_a_request`.
        """
        while self._queue and self._queue[0][0] <= now_ms:
            at, ref = heapq.heappop(self._queue)
            entry = self._missing.get(ref.id)
            if entry is not None and entry.next_ms == at:
                if entry.is_flying and now_ms >= entry.patient_until_ms:
                    self._silent.add(entry.asked[-1])
                self._land(entry)
                entry.next_ms = _IN_TURN
                entry.payer = self._payer(entry)
                self._accounts[entry.payer].turn.append(ref.id)
                self._hungry[entry.payer] = None
        asked: dict[AuthorityIndex, list[VertexRef]] = {}
        for author in tuple(self._hungry):
            self._ask_for(self._accounts[author], asked, now_ms, held)
            if not self._accounts[author].turn:
                del self._hungry[author]
        step = self._parameters.max_refs_a_request
        return [
            (target, tuple(refs[start : start + step]))
            for target, unsorted in sorted(asked.items())
            for refs in (sorted(unsorted),)
            for start in range(0, len(refs), step)
        ]

    def _ask_for(
        self, account: _Account, asked: dict[AuthorityIndex, list[VertexRef]], now_ms: int, held: Container[bytes]
    ) -> None:
        share = max(1, self._parameters.max_in_flight // self._committee_size)
        while account.turn and account.flying < share:
            entry = self._missing.get(account.turn.popleft())
            if entry is None or entry.next_ms != _IN_TURN or self._accounts[entry.payer] is not account:
                continue
            target = None
            if entry.ref.id not in held and entry.ref.id not in self._waiting:
                target = self._next_source(entry)
            if target is None:
                self._schedule(entry, now_ms + self._parameters.fetch_timeout_cap_ms)
                continue
            asked.setdefault(target, []).append(entry.ref)
            account.flying += 1
            entry.is_flying = True
            entry.patient_until_ms = now_ms + self._patience(entry)
            self._schedule(entry, entry.patient_until_ms)

    def next_due(self, now_ms: int) -> int | None:
        """When to ask next (ms), never in the past."""
        while self._queue:
            at, ref = self._queue[0]
            entry = self._missing.get(ref.id)
            if entry is not None and entry.next_ms == at:
                return max(at, now_ms + 1)
            heapq.heappop(self._queue)
        return None

    def _schedule(self, entry: _Missing, at_ms: int) -> None:
        entry.next_ms = at_ms
        heapq.heappush(self._queue, (at_ms, entry.ref))

    def _patience(self, entry: _Missing) -> int:
        doublings = min((entry.attempts - 1) // 2, 8)
        return min(self._parameters.fetch_timeout_ms << doublings, self._parameters.fetch_timeout_cap_ms)

    def _next_source(self, entry: _Missing) -> AuthorityIndex | None:
        """Whom to ask now: the known sources in order, then everyone in turn, the silent last; never ourselves."""
        avoided = {*entry.asked, *self._silent, self._own}
        target = next((source for source in entry.sources if source not in avoided), None)
        if target is None:
            others = [AuthorityIndex(index) for index in range(self._committee_size) if index != self._own]
            if not others:
                return None
            fresh = [other for other in others if other not in avoided]
            fresh = fresh or [other for other in others if other not in entry.asked] or others
            target = fresh[(int.from_bytes(entry.ref.id[:8], "big") + entry.attempts) % len(fresh)]
        if target in entry.asked:
            entry.asked.remove(target)
        entry.asked.append(target)
        entry.attempts += 1
        return target

    def _land(self, entry: _Missing) -> None:
        """A request came to an end, with an answer or without."""
        if entry.is_flying:
            entry.is_flying = False
            self._accounts[entry.payer].flying -= 1

    def _payer(self, entry: _Missing) -> AuthorityIndex:
        """In whose share it flies: of the authors that wait for it the one with most room, lest a flood hold it up."""
        accounts = self._accounts
        authors = {self._waiting[waiter].vertex.author for waiter in entry.waiters}
        return min(authors, key=lambda author: (accounts[author].flying + len(accounts[author].turn), author))

    def _drop_missing(self, entry: _Missing) -> None:
        ref = entry.ref
        del self._missing[ref.id]
        authors = self._missing_by_round[ref.round]
        del authors[ref.author][ref.id]
        if not authors[ref.author]:
            del authors[ref.author]
            if not authors:
                del self._missing_by_round[ref.round]
        self._accounts[entry.charged].missing -= 1
        self._land(entry)

    def _remove(self, vertex: Vertex) -> None:
        waiting = self._waiting.pop(vertex.id)
        same_round = self._waiting_by_round[vertex.round]
        del same_round[vertex.id]
        if not same_round:
            del self._waiting_by_round[vertex.round]
        account = self._accounts[waiting.payer]
        account.vertices -= 1
        account.size -= _size(vertex)


def _size(vertex: Vertex) -> int:
    return len(vertex.payload) + len(vertex.header_bytes) + sum(len(item) for item in vertex.evidence)
