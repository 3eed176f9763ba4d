"""The recent DAG as this node sees it, with names: read from the engine, bounded by what is asked and by MAX_SEEN."""

from __future__ import annotations

from typing import TYPE_CHECKING

from consensus.dag.vertex import decode_vertex
from consensus.survey import MAX_ROUNDS
from mpisa.ledger.payload import decode_payload
from mpisa.node.views import DagView, VertexView
from mpisa.primitives.errors import NotFound, Rejection, UsageError

if TYPE_CHECKING:
    from mpisa.node.runtime import Runtime

MAX_SEEN = 4_000
"""Vertices shown at once, twins aside: a large committee gets fewer rounds."""

MIN_PREFIX_BYTES = 4


def dag_of(runtime: Runtime, rounds: int) -> DagView:
    """The last rounds of the current epoch."""
    helm = runtime.helm
    most = min(rounds, MAX_ROUNDS, max(1, MAX_SEEN // len(helm.committee)))
    survey = helm.succession.survey(most)
    validators = runtime.store.epoch(helm.epoch).validators
    return DagView(
        survey,
        tuple(item.name for item in validators),
        tuple(item.address for item in validators),
        runtime.helm.own,
    )


def vertex_of(runtime: Runtime, prefix: bytes) -> VertexView:
    """A vertex of the recent DAG by its id, or by the first bytes of it. Raises NotFound and UsageError."""
    if len(prefix) < MIN_PREFIX_BYTES:
        raise UsageError(f"vertex: expected at least the first {2 * MIN_PREFIX_BYTES} digits of an id")
    found = runtime.helm.succession.find(prefix)
    if len(found) > 1:
        raise UsageError(f"vertex: {prefix.hex()} begins more than one id", hint="give more digits")
    if not found:
        raise NotFound(
            f"no vertex {prefix.hex()} in the recent DAG of this node",
            hint="only the rounds that may still be built on are looked at: mpisa chain dag shows ids",
        )
    epoch, seen = found[0]
    validators = runtime.store.epoch(epoch).validators
    raw = runtime.vertices.vertex(epoch, seen.round, seen.author, seen.id)
    size = transactions = evidence = None
    if raw is not None:
        vertex = decode_vertex(raw, runtime.parameters)
        size, evidence = len(raw), len(vertex.evidence)
        try:
            transactions = len(decode_payload(vertex.payload))
        except Rejection:
            transactions = 0  # a payload that isn't a list of transactions holds none
    return VertexView(epoch, seen, validators[seen.author].name, size, transactions, evidence)
