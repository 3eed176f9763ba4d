"""Pending vertices: valid, but with ancestors that aren't here yet (docs/protocol.md, section 4).

A missing ancestor is waited for about a round trip, for it may just be late; then asked from the sender, then from
the authors whose vertices reference it, then from everyone in turn. Everything is bounded: vertices (each author has
its share), bytes, requests in flight. What doesn't fit is dropped: whoever needs it will bring it, or it is fetched
again.
"""

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field

from consensus.dag.vertex import Vertex, VertexRef
from consensus.parameters import Parameters
from mpisa.primitives.identifiers import AuthorityIndex


@dataclass(slots=True)
class _Missing:
    """An ancestor that vertices wait for."""

    ref: VertexRef
    sources: list[AuthorityIndex]
    next_ms: int
    attempts: int = 0
    waiters: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class _Waiting:
    vertex: Vertex
    missing: dict[bytes, None]


class Pending:
    """The waiting room and what is missing."""

    __slots__ = ("_by_author", "_bytes", "_committee_size", "_missing", "_own", "_parameters", "_waiting")

    def __init__(self, parameters: Parameters, committee_size: int, own: AuthorityIndex | None) -> None:
        self._parameters = parameters
        self._committee_size = committee_size
        self._own = own
        self._waiting: dict[bytes, _Waiting] = {}
        self._missing: dict[bytes, _Missing] = {}
        self._by_author: dict[int, int] = {}
        self._bytes = 0

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
        return sum(1 for item in self._missing.values() if item.ref.author == author and item.ref.round == round_number)

    def waiters(self, identifier: bytes) -> list[Vertex]:
        """The vertices that wait for this one."""
        missing = self._missing.get(identifier)
        return [self._waiting[waiter].vertex for waiter in missing.waiters] if missing is not None else []

    def add(self, vertex: Vertex, missing: Sequence[VertexRef], sender: AuthorityIndex, now_ms: int) -> bool:
        """Let a vertex wait for its missing parents; False where there is no room for it."""
        size = _size(vertex)
        share = max(1, self._parameters.max_pending // self._committee_size)
        if (
            len(self._waiting) >= self._parameters.max_pending
            or self._by_author.get(vertex.author, 0) >= share
            or self._bytes + size > self._parameters.max_pending_bytes
        ):
            return False
        self._waiting[vertex.id] = _Waiting(vertex, {ref.id: None for ref in missing})
        self._by_author[vertex.author] = self._by_author.get(vertex.author, 0) + 1
        self._bytes += size
        for ref in missing:
            entry = self._missing.get(ref.id)
            if entry is None:
                # An ancestor of one that was itself asked for isn't on its way: no use in waiting for it.
                delay = 0 if self.is_missing(vertex.id) else self._parameters.fetch_delay_ms
                entry = self._missing[ref.id] = _Missing(ref, [sender], now_ms + delay)
            entry.waiters.append(vertex.id)
            if vertex.author not in entry.sources:
                entry.sources.append(vertex.author)
        return True

    def resolve(self, identifier: bytes) -> list[Vertex]:
        """This vertex is here now: those that wait for nothing else any more, in order of arrival."""
        missing = self._missing.pop(identifier, None)
        ready: list[Vertex] = []
        for waiter in missing.waiters if missing is not None else ():
            waiting = self._waiting[waiter]
            del waiting.missing[identifier]
            if not waiting.missing:
                ready.append(waiting.vertex)
                self._remove(waiting.vertex)
        return ready

    def prune(self, through: int) -> tuple[list[Vertex], list[Vertex]]:
        """The GC round moved: (those that became ready since what they miss is taken unread now, those dropped)."""
        dropped: list[Vertex] = []
        for item in [item.vertex for item in self._waiting.values() if item.vertex.round <= through]:
            if item.id in self._waiting:
                waiting = self._waiting[item.id]
                self._remove(item)
                dropped.append(item)
                for needed in waiting.missing:
                    self._missing[needed].waiters.remove(item.id)
        ready: list[Vertex] = []
        for identifier in [key for key, item in self._missing.items() if item.ref.round <= through]:
            ready.extend(self.resolve(identifier))
        for identifier in [key for key, item in self._missing.items() if not item.waiters]:
            del self._missing[identifier]
        return ready, dropped

    def unavailable(self, refs: Iterable[VertexRef], sender: AuthorityIndex, now_ms: int) -> None:
        """The sender doesn't have these: ask the next source at once."""
        for ref in refs:
            entry = self._missing.get(ref.id)
            if entry is not None and entry.attempts and self._source(entry, entry.attempts - 1) == sender:
                entry.next_ms = now_ms

    def due(self, now_ms: int, held: Container[bytes] = ()) -> list[tuple[AuthorityIndex, tuple[VertexRef, ...]]]:
        """What to ask now, and whom; those held are here already.

        No more than `max_in_flight` ancestors are asked for at a time, nor `max_refs_a_request` in one request.
        """
        parameters = self._parameters
        in_flight = sum(1 for item in self._missing.values() if item.attempts and item.next_ms > now_ms)
        asked: dict[AuthorityIndex, list[VertexRef]] = {}
        for entry in sorted(self._missing.values(), key=lambda item: item.ref):
            if entry.next_ms > now_ms or entry.ref.id in held or entry.ref.id in self._waiting:
                continue
            if in_flight >= parameters.max_in_flight:
                break
            target = self._source(entry, entry.attempts)
            if target is None:
                continue
            asked.setdefault(target, []).append(entry.ref)
            delay = min(parameters.fetch_timeout_ms << min(entry.attempts // 2, 8), parameters.fetch_timeout_cap_ms)
            entry.next_ms = now_ms + delay
            entry.attempts += 1
            in_flight += 1
        step = parameters.max_refs_a_request
        return [
            (target, tuple(refs[start : start + step]))
            for target, refs in asked.items()
            for start in range(0, len(refs), step)
        ]

    def next_due(self, now_ms: int, held: Container[bytes] = ()) -> int | None:
        """When to ask next (ms); never in the past, so that a full flight doesn't spin."""
        soonest = min(
            (
                item.next_ms
                for item in self._missing.values()
                if item.ref.id not in held and item.ref.id not in self._waiting
            ),
            default=None,
        )
        return None if soonest is None else max(soonest, now_ms + 1)

    def _source(self, entry: _Missing, attempt: int) -> AuthorityIndex | None:
        """Whom to ask at this attempt: the known sources in order, then everyone in turn; never ourselves."""
        known = [source for source in entry.sources if source != self._own]
        if attempt < len(known):
            return known[attempt]
        others = [index for index in range(self._committee_size) if index != self._own]
        return AuthorityIndex(others[(entry.ref.author + attempt) % len(others)]) if others else None

    def _remove(self, vertex: Vertex) -> None:
        del self._waiting[vertex.id]
        self._by_author[vertex.author] -= 1
        self._bytes -= _size(vertex)


def _size(vertex: Vertex) -> int:
    return len(vertex.payload) + len(vertex.header_bytes) + sum(len(item) for item in vertex.evidence)
