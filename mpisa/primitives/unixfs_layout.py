"""From chunks to a file's tree: leaves, and above them balanced levels of at most `max_links` each.

Leaves arrive one by one; whenever a level is full it becomes one node of the level above, so that memory stays at
`max_links` nodes a level, whatever the file's size. All leaves end at the same depth, and a file of one chunk is its
leaf: that is what Kubo's and Helia's balanced layout gives.

Mode and modification time, where a profile keeps them, are in every node above the leaves, and a file of one chunk
becomes a node with the chunk in it, for a raw block has room for nothing else: Helia's layout again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mpisa.primitives.cid import DAG_PB, RAW, Cid
from mpisa.primitives.dag_pb import PBLink, PBNode, decode_node, encode_node
from mpisa.primitives.profiles import Profile
from mpisa.primitives.unixfs import FileType, Mtime, UnixFsNode, decode_unixfs, encode_unixfs

Sink = Callable[[Cid, bytes], None]
"""Takes a finished block."""


@dataclass(frozen=True, slots=True)
class Node:
    """A finished node: its CID, the bytes of file content below it, and the bytes of all blocks of its DAG."""

    cid: Cid
    filesize: int
    dag_size: int


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a node says of a file besides its bytes: permission bits and modification time, None where unsaid."""

    mode: int | None = None
    mtime: Mtime | None = None

    def with_default(self, mode: int) -> "Metadata":
        """The same without a mode that readers assume anyway, as it is written."""
        return Metadata(None, self.mtime) if self.mode == mode else self


NO_METADATA: Final = Metadata()
FILE_MODE: Final = 0o644
DIRECTORY_MODE: Final = 0o755
"""What a mode is taken for when a node doesn't say it."""


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


def make_single(leaf: Leaf, profile: Profile, metadata: Metadata) -> Leaf:
    """A whole file of one chunk, from its leaf, with metadata."""
    chunk = leaf.block
    if leaf.node.cid.codec == DAG_PB:
        chunk = decode_unixfs(decode_node(leaf.block).data or b"").data or b""
    said = metadata.with_default(FILE_MODE)
    content = UnixFsNode(FileType.FILE, chunk or None, len(chunk), mode=said.mode, mtime=said.mtime)
    block = encode_node(PBNode((), encode_unixfs(content)))
    return Leaf(Node(Cid.of(block, codec=DAG_PB, version=profile.cid_version), len(chunk), len(block)), block)


def make_symlink(target: str, profile: Profile, mtime: Mtime | None = None) -> Leaf:
    """The block of a symlink; the target is data, whatever it says. A symlink has no mode of its own."""
    block = encode_node(PBNode((), encode_unixfs(UnixFsNode(FileType.SYMLINK, target.encode(), mtime=mtime))))
    return Leaf(Node(Cid.of(block, codec=DAG_PB, version=profile.cid_version), 0, len(block)), block)


class BalancedBuilder:
    """Builds one file. Leaves' blocks are the caller's business; the nodes above them go to the sink."""

    def __init__(self, profile: Profile, sink: Sink, metadata: Metadata = NO_METADATA) -> None:
        self._profile = profile
        self._metadata = metadata.with_default(FILE_MODE)
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
        sizes = tuple(child.filesize for child in children)
        said = self._metadata
        content = UnixFsNode(FileType.FILE, None, size, sizes, mode=said.mode, mtime=said.mtime)
        links = tuple(PBLink(child.cid.to_bytes(), "", child.dag_size) for child in children)
        block = encode_node(PBNode(links, encode_unixfs(content)))
        cid = Cid.of(block, codec=DAG_PB, version=self._profile.cid_version)
        self._sink(cid, block)
        return Node(cid, size, len(block) + sum(child.dag_size for child in children))
