"""Back from the store: the graph and the committed window as they were (docs/protocol.md, section 13)."""

from collections.abc import Iterable

from consensus.dag.admission import Admission
from consensus.dag.graph import Node
from consensus.dag.vertex import Vertex
from consensus.order.sequencer import Sequencer
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
