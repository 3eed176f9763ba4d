"""The top of a large state map as two flat lists: the hash and the kind of every node down to a fixed depth.

A map of a million entries is a tree of two million nodes: as objects they cost half a gigabyte. The crown keeps the
first `bits` levels as a binary heap (node 1 is the root, 2i and 2i + 1 are the children of i) and leaves what is
below to its slots, the last row (merkle_bucket). A node is EMPTY, a lone LEAF that stands for everything below it, or a
BRANCH; a slot may be DIVIDED, a branch whose entries are kept in pages instead of one bucket.

A change is made in place and leaves a journal that undoes it: the lists are never copied. One writer; readers beside
it read rows and put what the journal says over them (mpisa.node.state_map).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from mpisa.primitives.merkle import EMPTY_ROOT, MAX_DEPTH

EMPTY: Final = 0
LEAF: Final = 1
BRANCH: Final = 2
DIVIDED: Final = 3

Node = tuple[int, bytes]
"""Kind and hash; an empty one hashes to 32 zero bytes."""

EMPTY_NODE: Final[Node] = (EMPTY, EMPTY_ROOT)

_BRANCH: Final = b"\x01"
_FILL_STEP: Final = 4096
_KIND_OF_SUM: Final = bytes([EMPTY, LEAF] + [BRANCH] * 254)
"""The kind of a node by the sum of its children's."""


def join(left: Node, right: Node) -> Node:
    """The node above two: a lone leaf rises, two empty ones are empty, all else is a branch."""
    if left[0] + right[0] >= BRANCH:
        return BRANCH, sha256(_BRANCH + left[1] + right[1]).digest()
    return left if left[0] else right


@dataclass(frozen=True, slots=True)
class Row:
    """Nodes of one level before a change: heap indexes, ascending, their kinds, and their hashes."""

    indexes: Sequence[int]
    kinds: bytes
    hashes: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Descent:
    """The way from a crown's root towards a slot: siblings from the top, the node where it ended, and that node's slot.

    It ends at the first node that is no branch, or at the slot. For a lone leaf `slot` is where the leaf lives.
    """

    siblings: tuple[bytes, ...]
    node: Node
    slot: int


class Crown:
    """See the module; `1 << bits` slots, all empty at first."""

    __slots__ = ("_hashes", "_kinds", "_present", "bits")

    def __init__(self, bits: int) -> None:
        self.bits: Final = bits
        self._hashes: Final = [EMPTY_ROOT] * (2 << bits)
        self._kinds: Final = bytearray(2 << bits)
        self._present: Final = [0] * (bits + 1)  # nodes that aren't empty, by level

    @property
    def root(self) -> Node:
        """The node above all slots."""
        return self.node(1)

    def node(self, index: int) -> Node:
        """A node by its heap index."""
        return self._kinds[index], self._hashes[index]

    def slot(self, slot: int) -> Node:
        """The node in a slot."""
        return self.node((1 << self.bits) + slot)

    def row(self, first: int, count: int) -> list[Node]:
        """`count` neighbouring nodes of one level, by heap index."""
        return list(zip(self._kinds[first : first + count], self._hashes[first : first + count], strict=True))

    def nodes(self, indexes: Sequence[int]) -> list[tuple[int, Node]]:
        """Heap index and node, for each of these indexes."""
        kinds, hashes = map(self._kinds.__getitem__, indexes), map(self._hashes.__getitem__, indexes)
        return list(zip(indexes, zip(kinds, hashes, strict=True), strict=True))

    def replace(self, slots: Sequence[tuple[int, Node]]) -> list[Row]:
        """Put these nodes, ascending by slot, in place; the journal, from the slots up to the root."""
        base = 1 << self.bits
        indexes = [base + slot for slot, _ in slots]
        journal = [self._put(self.bits, indexes, bytes([node[0] for _, node in slots]), [node[1] for _, node in slots])]
        for level in range(self.bits - 1, -1, -1 if slots else 1):
            indexes = list(dict.fromkeys([index >> 1 for index in indexes]))
            journal.append(self._put(level, indexes, *self._joined(level, indexes)))
        return journal

    def restore(self, journal: Sequence[Row]) -> None:
        """Undo the latest `replace`."""
        for level, row in zip(range(self.bits, -1, -1), journal, strict=False):
            self._put(level, row.indexes, row.kinds, row.hashes)

    def fill(self, slots: Iterable[tuple[int, Node]]) -> None:
        """Replace many slots, ascending, a step at a time, without a journal."""
        waiting: list[tuple[int, Node]] = []
        for item in slots:
            waiting.append(item)
            if len(waiting) == _FILL_STEP:
                self.replace(waiting)
                waiting = []
        if waiting:
            self.replace(waiting)

    def _joined(self, level: int, indexes: Sequence[int]) -> tuple[bytes, list[bytes]]:
        """Kinds and hashes of these nodes of a level, from their children."""
        hashes = self._hashes
        if self._present[level + 1] == 2 << level:  # no gaps below: all are branches
            return b"\x02" * len(indexes), [
                sha256(b"\x01" + hashes[2 * i] + hashes[2 * i + 1]).digest() for i in indexes
            ]
        kinds = self._kinds
        sums = [kinds[2 * i] + kinds[2 * i + 1] for i in indexes]  # 0: empty, 1: a lone leaf rises, else a branch
        found = [
            sha256(b"\x01" + hashes[2 * i] + hashes[2 * i + 1]).digest()
            if total >= 2
            else hashes[2 * i + kinds[2 * i + 1]]
            for i, total in zip(indexes, sums, strict=True)
        ]
        return bytes(sums).translate(_KIND_OF_SUM), found

    def _put(self, level: int, indexes: Sequence[int], new_kinds: bytes, new_hashes: Sequence[bytes]) -> Row:
        hashes, kinds = self._hashes, self._kinds
        old_kinds = bytes(map(kinds.__getitem__, indexes))
        old = list(map(hashes.__getitem__, indexes))
        for index, digest in zip(indexes, new_hashes, strict=True):
            hashes[index] = digest
        if old_kinds != new_kinds:
            self._present[level] += old_kinds.count(0) - new_kinds.count(0)
            for index, kind in zip(indexes, new_kinds, strict=True):
                kinds[index] = kind
        return Row(indexes, old_kinds, old)

    def descend(self, slot: int) -> Descent:
        """The way to a slot, or to where the map ends above it."""
        kinds, hashes = self._kinds, self._hashes
        siblings = []
        index = 1
        for level in range(self.bits - 1, -1, -1):
            if kinds[index] < BRANCH:
                break
            index = 2 * index + (slot >> level & 1)
            sibling = index ^ 1
            siblings.append(hashes[sibling])
        node = self.node(index)
        base = 1 << self.bits
        if node[0] == LEAF:
            while index < base:
                index = 2 * index if kinds[2 * index] else 2 * index + 1
        return Descent(tuple(siblings), node, index - base)


def crown_of(bits: int, slots: Iterable[tuple[int, Node]]) -> Crown:
    """A crown of these slots, ascending; the others are empty."""
    crown = Crown(bits)
    crown.fill(slots)
    return crown


def slot_of(path: bytes, depth: int, bits: int) -> int:
    """Which of the `1 << bits` slots below a node at this depth a path leads to."""
    return (int.from_bytes(path, "big") >> (MAX_DEPTH - depth - bits)) & ((1 << bits) - 1)
