"""What a node leaves behind when it halts (docs/protocol.md, section 6)."""

from consensus.dag.graph import Graph
from consensus.order.committer import Conflict
from consensus.parameters import WAVE_ROUNDS
from mpisa.primitives import codec


def halt_evidence(graph: Graph, conflict: Conflict) -> bytes:
    """The signed headers of the conflict's wave, ascending: both vertices, their votes and their certificates.

    Canonical encoding of a list of (header, signature).
    """
    nodes = [
        node
        for number in range(conflict.slot.round, conflict.slot.round + WAVE_ROUNDS)
        for node in graph.nodes_at(number)
    ]
    nodes.sort(key=lambda node: node.ref)
    return codec.encode(tuple((node.vertex.header_bytes, node.vertex.signature) for node in nodes))
