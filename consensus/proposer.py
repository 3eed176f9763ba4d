"""Making the own vertices (docs/protocol.md, sections 3 and 10).

parents[0] is the own previous vertex; then every author's vertex of the round below, or else its latest one that the
own chain hasn't referenced yet: include all that is known. Of twins the first seen is built on; a known equivocator
isn't chosen as a new parent: only where others built on its vertex already, and no quorum is without it. Execution
signatures and evidence that no vertex carried yet travel along.
"""

from collections.abc import Set
from typing import Final

from consensus.dag.committee import Committee
from consensus.dag.evidence import MAX_STRAYS, Charge, EvidenceKind, Found, Subject, charge_of
from consensus.dag.graph import Graph
from consensus.dag.vertex import (
    ExecutionSignature,
    Vertex,
    VertexHeader,
    VertexRef,
    evidence_root,
    payload_root,
    sign_vertex,
)
from consensus.identity import Seat
from consensus.parameters import Parameters
from mpisa.primitives.identifiers import Epoch, Round

MAX_EVIDENCE_WAITING: Final = 256
MAX_CARRIED: Final = 4_096


class Proposer:
    """The own chain: its last vertex, what it referenced, and what is to travel in the next one."""

    __slots__ = (
        "_carried",
        "_chain_hash",
        "_committee",
        "_epoch",
        "_evidence",
        "_genesis",
        "_graph",
        "_key",
        "_own",
        "_parameters",
        "_referenced",
        "_signatures",
        "last",
        "last_timestamp_ms",
    )

    def __init__(
        self,
        parameters: Parameters,
        committee: Committee,
        graph: Graph,
        chain_hash: bytes,
        epoch: Epoch,
        seat: Seat,
        genesis: tuple[VertexRef, ...],
    ) -> None:
        self._parameters = parameters
        self._committee = committee
        self._graph = graph
        self._chain_hash = chain_hash
        self._epoch = epoch
        self._own = seat.index
        self._key = seat.key
        self._referenced = [0] * len(committee)
        self._signatures: dict[int, ExecutionSignature] = {}
        self._evidence: dict[Charge, bytes] = {}
        self._carried: dict[Charge, None] = {}
        self._genesis = genesis
        self.last = genesis[seat.index]
        self.last_timestamp_ms = 0

    def restore(self, vertex: Vertex) -> None:
        """Go on behind an own vertex made before a restart."""
        self.last = vertex.ref
        self.last_timestamp_ms = vertex.timestamp_ms
        for ref in vertex.parents:
            self._referenced[ref.author] = max(self._referenced[ref.author], ref.round)

    def carry_signature(self, signature: ExecutionSignature) -> None:
        """Repeat an own execution signature in the next vertex; the oldest gives way where too many wait."""
        self._signatures[signature.height] = signature
        if len(self._signatures) > self._parameters.certifier_window:
            del self._signatures[min(self._signatures)]

    def carry_evidence(self, found: Found) -> None:
        """Carry evidence in a next vertex, unless another does: one piece an author and kind; what is too much is
        dropped.
        """
        charge = charge_of(found.subject)
        if charge not in self._carried and len(self._evidence) < MAX_EVIDENCE_WAITING:
            self._evidence.setdefault(charge, found.raw)

    def carry_again(self, found: Found) -> None:
        """What carried it will never be ordered."""
        self._carried.pop(charge_of(found.subject), None)
        self.carry_evidence(found)

    def was_carried(self, subject: Subject) -> None:
        """An accepted vertex that others build on carries such evidence."""
        charge = charge_of(subject)
        self._evidence.pop(charge, None)
        self._carried[charge] = None
        if len(self._carried) > MAX_CARRIED:
            del self._carried[next(iter(self._carried))]

    def is_loaded(self, *, with_signatures: bool) -> bool:
        """Whether there is evidence to carry, or own execution signatures where those are to be carried at once."""
        return bool(self._evidence or (with_signatures and self._signatures))

    def propose(self, target: Round, payload: bytes, equivocators: Set[int], now_ms: int) -> Vertex | None:
        """The own vertex of this round, or None while the parents that may be chosen are no quorum."""
        assert target > self.last.round, "one vertex a round"
        parents = self._choose_parents(target, equivocators)
        if not self._is_quorum(parents, target):
            parents += self._choose_vouched(target, equivocators)
            if not self._is_quorum(parents, target):
                return None
        signatures, evidence = self._take()
        timestamp = max(now_ms, self.last_timestamp_ms)
        header = VertexHeader(
            chain_hash=self._chain_hash,
            epoch=self._epoch,
            round=target,
            author=self._own,
            timestamp_ms=timestamp,
            parents=parents,
            payload_root=payload_root(payload),
            payload_length=len(payload),
            execution_signatures=signatures,
            evidence_root=evidence_root(evidence),
        )
        vertex = sign_vertex(header, payload, evidence, self._key)
        self.restore(vertex)
        return vertex

    def _choose_parents(self, target: Round, equivocators: Set[int]) -> tuple[VertexRef, ...]:
        parents = [self.last]
        for authority in self._committee.authorities:
            author = authority.index
            if author == self._own:
                continue
            if target == 1:
                parents.append(self._genesis[author])
                continue
            if author in equivocators:
                continue
            lowest = max(self._referenced[author], self._graph.pruned_round)
            highest = min(target - 1, self._graph.latest_round(author))
            for round_number in range(highest, lowest, -1):
                nodes = self._graph.at(round_number, author)
                if nodes:
                    parents.append(nodes[0].ref)
                    break
        return tuple(parents)

    def _choose_vouched(self, target: Round, equivocators: Set[int]) -> tuple[VertexRef, ...]:
        """Equivocators' vertices of the round below that others built on already, where it takes them to reach a
        quorum.
        """
        nodes = [self._graph.vouched_at(target - 1, author) for author in sorted(equivocators) if author != self._own]
        return tuple(node.ref for node in nodes if node is not None)

    def _is_quorum(self, parents: tuple[VertexRef, ...], target: Round) -> bool:
        return self._committee.is_quorum(
            self._committee.stake_of(ref.author for ref in parents if ref.round == target - 1)
        )

    def _take(self) -> tuple[tuple[ExecutionSignature, ...], tuple[bytes, ...]]:
        heights = sorted(self._signatures)[: self._parameters.max_execution_signatures]
        signatures = tuple(self._signatures.pop(height) for height in heights)
        strays = [charge for charge in sorted(self._evidence) if charge.kind is EvidenceKind.STRAY_HEADER]
        fit = [charge for charge in sorted(self._evidence) if charge not in strays[MAX_STRAYS:]]
        return signatures, tuple(self._evidence.pop(charge) for charge in fit[: self._parameters.max_evidence])
