"""Vertices from the future: valid, but with a timestamp ahead of our clock (docs/protocol.md, section 4).

A verdict that depended on the clock would split honest nodes at the bound, so a vertex is only held back: until our
clock passes it, or until a validity threshold of authors references it, which means that an honest clock has passed
it. Bounded by count and bytes, of which each author has its share; what doesn't fit is dropped and fetched again when
something references it.
"""

from collections.abc import Iterable

from consensus.dag.committee import Committee
from consensus.dag.vertex import Vertex
from consensus.parameters import Parameters


class Held:
    """Held vertices by id, and who references them."""

    __slots__ = ("_by_author", "_bytes", "_committee", "_parameters", "_references", "_vertices", "_wanted")

    def __init__(self, parameters: Parameters, committee: Committee) -> None:
        self._parameters = parameters
        self._committee = committee
        self._vertices: dict[bytes, Vertex] = {}
        self._references: dict[bytes, set[int]] = {}
        self._wanted: dict[bytes, dict[int, int]] = {}
        self._by_author: dict[int, int] = {}
        self._bytes: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._vertices)

    def __contains__(self, identifier: object) -> bool:
        return identifier in self._vertices

    def get(self, identifier: bytes) -> Vertex | None:
        """The held vertex with this id, or None."""
        return self._vertices.get(identifier)

    def add(self, vertex: Vertex, referencing: Iterable[int]) -> bool:
        """Hold a vertex that these authors are known to reference; False where its author's share has no room for it.

        One vertex an author always fits, however large.
        """
        author, size, count = vertex.author, _size(vertex), len(self._committee)
        held, held_bytes = self._by_author.get(author, 0), self._bytes.get(author, 0)
        if held >= max(1, self._parameters.max_held // count) or (
            held and held_bytes + size > self._parameters.max_held_bytes // count
        ):
            return False
        self._vertices[vertex.id] = vertex
        self._by_author[author] = held + 1
        self._bytes[author] = held_bytes + size
        self._references[vertex.id] = {*referencing, *self._wanted.get(vertex.id, ())}
        for ref in vertex.parents:
            authors = self._wanted.setdefault(ref.id, {})
            authors[author] = authors.get(author, 0) + 1
        return True

    def reference(self, vertex: Vertex) -> list[Vertex]:
        """A vertex came in: those held that a validity threshold references now, by ascending ref."""
        released: list[Vertex] = []
        for ref in vertex.parents:
            references = self._references.get(ref.id)
            if references is not None:
                references.add(vertex.author)
                if self.is_vouched(ref.id):
                    released.append(self._vertices[ref.id])
        return sorted(released, key=lambda item: item.ref)

    def is_vouched(self, identifier: bytes) -> bool:
        """Whether a validity threshold of authors references the held vertex."""
        return self._committee.is_validity(self._committee.stake_of(self._references[identifier]))

    def due(self, now_ms: int) -> list[Vertex]:
        """Those whose timestamp our clock has passed, by ascending ref."""
        return sorted(
            (vertex for vertex in self._vertices.values() if vertex.timestamp_ms <= now_ms), key=lambda item: item.ref
        )

    def next_due(self) -> int | None:
        """When the first becomes due (ms)."""
        return min((vertex.timestamp_ms for vertex in self._vertices.values()), default=None)

    def remove(self, vertex: Vertex) -> None:
        """Let one go."""
        del self._vertices[vertex.id]
        del self._references[vertex.id]
        self._by_author[vertex.author] -= 1
        self._bytes[vertex.author] -= _size(vertex)
        for ref in vertex.parents:
            authors = self._wanted[ref.id]
            authors[vertex.author] -= 1
            if not authors[vertex.author]:
                del authors[vertex.author]
                if not authors:
                    del self._wanted[ref.id]

    def prune(self, through: int) -> None:
        """Drop those that can't be ordered any more."""
        for vertex in [vertex for vertex in self._vertices.values() if vertex.round <= through]:
            self.remove(vertex)


def _size(vertex: Vertex) -> int:
    return len(vertex.payload) + len(vertex.header_bytes) + sum(len(item) for item in vertex.evidence)
