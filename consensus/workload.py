"""Whether there is anything to do (docs/protocol.md, section 10).

An idle chain costs almost nothing: rounds are delayed while the pool is empty, no accepted vertex with payload or
evidence is uncommitted, and every header is certified. Any of these ends it at once.
"""

from consensus.dag.graph import Node


class Workload:
    """What is left to order or certify. `pool_waiting` is what the shell last said of its pool."""

    __slots__ = ("_content", "_lagging_since", "_patience", "pool_waiting")

    def __init__(self, patience_rounds: int) -> None:
        self._patience = patience_rounds
        self._content: dict[bytes, None] = {}
        self._lagging_since: int | None = None
        self.pool_waiting = False

    def accepted(self, node: Node) -> None:
        """A vertex entered the graph."""
        if node.vertex.payload or node.vertex.evidence:
            self._content[node.id] = None

    def settled(self, identifier: bytes) -> None:
        """A vertex was committed, or never will be."""
        self._content.pop(identifier, None)

    @property
    def is_pending(self) -> bool:
        """Whether something waits to be ordered."""
        return self.pool_waiting or bool(self._content)

    def is_certifying(self, height: int, certified_height: int, open_round: int) -> bool:
        """Whether a header waits for its certificate. One that didn't come for many rounds no longer counts as work."""
        if height <= certified_height:
            self._lagging_since = None
            return False
        if self._lagging_since is None:
            self._lagging_since = open_round
        return open_round <= self._lagging_since + self._patience
