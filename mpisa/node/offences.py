"""Evidence in ordered vertices as the ledger takes it: who did what, in which epoch.

Consensus verified the evidence before the vertex was accepted, or a quorum did, where the commit came certified. What
this reads is the same on every node: bytes, committees, the heights of epochs. Non-goals: what it costs the offender
(ledger).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from consensus.dag.evidence import EvidenceKind
from consensus.dag.judging import Era, Jurisdiction, read_evidence
from mpisa.ledger.offences import Offence, OffenceKind
from mpisa.node.eras import StoredEras
from mpisa.primitives.digest import sha256

if TYPE_CHECKING:
    from collections.abc import Iterable

    from consensus.dag.vertex import Vertex
    from consensus.parameters import Parameters
    from mpisa.node.chain_store import ChainStore
    from mpisa.primitives.identifiers import Epoch

_KINDS: Final = {
    EvidenceKind.DOUBLE_VERTEX: OffenceKind.DOUBLE_VERTEX,
    EvidenceKind.DOUBLE_HEADER: OffenceKind.DOUBLE_HEADER,
    EvidenceKind.ABOVE_CLOSING: OffenceKind.ABOVE_CLOSING,
    EvidenceKind.STRAY_HEADER: OffenceKind.STRAY_HEADER,
}


def jurisdiction_in(store: ChainStore, epoch: Epoch) -> Jurisdiction:
    """What evidence in the vertices of an epoch is judged by. Raises NotFound."""
    record = store.epoch(epoch)
    era = Era(record.committee, record.base + 1)
    return Jurisdiction(store.header(0).chain_hash, epoch, era, StoredEras(store, epoch))


def offences_of(vertices: Iterable[Vertex], jurisdiction: Jurisdiction, parameters: Parameters) -> tuple[Offence, ...]:
    """The offences that these vertices prove, in their order; those of one commit, with its epoch's jurisdiction."""
    offences = []
    for raw in (raw for vertex in vertices for raw in vertex.evidence):
        evidence = read_evidence(raw, jurisdiction, parameters)
        offences.append(
            Offence(_KINDS[evidence.kind], evidence.address, evidence.epoch, evidence.position, sha256(raw))
        )
    return tuple(offences)
