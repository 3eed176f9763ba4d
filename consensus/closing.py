"""The end of an epoch as its engine sees it (docs/protocol.md, section 16).

A closing header voids the commits behind its own. Whatever own vertices carried and no commit up to it took must come
back, each payload once, so that it can be ordered in the next epoch. So own payloads are remembered until the commit
that took them is executed.
"""

from dataclasses import dataclass

from consensus.dag.vertex import ExecutionSignature, Vertex
from mpisa.primitives.header import Header
from mpisa.primitives.identifiers import Round


@dataclass(slots=True)
class _Load:
    round: Round
    payload: bytes
    index: int | None = None


class Closing:
    """Own payloads by vertex id, each with the commit that took it; the closing header once it is executed, and the
    own signature over it.
    """

    __slots__ = ("_loads", "header", "signature")

    def __init__(self) -> None:
        self._loads: dict[bytes, _Load] = {}
        self.header: Header | None = None
        self.signature: ExecutionSignature | None = None

    def sent(self, vertex: Vertex) -> None:
        """An own vertex entered the graph, and no commit took it yet."""
        if vertex.payload and self.header is None:
            self._loads[vertex.id] = _Load(vertex.round, vertex.payload)

    def committed(self, identifier: bytes, index: int) -> None:
        """A commit took a vertex, whoever made it."""
        load = self._loads.get(identifier)
        if load is not None:
            load.index = index

    def executed(self, index: int) -> None:
        """Everything up to this commit is executed."""
        for identifier in [key for key, load in self._loads.items() if load.index is not None and load.index <= index]:
            del self._loads[identifier]

    def drop(self, identifier: bytes) -> list[tuple[Round, bytes]]:
        """A vertex will never be committed: what comes back of it."""
        load = self._loads.pop(identifier, None)
        return [] if load is None else [(load.round, load.payload)]

    def close(self, header: Header) -> list[tuple[Round, bytes]]:
        """The closing header is executed: what comes back, ascending by round."""
        self.executed(header.last_commit)
        self.header = header
        loads = sorted((load.round, load.payload) for load in self._loads.values())
        self._loads.clear()
        return loads
