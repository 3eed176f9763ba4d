"""Back from the store: the graph and the committed window as they were (docs/protocol.md, section 13)."""

from collections.abc import Iterable

from consensus.dag.admission import Admission
from consensus.dag.graph import Node
from consensus.dag.vertex import Vertex, decode_vertex
from consensus.events import StoredEpoch
from consensus.order.sequencer import Sequencer
from consensus.parameters import Parameters
from consensus.presence import Presence
from consensus.proposer import Proposer
from consensus.resender import Resender
from mpisa.primitives.errors import StoreDamaged

_HINT = "stop the node and run `mpisa node repair`; an authority that lost its vertices sits the epoch out"


def restore(
    admission: Admission, sequencer: Sequencer, vertices: Iterable[Vertex], proposal: Vertex | None
) -> list[Node]:
    """Refill the graph and flag what the cursor's commits took; the accepted nodes in causal order.

    Vertices whose ancestors the store lost wait for them as if just received. Raises StoreDamaged where the committed
    window isn't the one that the cursor names.
    """
    kept = sorted(vertices, key=lambda vertex: vertex.ref)
    if proposal is not None:
        kept.append(proposal)
    accepted: list[Node] = []
    for vertex in kept:
        accepted.extend(admission.restore(vertex))
    linearizer = sequencer.linearizer
    checkpoint = linearizer.checkpoint
    if not checkpoint.leaders:
        return accepted
    lost = linearizer.restore()
    if lost is not None:
        raise StoreDamaged(
            f"the vertex store lacks vertex {lost.id.hex()} of round {lost.round}, which the ledger has executed",
            hint=_HINT,
        )
    if linearizer.window_root() != checkpoint.window_root:
        raise StoreDamaged("the vertex store doesn't lead to the committed window of the ledger", hint=_HINT)
    return accepted


def read_proposal(stored: StoredEpoch, proposer: Proposer | None, parameters: Parameters) -> Vertex | None:
    """The last own vertex; nobody without a seat has one. Raises Rejection."""
    if stored.proposal is None or proposer is None:
        return None
    return decode_vertex(stored.proposal.raw, parameters)


def resume(
    stored: StoredEpoch,
    last: Vertex | None,
    accepted: list[Node],
    proposer: Proposer | None,
    presence: Presence,
    resender: Resender,
) -> None:
    """Go on behind the last own proposal, unless what was signed isn't known."""
    presence.restore(None if last is None else last.round, accepted)
    if proposer is None:
        return
    if stored.lost is not None:
        presence.absent = stored.lost
    if last is not None and stored.proposal is not None:
        proposer.restore(last)
        resender.raw = stored.proposal.raw
