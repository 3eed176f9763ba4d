"""What admission and the witness met, told to whom it concerns: evidence to carry and to show, and broken rules."""

from consensus.dag.admission import Admission
from consensus.dag.evidence import EvidenceKind, Found, read_subject
from consensus.dag.vertex import Vertex
from consensus.events import Effect, EvidenceFound, PeerFault
from consensus.order.witness import Witness
from consensus.parameters import Parameters
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


def hear(
    vertex: Vertex, parameters: Parameters, witness: Witness, proposer: Proposer | None, *, by_equivocator: bool
) -> None:
    """An accepted vertex carries evidence: nobody needs to carry or to find it any more. But nobody builds on a known
    equivocator's vertex, so what that carries (against itself, say) must be carried all the same.
    """
    for item in vertex.evidence:
        subject = read_subject(item, parameters)
        is_new = not witness.is_accused(subject)
        witness.accuse(subject)
        if proposer is None:
            continue
        if not by_equivocator:
            proposer.was_carried(subject)
        elif is_new:
            proposer.carry_evidence(Found(subject, item))


def unhear(vertex: Vertex, parameters: Parameters, proposer: Proposer | None) -> None:
    """A vertex will never be ordered: the evidence in it is to be carried again."""
    if proposer is not None:
        for item in vertex.evidence:
            proposer.carry_again(Found(read_subject(item, parameters), item))
