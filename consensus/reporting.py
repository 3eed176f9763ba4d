"""What admission met, told to whom it concerns: evidence to carry and to show, rules that a vertex broke."""

from consensus.dag.admission import Admission
from consensus.events import Effect, EvidenceFound, PeerFault
from consensus.presence import Presence
from consensus.proposer import Proposer
from mpisa.primitives.identifiers import AuthorityIndex, Epoch


def report(
    effects: list[Effect],
    admission: Admission,
    proposer: Proposer | None,
    presence: Presence,
    own: AuthorityIndex | None,
    epoch: Epoch,
) -> None:
    """Append the effects, and forget what was found."""
    for evidence in admission.found:
        effects.append(EvidenceFound(evidence.author, evidence.round, evidence.raw, epoch))
        if evidence.author == own:
            presence.absent = f"the own key signed two vertices of round {evidence.round}"
        if proposer is not None:
            proposer.carry_evidence(evidence)
    effects.extend(PeerFault(author, rejection, epoch) for author, rejection in admission.faults)
    admission.found.clear()
    admission.faults.clear()
