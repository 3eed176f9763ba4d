"""From chunks to a file's tree: leaves, and above them balanced levels of at most `max_links` each.

Leaves arrive one by one; whenever a level is full it becomes one node of the level above, so that memory stays at
`max_links` nodes a level, whatever the file's size. All leaves end at the same depth, and a file of one chunk is its
leaf: that is what Kubo's and Helia's balanced layout gives.
"""

from collections.abc import Callable
from dataclasses import dataclass

from mpisa.primitives.cid import DAG_PB, RAW, Cid
from mpisa.primitives.dag_pb import PBLink, PBNode, encode_node
from mpisa.primitives.profiles import Profile
from mpisa.primitives.unixfs import FileType, UnixFsNode, encode_unixfs

Sink = Callable[[Cid, bytes], None]
"""Takes a finished block."""


@dataclass(frozen=True, slots=True)
class Node:
    """A finished node: its CID, the bytes of file content below it, and the bytes of all blocks of its DAG."""

    cid: Cid
    filesize: int
    dag_size: int


@dataclass(frozen=True, slots=True)
class Leaf:
    """A chunk as a block."""

    node: Node
    block: bytes


def make_leaf(chunk: bytes, profile: Profile) -> Leaf:
    """The block of one chunk. Safe to call from several threads; the hashing runs outside the interpreter's lock."""
    if profile.raw_leaves:
        return Leaf(Node(Cid.of(chunk, codec=RAW), len(chunk), len(chunk)), chunk)
    block = encode_node(PBNode((), encode_unixfs(UnixFsNode(FileType.FILE, chunk or None, len(chunk)))))
    return Leaf(Node(Cid.of(block, codec=DAG_PB, version=profile.cid_version), len(chunk), len(block)), block)


def make_symlink(target: str, profile: Profile) -> Leaf:
    """The block of a symlink; the target is data, whatever it says."""
    block = encode_node(PBNode((), encode_unixfs(UnixFsNode(FileType.SYMLINK, target.encode()))))
    return Leaf(Node(Cid.of(block, codec=DAG_PB, version=profile.cid_version), 0, len(block)), block)


class BalancedBuilder:
    """Builds one file. Leaves' blocks are the caller's business; the nodes above them go to the sink."""

    def __init__(self, profile: Profile, sink: Sink) -> None:
        self._profile = profile
        self._sink = sink
        self._levels: list[list[Node]] = [[]]

    def add(self, leaf: Node) -> None:
        """The next leaf."""
        self._levels[0].append(leaf)
        for height in range(len(self._levels)):
            if len(self._levels[height]) < self._profile.max_links:
                return
            self._raise(height)

    def finish(self) -> Node:
        """The root; at least one leaf was added."""
        height = 0
        while height < len(self._levels) - 1 or len(self._levels[height]) > 1:
            if self._levels[height]:
                self._raise(height)
            height += 1
        return self._levels[height][0]

    def _raise(self, height: int) -> None:
        """Make one node of a whole level."""
        if height + 1 == len(self._levels):
            self._levels.append([])
        children = self._levels[height]
        self._levels[height + 1].append(self._file_node(children))
        self._levels[height] = []

    def _file_node(self, children: list[Node]) -> Node:
        size = sum(child.filesize for child in children)
        content = UnixFsNode(FileType.FILE, None, size, tuple(child.filesize for child in children))
        links = tuple(PBLink(child.cid.to_bytes(), "", child.dag_size) for child in children)
        block = encode_node(PBNode(links, encode_unixfs(content)))
        cid = Cid.of(block, codec=DAG_PB, version=self._profile.cid_version)
        self._sink(cid, block)
        return Node(cid, size, len(block) + sum(child.dag_size for child in children))
