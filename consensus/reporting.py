"""What admission and the witness met, told to whom it concerns: evidence to carry and to show, and broken rules."""

from consensus.dag.admission import Admission
from consensus.dag.evidence import EvidenceKind
from consensus.events import Effect, EvidenceFound, PeerFault
from consensus.order.witness import Witness
from consensus.presence import Presence
from consensus.proposer import Proposer
from mpisa.primitives.identifiers import AuthorityIndex, Epoch


def report(
    effects: list[Effect],
    admission: Admission,
    witness: Witness,
    proposer: Proposer | None,
    presence: Presence,
    own: AuthorityIndex | None,
    epoch: Epoch,
) -> None:
    """Append the effects, and forget what was found."""
    for found in (*admission.found, *witness.found):
        subject = found.subject
        effects.append(EvidenceFound(subject.kind, subject.author, subject.position, found.raw, epoch))
        if subject.author == own and subject.kind is EvidenceKind.DOUBLE_VERTEX:
            presence.absent = f"the own key signed two vertices of round {subject.position}"
        if proposer is not None:
            proposer.carry_evidence(found)
    effects.extend(PeerFault(author, rejection, epoch) for author, rejection in admission.faults)
    admission.found.clear()
    witness.found.clear()
    admission.faults.clear()
