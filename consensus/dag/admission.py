"""Admission: which received vertices enter the graph, and when (docs/protocol.md, sections 4 and 8).

A vertex that `verify_vertex` passed enters once all its parents above the GC round have; a reference is checked
against the vertex once that is held, and taken unread at or below the GC round. Of an equivocator's twins the first
seen is kept; another is taken only where a vertex needs it that isn't itself written by a known equivocator. So a twin
that nobody else builds on costs one piece of evidence and nothing more.

Twins that reference distinct twins would still grow without bound. So each one needed is charged to its introducer: the
author of the vertex that needs it, or if that is an equivocator, whoever that vertex is charged to. An author may
introduce so many an author and round, twice as many for each known equivocator. That is enough for whatever an honest
author built on before it knew better: those it was fooled by showed others something else, so they are known by then.
One bound for all introducers together would be used up by different twins on different nodes, which could then never
take each other's vertices.
"""

from collections import deque
from dataclasses import replace
from typing import Final

from consensus.dag.committee import Committee
from consensus.dag.evidence import EvidenceKind, Found, double_vertex, read_subject
from consensus.dag.graph import Graph, Node
from consensus.dag.held import Held
from consensus.dag.pending import Pending
from consensus.dag.vertex import Vertex, VertexRef
from consensus.parameters import Parameters
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.identifiers import AuthorityIndex

_MOST_DOUBLINGS: Final = 16


class Admission:
    """The gate to the graph. `found` and `faults` gather what the engine reports and then clears."""

    __slots__ = (
        "_charges",
        "_committee",
        "_genesis",
        "_graph",
        "_introduced",
        "_parameters",
        "_seen",
        "equivocators",
        "faults",
        "found",
        "held",
        "pending",
    )

    def __init__(
        self,
        parameters: Parameters,
        committee: Committee,
        graph: Graph,
        genesis: tuple[VertexRef, ...],
        own: AuthorityIndex | None,
    ) -> None:
        self._parameters = parameters
        self._committee = committee
        self._graph = graph
        self._genesis = genesis
        self._charges: dict[int, dict[tuple[int, int], int]] = {}
        self._introduced = 0
        self._seen: dict[int, dict[int, list[Vertex]]] = {}
        self.held = Held(parameters, committee)
        self.pending = Pending(parameters, len(committee), own)
        self.equivocators: set[int] = set()
        self.found: list[Found] = []
        self.faults: list[tuple[AuthorityIndex, Rejection]] = []

    def is_known(self, identifier: bytes) -> bool:
        """Whether the vertex is here, accepted or waiting."""
        return identifier in self._graph or identifier in self.pending or identifier in self.held

    def latest_rounds(self) -> tuple[int, ...]:
        """The highest round in the graph of each author; nothing at or below the GC round is lacking."""
        lowest = self._graph.pruned_round
        return tuple(max(lowest, self._graph.latest_round(author)) for author in range(len(self._committee)))

    def receive(self, vertex: Vertex, sender: AuthorityIndex, now_ms: int) -> list[Node]:
        """Take in a vertex; what entered the graph through it, in causal order."""
        if vertex.round <= self._graph.pruned_round or self.is_known(vertex.id):
            return []
        self._read_evidence(vertex)
        if not self._is_admissible(vertex):
            return []
        queue = deque(self._release(vertex))
        if vertex.timestamp_ms > now_ms and not self._is_vouched(vertex):
            if self.held.add(vertex, [waiter.author for waiter in self.pending.waiters(vertex.id)]):
                self._remember(vertex)
        else:
            queue.append(vertex)
        return self._enter(queue, sender, now_ms)

    def restore(self, vertex: Vertex) -> list[Node]:
        """A vertex from the own store: it was accepted once, so neither clock nor budget is asked again."""
        if vertex.round <= self._graph.pruned_round or self.is_known(vertex.id):
            return []
        self._is_admissible(vertex)
        return self._enter(deque((vertex,)), None, 0)

    def wake(self, now_ms: int) -> list[Node]:
        """Let in the held vertices that our clock has passed."""
        due = self.held.due(now_ms)
        queue: deque[Vertex] = deque()
        for vertex in due:
            self._unhold(vertex)
            queue.append(vertex)
        return self._enter(queue, None, now_ms)

    def add_own(self, vertex: Vertex) -> list[Node]:
        """An own vertex that was just made: its parents are all in the graph."""
        return self._enter(deque((vertex,)), None, vertex.timestamp_ms)

    def prune(self, through: int, now_ms: int) -> list[Node]:
        """The GC round moved to `through` (the graph is pruned): forget, and let in what needn't wait any more."""
        self.held.prune(through)
        ready, dropped = self.pending.prune(through)
        for vertex in dropped:
            self._forget(vertex)
        for round_number in [number for number in self._seen if number <= through]:
            del self._seen[round_number]
        for round_number in [number for number in self._charges if number <= through]:
            self._introduced -= sum(self._charges.pop(round_number).values())
        for vertex in ready:
            self._forget(vertex)
        return self._enter(deque(sorted(ready, key=lambda item: item.ref)), None, now_ms)

    def _is_admissible(self, vertex: Vertex) -> bool:
        """Notes equivocation; whether the vertex may be taken: the first of its author and round, or a needed twin."""
        others = self._seen.get(vertex.round, {}).get(vertex.author, [])
        if not others:
            return True
        if vertex.author not in self.equivocators:
            self.equivocators.add(vertex.author)
            raw = double_vertex(others[0], vertex)
            self.found.append(Found(read_subject(raw, self._parameters), raw))
        return self.pending.is_missing(vertex.id)

    def _read_evidence(self, vertex: Vertex) -> None:
        """Whom a vertex convicts, whether or not it can be accepted: if it isn't, nobody else may bring it."""
        for item in vertex.evidence:
            subject = read_subject(item, self._parameters)
            is_new = subject.author not in self.equivocators and subject.epoch == vertex.header.epoch
            if subject.kind is EvidenceKind.DOUBLE_VERTEX and is_new:
                self.equivocators.add(subject.author)
                self.found.append(Found(subject, item))

    def _is_vouched(self, vertex: Vertex) -> bool:
        """Whether a validity threshold of authors already waits for it."""
        authors = {waiter.author for waiter in self.pending.waiters(vertex.id)}
        return self._committee.is_validity(self._committee.stake_of(authors))

    def _release(self, vertex: Vertex) -> list[Vertex]:
        """The held vertices that this one's references set free."""
        released = self.held.reference(vertex)
        for item in released:
            self._unhold(item)
        return released

    def _unhold(self, vertex: Vertex) -> None:
        self.held.remove(vertex)
        self._forget(vertex)

    def _enter(self, queue: deque[Vertex], sender: AuthorityIndex | None, now_ms: int) -> list[Node]:
        """Accept what can be, let the rest wait; accepting one may free others."""
        accepted: list[Node] = []
        while queue:
            vertex = queue.popleft()
            if vertex.id in self._graph:
                continue
            missing = self._check_parents(vertex)
            if missing is None:
                continue
            if missing:
                self._wait(vertex, missing, vertex.author if sender is None else sender, now_ms)
                continue
            accepted.append(self._graph.add(vertex))
            self._remember(vertex)
            self._read_evidence(vertex)
            for waiter in self.pending.resolve(vertex.id):
                self._forget(waiter)
                queue.append(waiter)
        return accepted

    def _check_parents(self, vertex: Vertex) -> list[VertexRef] | None:
        """The parents that aren't in the graph yet, or None where one isn't what the vertex says it is."""
        missing: list[VertexRef] = []
        gc_round = self._graph.pruned_round
        for position, ref in enumerate(vertex.parents):
            if ref.round == 0:
                if ref != self._genesis[ref.author]:
                    self._fault(vertex, position, "expected the genesis vertex of the epoch")
                    return None
            elif ref.round > gc_round:
                node = self._graph.get(ref.id)
                if node is None:
                    missing.append(ref)
                elif node.round != ref.round or node.author != ref.author:
                    self._fault(
                        vertex,
                        position,
                        f"expected round {node.round} and author {node.author}, got {ref.round} and {ref.author}",
                    )
                    return None
        return missing

    def _fault(self, vertex: Vertex, position: int, detail: str) -> None:
        rejection = Rejection(RejectionReason.BAD_PARENTS, f"vertex {vertex.id.hex()} parents[{position}]: {detail}")
        if len(self.faults) < self._parameters.max_pending:
            self.faults.append((vertex.author, rejection))

    def _wait(self, vertex: Vertex, missing: list[VertexRef], sender: AuthorityIndex, now_ms: int) -> None:
        """Let a vertex wait, unless only an equivocator wants what it needs, or too many twins were introduced."""
        introducer = self.pending.charged(vertex.id) if vertex.author in self.equivocators else vertex.author
        if introducer is None:
            return
        twins = [ref for ref in missing if self._is_new_twin(ref)]
        limit = self._parameters.twin_budget << min(len(self.equivocators), _MOST_DOUBLINGS)
        if any(self._charges.get(ref.round, {}).get((introducer, ref.author), 0) >= limit for ref in twins):
            return
        if self._introduced + len(twins) > self._parameters.max_twins:
            return
        if self.pending.add(vertex, missing, sender, now_ms, introducer):
            self._remember(vertex)
            for ref in twins:
                accounts = self._charges.setdefault(ref.round, {})
                accounts[introducer, ref.author] = accounts.get((introducer, ref.author), 0) + 1
                self._introduced += 1

    def _is_new_twin(self, ref: VertexRef) -> bool:
        """Whether nothing has needed it so far, and another vertex of its author and round is here or needed."""
        if self.is_known(ref.id) or self.pending.is_missing(ref.id):
            return False
        return bool(self._seen.get(ref.round, {}).get(ref.author) or self.pending.missing_at(ref.round, ref.author))

    def _remember(self, vertex: Vertex) -> None:
        """Keep what evidence would need of a vertex that was taken."""
        slim = replace(vertex, payload=b"", evidence=()) if vertex.payload or vertex.evidence else vertex
        self._seen.setdefault(vertex.round, {}).setdefault(vertex.author, []).append(slim)

    def _forget(self, vertex: Vertex) -> None:
        others = self._seen.get(vertex.round, {}).get(vertex.author)
        if others is not None:
            others[:] = [item for item in others if item.id != vertex.id]
