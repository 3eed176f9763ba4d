"""From committed leaders to one sequence of vertices and chain blocks (docs/protocol.md, section 7).

A commit takes its leader's ancestors that no commit took before, above the garbage collection round, which comes from
the PREVIOUS commit alone and never from what this node happens to have pruned. A flag a vertex says what was taken:
an author's last committed round would lose vertices. A commit that closes no block is folded: its digest chains on, a
later commit closes the block. The leaders of one round share a block, since a block costs every node a header, a disk
sync and signatures, whatever is in it.
"""

from collections.abc import Iterable

from consensus.dag.committee import Committee
from consensus.dag.graph import Graph, Node
from consensus.dag.vertex import Vertex, VertexRef
from consensus.events import BlockBoundary, CommittedSubDag, content_of
from consensus.order.checkpoint import Checkpoint, close_block, encode_cursor, next_commit
from consensus.order.conduct import Conduct
from consensus.order.window import Window, find_window
from mpisa.primitives.digest import tagged


class Linearizer:
    """The sequence so far, and the committed vertices of its window."""

    __slots__ = (
        "_committee",
        "_content",
        "_content_round",
        "_gc_depth",
        "_graph",
        "_heartbeat_ms",
        "_last_slot",
        "_window",
        "checkpoint",
    )

    def __init__(
        self,
        graph: Graph,
        committee: Committee,
        gc_depth: int,
        heartbeat_ms: int,
        leaders_per_round: int,
        checkpoint: Checkpoint,
    ) -> None:
        self._graph = graph
        self._committee = committee
        self._gc_depth = gc_depth
        self._heartbeat_ms = heartbeat_ms
        self._last_slot = min(leaders_per_round, len(committee)) - 1
        self._window = Window()
        self._content: tuple[Vertex, ...] = ()
        self._content_round = 0
        self.checkpoint = checkpoint

    @property
    def gc_round(self) -> int:
        """Nothing at or below this round will ever be ordered any more."""
        return self.checkpoint.gc_round(self._gc_depth)

    @property
    def owes_block(self) -> bool:
        """Whether something was ordered that no block holds yet: without more commits nobody learns its outcome."""
        return bool(self._content)

    def commit(self, leader: Node, slot: int, conduct: Conduct = ()) -> CommittedSubDag:
        """Order what the leader brings and move on; `slot` is the last one that is settled, `conduct` as the rota
        judges it.
        """
        before = self.checkpoint
        nodes = self.order(leader)
        time_ms = max(before.time_ms + 1, self.median_time(leader))
        index = before.index + 1
        digest = commit_digest(before.digest, index, leader.id, (node.id for node in nodes))
        self.checkpoint = next_commit(before, leader.ref, slot, time_ms, digest, conduct)
        self._window = self._window.moved((node.ref for node in nodes), self.gc_round)
        vertices = tuple([node.vertex for node in nodes])
        if not self._content:
            self._content_round = leader.round
        self._content += content_of(vertices)
        block = None
        root = cursor = b""
        content: tuple[Vertex, ...] = ()
        if self._closes(leader, slot) or time_ms >= before.block_time_ms + self._heartbeat_ms:
            root = self.window_root()
            self.checkpoint = close_block(self.checkpoint, root)
            block = BlockBoundary(before.block_index + 1, self.checkpoint.height)
            cursor = encode_cursor(self.checkpoint)
            content, self._content = self._content, ()
        return CommittedSubDag(index, leader.ref, vertices, time_ms, digest, root, before.epoch, block, cursor, content)

    def _closes(self, leader: Node, slot: int) -> bool:
        """Whether there is something for a block, and no later slot of the round in which it was ordered."""
        return bool(self._content) and (slot >= self._last_slot or leader.round > self._content_round)

    def order(self, leader: Node) -> list[Node]:
        """Flag and return the leader and its ancestors not taken before, sorted by (round, author, id)."""
        gc_round = self.gc_round
        nodes = [leader]
        leader.committed = True
        position = 0
        while position < len(nodes):
            for ref in nodes[position].parents:
                if ref.round <= gc_round:
                    continue
                parent = self._graph.get(ref.id)
                assert parent is not None, "the graph is causally closed above the garbage collection round"
                if not parent.committed:
                    parent.committed = True
                    nodes.append(parent)
            position += 1
        nodes.sort(key=lambda node: (node.round, node.author, node.id))
        return nodes

    def median_time(self, leader: Node) -> int:
        """The smallest timestamp at or below which over half of the stake of the leader's last-round parents lies."""
        if leader.round == 1:
            return 0  # genesis has the time of the checkpoint, which the caller takes into account
        stamps: list[tuple[int, int]] = []
        for author, identifier in leader.votes.items():
            parent = self._graph.get(identifier)
            assert parent is not None, "a leader's last-round parents are above the garbage collection round"
            stamps.append((parent.vertex.timestamp_ms, self._committee.powers[author]))
        stamps.sort()
        total = sum(power for _, power in stamps)
        below = 0
        for timestamp, power in stamps:
            below += power
            if 2 * below > total:
                return timestamp
        raise AssertionError("a leader has last-round parents")

    def window_root(self) -> bytes:
        """The window root behind the last commit."""
        return self._window.root(self.checkpoint)

    def restore(self) -> VertexRef | None:
        """Flag what the commits so far took, from their last leaders down to the GC round of the checkpoint.

        Returns the first vertex that would be needed and isn't in the graph, None when all were.
        """

        def flag(ref: VertexRef) -> tuple[VertexRef, ...] | None:
            node = self._graph.get(ref.id)
            if node is None:
                return None
            node.committed = True
            return node.parents

        self._window, lost = find_window(self.checkpoint, self._gc_depth, flag)
        return lost


def commit_digest(previous: bytes, index: int, leader: bytes, vertices: Iterable[bytes]) -> bytes:
    """The digest that binds a commit to all before it: tag, previous digest, index as u64, leader id, vertex ids in
    order.
    """
    return tagged("commit", previous, index.to_bytes(8, "big"), leader, *vertices)
