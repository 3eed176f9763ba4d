"""Whether this authority may sign at all (docs/protocol.md, section 13).

An authority that lost its disk, or whose key runs elsewhere too, would sign a second vertex for a round. It sits the
epoch out as soon as it sees an own vertex that its store doesn't know, or a validity threshold of authors building on
an own round above the last it remembers (one liar alone can't silence it).
"""

from collections.abc import Iterable

from consensus.dag.committee import Committee
from consensus.dag.graph import Node
from consensus.dag.vertex import Vertex, VertexRef
from mpisa.primitives.identifiers import AuthorityIndex


class Presence:
    """`absent` says why this authority sits out, None while it takes part."""

    __slots__ = ("_committee", "_own", "_witnesses", "absent")

    def __init__(self, committee: Committee, own: AuthorityIndex | None) -> None:
        self._committee = committee
        self._own = own
        self._witnesses: dict[int, int] = {}
        self.absent: str | None = None

    def restore(self, last_round: int | None, nodes: Iterable[Node]) -> None:
        """After a restart: own vertices above the last remembered proposal came from others."""
        if self._own is None:
            return
        highest = max((node.round for node in nodes if node.author == self._own), default=0)
        if highest > (last_round or 0):
            self.absent = f"the store holds an own vertex of round {highest}, the last proposal known is {last_round}"

    def observe(self, vertex: Vertex, last: VertexRef | None) -> None:
        """A vertex that isn't known yet came in; `last` is the own last proposal."""
        if self.absent is not None or self._own is None or last is None:
            return
        if vertex.author == self._own:
            if vertex.round > last.round:
                self.absent = f"an own vertex of round {vertex.round} came in, the last proposal known is {last.round}"
            return
        for ref in vertex.parents:
            if ref.author == self._own and ref.round > last.round:
                self._witnesses[vertex.author] = ref.round
                if self._committee.is_validity(self._committee.stake_of(self._witnesses)):
                    self.absent = f"others build on an own vertex of round {ref.round}, the last known is {last.round}"
