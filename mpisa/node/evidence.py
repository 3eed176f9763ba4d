"""Evidence that this node found or was given, kept on the disk until a commit orders it (docs/protocol.md, section 8).

What shows an offence may be seen once and by one node alone, so a restart must not lose it. Kept is one piece for each
charge, a bounded number; what a commit orders, from whomever, is let go, and so is what is no longer admissible.
Non-goals: judging, which whoever hands evidence in has done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from consensus.dag.evidence import charge_of, read_subject
from consensus.dag.judging import read_evidence
from mpisa.node.offences import jurisdiction_in
from mpisa.primitives.errors import Rejection

if TYPE_CHECKING:
    from collections.abc import Iterable

    from consensus.dag.evidence import Charge
    from consensus.dag.vertex import Vertex
    from consensus.parameters import Parameters
    from mpisa.node.chain_store import ChainStore
    from mpisa.node.consensus_store import ConsensusStore
    from mpisa.node.database import Change
    from mpisa.primitives.identifiers import Epoch

MAX_KEPT: Final = 256

log = structlog.get_logger(__name__)


class EvidenceKeeper:
    """See the module. Belongs to the loop; whoever gets changes from it writes them."""

    def __init__(self, vertices: ConsensusStore, store: ChainStore, parameters: Parameters) -> None:
        self._vertices = vertices
        self._store = store
        self._parameters = parameters
        self._kept: dict[Charge, bytes] = {self._charge(raw): raw for raw in vertices.evidence(MAX_KEPT)}

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, raw: bytes) -> list[Change]:
        """What to write, durably, before anybody relies on it."""
        charge = self._charge(raw)
        if charge in self._kept:
            return []
        if len(self._kept) >= MAX_KEPT:
            log.warning("too much evidence waits to be ordered", kind=charge.kind, authority=charge.author)
            return []
        self._kept[charge] = raw
        return [self._vertices.evidence_change(raw)]

    def ordered(self, vertices: Iterable[Vertex]) -> list[Change]:
        """What to forget now that these vertices are executed; losing that is harmless."""
        charges = [self._charge(raw) for vertex in vertices for raw in vertex.evidence]
        return [self._forget(charge) for charge in charges if charge in self._kept]

    def waiting(self, epoch: Epoch) -> tuple[list[bytes], list[Change]]:
        """What is to be offered in an epoch, and what to forget since it isn't admissible any more."""
        jurisdiction = jurisdiction_in(self._store, epoch)
        changes = []
        for charge, raw in tuple(self._kept.items()):
            try:
                read_evidence(raw, jurisdiction, self._parameters)
            except Rejection:
                changes.append(self._forget(charge))
        return list(self._kept.values()), changes

    def _forget(self, charge: Charge) -> Change:
        return self._vertices.evidence_change(self._kept.pop(charge), keep=False)

    def _charge(self, raw: bytes) -> Charge:
        return charge_of(read_subject(raw, self._parameters))
