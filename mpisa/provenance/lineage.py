"""Lineage: the graph of what an artefact was made from, and what it supersedes, walked through published records.

Nodes are artefacts by CID, or inputs known by a hub's name only (`unresolved`). A CID without a record here is a node
too (`unpublished`). The walk is breadth first, never recursive; cycles end it where they close, and every bound that
cuts it short is shown as `truncated`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeAlias

from mpisa.primitives.cid import Cid
from mpisa.primitives.identifiers import Address, format_address
from mpisa.primitives.record import ExternalReference, StoredRecord

MAX_DEPTH: Final = 64
MAX_NODES: Final = 1_000
MAX_RECORDS_PER_NODE: Final = 16
MAX_EDGES: Final = 10_000
SUPERSEDES: Final = "supersedes"

RecordLookup: TypeAlias = Callable[[Cid], Sequence[StoredRecord]]


class NodeStatus(StrEnum):
    """What is known of a node."""

    PUBLISHED = "published"
    UNPUBLISHED = "unpublished"
    UNRESOLVED = "unresolved"


@dataclass(frozen=True, slots=True)
class LineageNode:
    """An artefact at its shortest distance from the root; `records` are the claims about it, in the lookup's order."""

    id: str
    depth: int
    status: NodeStatus
    cid: Cid | None = None
    external: ExternalReference | None = None
    records: tuple[StoredRecord, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready form."""
        return {
            "id": self.id,
            "depth": self.depth,
            "status": self.status.value,
            "cid": None if self.cid is None else str(self.cid),
            "external": None if self.external is None else self.external.to_json(),
            "records": [record.to_json() for record in self.records],
        }


@dataclass(frozen=True, slots=True)
class LineageEdge:
    """`source` was made from `target` (or supersedes it), as `publisher` claims; node ids."""

    source: str
    target: str
    role: str
    relation: str
    publisher: Address

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready form."""
        return {
            "source": self.source,
            "target": self.target,
            "role": self.role,
            "relation": self.relation,
            "publisher": format_address(self.publisher),
        }


@dataclass(frozen=True, slots=True)
class Lineage:
    """The graph: the root is `nodes[0]`; nodes in the order in which the walk met them."""

    root: Cid
    nodes: tuple[LineageNode, ...]
    edges: tuple[LineageEdge, ...]
    truncated: bool

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready form."""
        return {
            "root": str(self.root),
            "nodes": [node.to_json() for node in self.nodes],
            "edges": [edge.to_json() for edge in self.edges],
            "truncated": self.truncated,
        }


@dataclass(frozen=True, slots=True)
class _Link:
    target: Cid | ExternalReference
    role: str
    relation: str


def walk_lineage(
    root: Cid,
    lookup: RecordLookup,
    *,
    max_depth: int = MAX_DEPTH,
    max_nodes: int = MAX_NODES,
    max_edges: int = MAX_EDGES,
) -> Lineage:
    """Walk inputs and superseded versions from `root`; `lookup` gives the records about a CID, if there are any."""
    nodes: dict[str, LineageNode] = {}
    edges: dict[LineageEdge, None] = {}
    truncated = False
    queue: deque[tuple[Cid | ExternalReference, int]] = deque([(root, 0)])
    known = {node_id(root)}
    while queue:
        target, depth = queue.popleft()
        node, cut = _resolve(target, depth, lookup)
        truncated |= cut
        nodes[node.id] = node
        for record in node.records:
            for link in _links(record):
                target_id = node_id(link.target)
                if target_id not in known:
                    if depth >= max_depth or len(known) >= max_nodes:
                        truncated = True
                        continue
                    known.add(target_id)
                    queue.append((link.target, depth + 1))
                if len(edges) >= max_edges:
                    truncated = True
                    continue
                edges[LineageEdge(node.id, target_id, link.role, link.relation, record.publisher)] = None
    return Lineage(root, tuple(nodes.values()), tuple(edges), truncated)


def node_id(target: Cid | ExternalReference) -> str:
    """A CID's text, or hub:repo@revision."""
    if isinstance(target, Cid):
        return str(target)
    suffix = "" if target.revision is None else f"@{target.revision}"
    return f"{target.hub}:{target.repo}{suffix}"


def _resolve(target: Cid | ExternalReference, depth: int, lookup: RecordLookup) -> tuple[LineageNode, bool]:
    if isinstance(target, ExternalReference):
        return LineageNode(node_id(target), depth, NodeStatus.UNRESOLVED, external=target), False
    records = lookup(target)
    status = NodeStatus.PUBLISHED if records else NodeStatus.UNPUBLISHED
    kept = tuple(records[:MAX_RECORDS_PER_NODE])
    return LineageNode(node_id(target), depth, status, cid=target, records=kept), len(records) > len(kept)


def _links(stored: StoredRecord) -> list[_Link]:
    record = stored.record
    links: list[_Link] = []
    for item in record.inputs:
        target = item.cid if item.cid is not None else item.external
        assert target is not None
        links.append(_Link(target, item.role, item.relation))
    if record.supersedes is not None:
        links.append(_Link(record.supersedes, "earlier-version", SUPERSEDES))
    return links
