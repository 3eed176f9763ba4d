"""The bottom of a large state map: the entries below a crown's slot, as buckets of flat bytes and pages of 16 slots.

A bucket holds up to MAX_BUCKET entries, ascending by path, 64 bytes each: path and leaf hash. Its inner nodes are not
kept: with a handful of entries they are hashed again faster than they are looked up. A bucket that outgrows its bound
becomes a page, the kinds and hashes of the 16 subtrees four levels down, each a bucket or a page in turn; so whoever
grinds keys into one slot buys depth, never a long list. A page whose entries are down to one becomes a bucket again.

Nodes are named by heap index as in the crown, in the unbounded binary tree: 1 is the root of the map, the depth of a
node is the number of bits behind the first. Where contents come from is the caller's business (`load`).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from mpisa.primitives.merkle import EMPTY_ROOT, MAX_DEPTH
from mpisa.primitives.merkle_crown import BRANCH, DIVIDED, EMPTY, EMPTY_NODE, LEAF, Node, join, slot_of

MAX_BUCKET: Final = 32
RECORD_BYTES: Final = 64
PAGE_BITS: Final = 4
PAGE_SLOTS: Final = 1 << PAGE_BITS
PAGE_BYTES: Final = 33 * PAGE_SLOTS

_BRANCH: Final = b"\x01"

Content = bytes
"""A bucket (a multiple of RECORD_BYTES) or a page (PAGE_BYTES, which is none)."""
Change = tuple[bytes, bytes | None]
"""A path and its new leaf hash, None to remove it."""
Load = Callable[[int, Node], Content]
"""The content below the node of a heap index, which its parent says is this."""


def is_page(content: Content) -> bool:
    """Whether it is a page, not a bucket."""
    return len(content) == PAGE_BYTES


def leaf_hash(path: bytes, value: bytes) -> bytes:
    """The node hash of one entry."""
    return sha256(b"\x00" + path + sha256(value).digest()).digest()


def find(bucket: bytes, path: bytes) -> bytes | None:
    """The leaf hash under a path."""
    at = _place(bucket, path)
    return bucket[at + 32 : at + RECORD_BYTES] if at >= 0 else None


def _place(bucket: bytes, path: bytes) -> int:
    """Where the record of a path begins, or -1."""
    at = bucket.find(path)
    while at > 0 and at % RECORD_BYTES:
        at = bucket.find(path, at + 1)
    return at


def records(bucket: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Path and leaf hash of every entry."""
    for at in range(0, len(bucket), RECORD_BYTES):
        yield bucket[at : at + 32], bucket[at + 32 : at + RECORD_BYTES]


def replaced(bucket: bytes, changes: Sequence[Change]) -> bytes:
    """The bucket after changes, which are ascending by path."""
    if len(changes) == 1:
        path, digest = changes[0]
        at = _place(bucket, path)
        if at >= 0:
            return bucket[:at] + (b"" if digest is None else path + digest) + bucket[at + RECORD_BYTES :]
        if digest is None or not bucket:
            return bucket if digest is None else path + digest
    entries: dict[bytes, bytes | None] = {**dict(records(bucket)), **dict(changes)}
    return bucket_of([(path, digest) for path, digest in sorted(entries.items()) if digest is not None])


def bucket_of(leaves: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The bucket of these paths and leaf hashes, ascending."""
    return b"".join([path + digest for path, digest in leaves])


def bucket_node(bucket: bytes, depth: int) -> Node:
    """The node of a bucket whose entries share their first `depth` bits."""
    if len(bucket) <= RECORD_BYTES:
        return (LEAF, bucket[32:]) if bucket else EMPTY_NODE
    starts = range(0, len(bucket), RECORD_BYTES)
    paths = [bucket[at : at + 32] for at in starts]
    return BRANCH, subtree_hash(paths, [bucket[at + 32 : at + RECORD_BYTES] for at in starts], depth)


def subtree_hash(paths: Sequence[bytes], hashes: Sequence[bytes], depth: int) -> bytes:
    """The hash of a subtree at a depth, of leaf hashes ascending by path, at least one.

    Neighbours are joined where their paths part, the deepest first. A node stands at the depth of its own fork, where
    any path below it tells its place; a lone leaf stands nowhere yet: it rises as it is.
    """
    numbers = [int.from_bytes(path, "big") for path in paths]
    number, digest, stands = numbers[0], hashes[0], MAX_DEPTH
    waiting: list[tuple[int, bytes, int, int]] = []  # a node on the left, and where it parts from the next one
    for position in range(1, len(numbers) + 1):
        fork = MAX_DEPTH - (number ^ numbers[position]).bit_length() if position < len(numbers) else -1
        while waiting and waiting[-1][3] > fork:
            left_number, left, left_stands, joint = waiting.pop()
            if left_stands < MAX_DEPTH:
                left = _lifted(left_number, left, left_stands, joint + 1)
            if stands < MAX_DEPTH:
                digest = _lifted(number, digest, stands, joint + 1)
            digest, stands = sha256(b"\x01" + left + digest).digest(), joint
        if position < len(numbers):
            waiting.append((number, digest, stands, fork))
            number, digest, stands = numbers[position], hashes[position], MAX_DEPTH
    return digest if stands == MAX_DEPTH else _lifted(number, digest, stands, depth)


def _lifted(number: int, digest: bytes, stands: int, depth: int) -> bytes:
    """The hash of a branch seen from a smaller depth: on the way up it stands beside empty subtrees."""
    for level in range(stands - 1, depth - 1, -1):
        if number >> (MAX_DEPTH - 1 - level) & 1:
            digest = sha256(_BRANCH + EMPTY_ROOT + digest).digest()
        else:
            digest = sha256(_BRANCH + digest + EMPTY_ROOT).digest()
    return digest


def page_of(slots: Sequence[Node]) -> bytes:
    """The page of 16 nodes."""
    return bytes([kind for kind, _ in slots]) + b"".join([digest for _, digest in slots])


def page_slots(page: bytes) -> list[Node]:
    """The 16 nodes of a page."""
    return [(page[i], page[PAGE_SLOTS + 32 * i : PAGE_SLOTS + 32 * i + 32]) for i in range(PAGE_SLOTS)]


def page_slot(page: bytes, slot: int) -> Node:
    """One node of a page."""
    return page[slot], page[PAGE_SLOTS + 32 * slot : PAGE_SLOTS + 32 * slot + 32]


def _levels(page: bytes) -> list[list[Node]]:
    """All nodes of a page, from its slots up to its root."""
    levels = [page_slots(page)]
    while len(levels[-1]) > 1:
        below = levels[-1]
        levels.append([join(below[i], below[i + 1]) for i in range(0, len(below), 2)])
    return levels


def page_node(page: bytes) -> Node:
    """The node of a page, as its parent keeps it: DIVIDED, unless the entries below are down to one."""
    kind, digest = _levels(page)[-1][0]
    return (DIVIDED if kind == BRANCH else kind), digest


def content_node(content: Content, depth: int) -> Node:
    """The node that a parent must name for this content."""
    return page_node(content) if is_page(content) else bucket_node(content, depth)


@dataclass(frozen=True, slots=True)
class Below:
    """What changed below slots: contents by heap index, None where a node has no content of its own any more; `pages`
    are the indexes of those that are or were pages.
    """

    old: dict[int, Content] = field(default_factory=dict)
    new: dict[int, Content | None] = field(default_factory=dict)
    pages: set[int] = field(default_factory=set)


def apply(index: int, node: Node, changes: Sequence[Change], load: Load, below: Below) -> Node:
    """The node of a heap index after changes, which are ascending by path and lie below it; contents go to `below`.

    Recursion ends where the paths do: each step is four levels deeper.
    """
    content = load(index, node)
    below.old[index] = content
    if len(content) != PAGE_BYTES:
        return settle(index, replaced(content, changes), below)
    below.pages.add(index)
    depth = index.bit_length() - 1
    slots = page_slots(content)
    for slot, part in _parts(changes, depth):
        slots[slot] = apply(index << PAGE_BITS | slot, slots[slot], part, load, below)
    page = page_of(slots)
    found = page_node(page)
    if found[0] == DIVIDED:
        below.new[index] = page
        return found
    return _collapse(index, slots, load, below)


def settle(index: int, bucket: bytes, below: Below) -> Node:
    """Keeps a bucket, or divides it when it is too large."""
    if len(bucket) <= MAX_BUCKET * RECORD_BYTES:
        below.new[index] = bucket
        return bucket_node(bucket, index.bit_length() - 1)
    below.pages.add(index)
    depth = index.bit_length() - 1
    slots = [EMPTY_NODE] * PAGE_SLOTS
    for slot, part in _parts(list(records(bucket)), depth):
        child = bucket_of([(path, digest) for path, digest in part if digest is not None])
        slots[slot] = settle(index << PAGE_BITS | slot, child, below)
    page = page_of(slots)
    below.new[index] = page
    return page_node(page)


def _collapse(index: int, slots: Sequence[Node], load: Load, below: Below) -> Node:
    """A page with at most one entry left becomes a bucket; its former buckets go."""
    bucket = b""
    for slot, node in enumerate(slots):
        child = index << PAGE_BITS | slot
        if node[0] == LEAF:
            kept = below.new.get(child)
            bucket = kept if kept is not None else load(child, node)
        if child in below.new or node[0] != EMPTY:
            below.old.setdefault(child, bucket if node[0] == LEAF else b"")
            below.new[child] = None
    below.new[index] = bucket
    return bucket_node(bucket, index.bit_length() - 1)


def _parts(changes: Sequence[Change], depth: int) -> Iterator[tuple[int, Sequence[Change]]]:
    """Changes by the slot of the page at this depth that they lie under."""
    start = 0
    while start < len(changes):
        slot = slot_of(changes[start][0], depth, PAGE_BITS)
        end = start + 1
        while end < len(changes) and slot_of(changes[end][0], depth, PAGE_BITS) == slot:
            end += 1
        yield slot, changes[start:end]
        start = end


def descend_page(page: bytes, path: bytes, depth: int) -> tuple[list[bytes], Node, int]:
    """Siblings on the way from a page's root towards a path, the node where it ended, and the slot it leads to.

    It ends at the first node that is no branch, or at the slot; for a lone leaf that is the slot where it lives.
    """
    levels = _levels(page)
    siblings: list[bytes] = []
    slot = slot_of(path, depth, PAGE_BITS)
    for level in range(PAGE_BITS, -1, -1):
        position = slot >> level
        node = levels[level][position]
        if node[0] == LEAF:
            slot = next(i for i in range(position << level, (position + 1) << level) if levels[0][i][0])
        if node[0] < BRANCH or level == 0:
            return siblings, node, slot
        siblings.append(levels[level - 1][(slot >> (level - 1)) ^ 1][1])
    raise AssertionError("a page has five levels")


def descend_bucket(bucket: bytes, path: bytes, depth: int) -> tuple[list[bytes], bytes | None]:
    """Siblings on the way from a bucket's node to a path's slot, and the path of the entry found there, if any."""
    found = list(records(bucket))
    siblings = []
    while len(found) > 1:
        bit = _bit(path, depth)
        away = [record for record in found if _bit(record[0], depth) != bit]
        found = [record for record in found if _bit(record[0], depth) == bit]
        depth += 1
        siblings.append(bucket_node(b"".join([own + digest for own, digest in away]), depth)[1])
    return siblings, found[0][0] if found else None


def _bit(path: bytes, depth: int) -> int:
    return path[depth >> 3] >> (7 - (depth & 7)) & 1
