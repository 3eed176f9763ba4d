"""The graph: accepted vertices by id and by round, causally closed above a pruned round (docs/protocol.md, section
4).

One parent per author makes a vote a dictionary look-up: each node keeps, by author, the parents of the round just
below. Twins of an equivocator are all kept; stake is counted by author, never by vertex.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from consensus.dag.committee import Committee
from consensus.dag.vertex import Vertex, VertexRef


class Node:
    """An accepted vertex: its place, its votes, whether a commit took it, and whether a vertex by no known equivocator
    builds on it."""

    __slots__ = ("author", "committed", "id", "parents", "round", "vertex", "votes", "vouched")

    def __init__(self, vertex: Vertex) -> None:
        header = vertex.header
        self.vertex = vertex
        self.id = vertex.id
        self.round: int = header.round
        self.author: int = header.author
        self.parents: tuple[VertexRef, ...] = header.parents
        below = header.round - 1
        self.votes: dict[int, bytes] = {ref[1]: ref[2] for ref in header.parents if ref[0] == below}
        self.committed = False
        self.vouched = False

    @property
    def ref(self) -> VertexRef:
        """How others refer to it."""
        return self.vertex.ref


class Graph:
    """Nodes above the pruned round. Rounds 0 and below what was pruned are never looked up."""

    __slots__ = ("_committee", "_latest", "_nodes", "_rounds", "_stakes", "highest_round", "pruned_round")

    def __init__(self, committee: Committee) -> None:
        self._committee = committee
        self._nodes: dict[bytes, Node] = {}
        self._rounds: dict[int, dict[int, list[Node]]] = {}
        self._stakes: dict[int, int] = {}
        self._latest: dict[int, int] = {}
        self.highest_round = 0
        self.pruned_round = 0

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, identifier: bytes) -> bool:
        return identifier in self._nodes

    def get(self, identifier: bytes) -> Node | None:
        """The node with this id, or None."""
        return self._nodes.get(identifier)

    def add(self, vertex: Vertex) -> Node:
        """Add a vertex whose parents above the pruned round are all in."""
        assert vertex.id not in self._nodes, "a vertex is added once"
        node = Node(vertex)
        self._nodes[node.id] = node
        authors = self._rounds.setdefault(node.round, {})
        twins = authors.get(node.author)
        if twins is None:
            authors[node.author] = [node]
            self._stakes[node.round] = self._stakes.get(node.round, 0) + self._committee.powers[node.author]
        else:
            twins.append(node)
        self.highest_round = max(self.highest_round, node.round)
        if node.round > self._latest.get(node.author, 0):
            self._latest[node.author] = node.round
        return node

    def vouch(self, node: Node) -> None:
        """The node's author isn't known as an equivocator: what it builds on may be built on."""
        for ref in node.parents:
            parent = self._nodes.get(ref.id)
            if parent is not None:
                parent.vouched = True

    def vouched_at(self, round_number: int, author: int) -> Node | None:
        """The author's first vouched vertex of the round, or None."""
        return next((node for node in self.at(round_number, author) if node.vouched), None)

    def shed(self, identifier: bytes) -> None:
        """Let go of what a committed vertex carried: whoever executes it has it, the graph needs the header alone."""
        node = self._nodes.get(identifier)
        if node is not None and (node.vertex.payload or node.vertex.evidence):
            node.vertex = replace(node.vertex, payload=b"", evidence=())

    def at(self, round_number: int, author: int) -> list[Node]:
        """The author's vertices of a round in order of arrival: the first is the one kept and built on."""
        return self._rounds.get(round_number, _NO_AUTHORS).get(author, _NO_NODES)

    def authors_at(self, round_number: int) -> Iterable[int]:
        """Who has a vertex in the round, in order of arrival."""
        return self._rounds.get(round_number, _NO_AUTHORS).keys()

    def nodes_at(self, round_number: int) -> Iterator[Node]:
        """Every vertex of the round, in order of arrival within each author."""
        for twins in self._rounds.get(round_number, _NO_AUTHORS).values():
            yield from twins

    def nodes(self) -> Iterator[Node]:
        """Every vertex, in order of arrival; nothing may be added meanwhile."""
        return iter(self._nodes.values())

    def stake_at(self, round_number: int) -> int:
        """The stake of the authors that have a vertex in the round."""
        return self._stakes.get(round_number, 0)

    def latest_round(self, author: int) -> int:
        """The author's highest round here, 0 for none."""
        return self._latest.get(author, 0)

    def prune(self, through: int) -> list[Node]:
        """Forget every round up to and including `through`; what was forgotten, in order of arrival by round."""
        gone: list[Node] = []
        for round_number in range(self.pruned_round + 1, through + 1):
            authors = self._rounds.pop(round_number, None)
            self._stakes.pop(round_number, None)
            for twins in (authors or {}).values():
                for node in twins:
                    del self._nodes[node.id]
                    gone.append(node)
        self.pruned_round = max(self.pruned_round, through)
        return gone


_NO_AUTHORS: dict[int, list[Node]] = {}
_NO_NODES: list[Node] = []
