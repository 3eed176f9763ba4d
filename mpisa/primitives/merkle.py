"""Two Merkle trees over sha256: the state map, with proofs of membership and absence, and the list of a block's items.

The map is compact, sparse and persistent. A key's place is its path, sha256(key), read from the most significant bit. A
leaf hashes 00, path and sha256(value); a branch hashes 01, left and right; an empty subtree is 32 zero bytes, and a
subtree that holds one leaf IS that leaf, at whatever depth. So the root depends on the entries alone, never on how they
came about. `update` returns a new root that shares every untouched subtree with the old one, which stays valid.

A proof is the way from the root to the key's slot: its depth, a bitmap whose bit i says that the sibling at level i
(counted from the root) isn't empty, those siblings from the root down, and the leaf found, if any. Absence is an empty
slot, or another leaf that shares the key's first `depth` bits. Verifiers take value bytes, never a value hash, and
refuse a zero root: an empty map proves any absence.

The list has the shape of RFC 6962: it serves tx_root and receipts_root.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, TypeAlias, Union

from mpisa.primitives import codec
from mpisa.primitives.errors import Rejection, RejectionReason

MAX_DEPTH: Final = 256
EMPTY_ROOT: Final = bytes(32)
MAX_PROOF_BYTES: Final = 9_000
MAX_LIST_ITEMS: Final = 1 << 32

_LEAF: Final = b"\x00"
_BRANCH: Final = b"\x01"
_HEX_BITMAP: Final = re.compile(r"0x[0-9a-f]{1,64}\Z")


class Leaf:
    """One entry: its node hash, its path sha256(key), and sha256(value). Immutable."""

    __slots__ = ("hash", "path", "value_hash")

    def __init__(self, path: bytes, value_hash: bytes) -> None:
        # Plain slots, since frozen dataclasses take a third longer to build; Final lets mypy hold them still.
        self.hash: Final[bytes] = sha256(_LEAF + path + value_hash).digest()
        self.path: Final = path
        self.value_hash: Final = value_hash


class Branch:
    """A subtree of at least two entries; an empty side is None. Immutable."""

    __slots__ = ("hash", "left", "right")

    def __init__(self, left: "MapNode | None", right: "MapNode | None") -> None:
        self.hash: Final[bytes] = sha256(
            _BRANCH + (EMPTY_ROOT if left is None else left.hash) + (EMPTY_ROOT if right is None else right.hash)
        ).digest()
        self.left: Final = left
        self.right: Final = right


MapNode: TypeAlias = Union[Leaf, Branch]  # noqa: UP007 - evaluated before both classes are complete for mypy
_Changes: TypeAlias = Sequence[tuple[bytes, Leaf | None]]


def key_path(key: bytes) -> bytes:
    """The place of a key in the map: 32 bytes, read from the most significant bit."""
    return sha256(key).digest()


def root_hash(node: MapNode | None) -> bytes:
    """The root of a map: 32 bytes, zero for the empty one."""
    return EMPTY_ROOT if node is None else node.hash


def build(items: Mapping[bytes, bytes]) -> MapNode | None:
    """The map of these keys and values."""
    return update(None, items.items())


def map_root(items: Mapping[bytes, bytes]) -> bytes:
    """The root of the map of these keys and values."""
    return root_hash(build(items))


def update(node: MapNode | None, changes: Iterable[tuple[bytes, bytes | None]]) -> MapNode | None:
    """The map after the changes: (key, value), or (key, None) to delete; the last one for a key wins."""
    by_path: dict[bytes, Leaf | None] = {}
    for key, value in changes:
        path = sha256(key).digest()
        by_path[path] = None if value is None else Leaf(path, sha256(value).digest())
    ordered = [(path, by_path[path]) for path in sorted(by_path)]
    return _update(node, ordered, 0, len(ordered), 0)


def _update(node: MapNode | None, changes: _Changes, start: int, end: int, depth: int) -> MapNode | None:
    """The subtree at this depth after changes[start:end], which are sorted by path and all lie under it.

    Recursion ends at depth 256: there the changes have one path left.
    """
    if start == end:
        return node
    if type(node) is Branch:
        middle = _split(changes, start, end, depth)
        left = _update(node.left, changes, start, middle, depth + 1)
        right = _update(node.right, changes, middle, end, depth + 1)
        if left is node.left and right is node.right:
            return node
        return _join(left, right)
    if type(node) is Leaf:
        if end - start == 1 and changes[start][0] == node.path:
            leaf = changes[start][1]
            return node if leaf is not None and leaf.value_hash == node.value_hash else leaf
        changes = _with_leaf(node, changes[start:end])
    else:
        changes = [change for change in changes[start:end] if change[1] is not None]
    return _build(changes, 0, len(changes), depth)


def _with_leaf(leaf: Leaf, changes: _Changes) -> _Changes:
    """The entries left, by path, after changes to a subtree that is this leaf."""
    entries: dict[bytes, Leaf | None] = {leaf.path: leaf, **dict(changes)}
    return [(path, entries[path]) for path in sorted(entries) if entries[path] is not None]


def _build(entries: _Changes, start: int, end: int, depth: int) -> MapNode | None:
    """The subtree of entries[start:end], sorted by path."""
    if end - start < 2:
        return entries[start][1] if start < end else None
    middle = _split(entries, start, end, depth)
    return _join(_build(entries, start, middle, depth + 1), _build(entries, middle, end, depth + 1))


def _split(changes: _Changes, start: int, end: int, depth: int) -> int:
    """Where, in changes[start:end] sorted by path, the bit at this depth turns from 0 to 1."""
    index = depth >> 3
    mask = 0x80 >> (depth & 7)
    if not changes[end - 1][0][index] & mask:
        return end
    if changes[start][0][index] & mask:
        return start
    while start < end:
        middle = (start + end) >> 1
        if changes[middle][0][index] & mask:
            end = middle
        else:
            start = middle + 1
    return start


def _join(left: MapNode | None, right: MapNode | None) -> MapNode | None:
    """The subtree of two sides: a lone leaf rises."""
    if left is None and (right is None or type(right) is Leaf):
        return right
    if right is None and type(left) is Leaf:
        return left
    return Branch(left, right)


@dataclass(frozen=True, slots=True)
class MapProof:
    """The way from the root to a key's slot; `leaf` is (path, value hash) of the entry found there, or None."""

    depth: int
    bitmap: int
    siblings: tuple[bytes, ...]
    leaf: tuple[bytes, bytes] | None

    def encode(self) -> bytes:
        """The canonical bytes: depth, bitmap in (depth + 7) // 8 bytes, siblings joined, path | value hash or None."""
        return codec.encode(
            (
                self.depth,
                self.bitmap.to_bytes((self.depth + 7) // 8, "big"),
                b"".join(self.siblings),
                None if self.leaf is None else self.leaf[0] + self.leaf[1],
            )
        )

    @classmethod
    def decode(cls, raw: bytes) -> "MapProof":
        """From `encode`'s form. Raises Rejection; the result is well-formed, not yet verified."""
        fields = codec.expect_tuple(codec.decode(raw, max_bytes=MAX_PROOF_BYTES, max_depth=1), "proof", length=4)
        depth = codec.expect_int(fields[0], "depth", 0, MAX_DEPTH)
        bitmap = int.from_bytes(codec.expect_bytes(fields[1], "bitmap", length=(depth + 7) // 8), "big")
        joined = codec.expect_bytes(fields[2], "siblings", length=32 * bitmap.bit_count())
        siblings = tuple([joined[i : i + 32] for i in range(0, len(joined), 32)])
        leaf = None if fields[3] is None else codec.expect_bytes(fields[3], "leaf", length=64)
        proof = cls(depth, bitmap, siblings, None if leaf is None else (leaf[:32], leaf[32:]))
        validate_proof(proof)
        return proof

    def to_json(self) -> dict[str, object]:
        """As in JSON answers: bitmap in 0x hex, hashes in hex without a prefix."""
        return {
            "depth": self.depth,
            "bitmap": hex(self.bitmap),
            "siblings": [sibling.hex() for sibling in self.siblings],
            "leaf": None if self.leaf is None else {"path": self.leaf[0].hex(), "value_hash": self.leaf[1].hex()},
        }

    @classmethod
    def from_json(cls, value: object) -> "MapProof":
        """From `to_json`'s form. Raises Rejection(BAD_PROOF); the result is well-formed, not yet verified."""
        try:
            match value:
                case {"depth": int(depth), "bitmap": str(bitmap), "siblings": list(siblings), "leaf": leaf} if len(
                    siblings
                ) <= MAX_DEPTH and _HEX_BITMAP.match(bitmap):
                    entry = None if leaf is None else (bytes.fromhex(leaf["path"]), bytes.fromhex(leaf["value_hash"]))
                    proof = cls(depth, int(bitmap, 16), tuple([bytes.fromhex(item) for item in siblings]), entry)
                case _:
                    raise _bad("expected depth, bitmap, siblings and leaf")
        except (ValueError, TypeError, KeyError):
            raise _bad("expected hex digits in bitmap, siblings and leaf") from None
        validate_proof(proof)
        return proof


def prove(node: MapNode | None, key: bytes) -> MapProof:
    """The proof of what the map holds under the key, be it an entry or nothing."""
    return prove_path(node, sha256(key).digest())


def prove_path(node: MapNode | None, path: bytes) -> MapProof:
    """The proof of what the map holds on a path, which need not be a key's."""
    depth = 0
    bitmap = 0
    siblings = []
    while type(node) is Branch:
        if path[depth >> 3] & (0x80 >> (depth & 7)):
            sibling, node = node.left, node.right
        else:
            sibling, node = node.right, node.left
        if sibling is not None:
            bitmap |= 1 << depth
            siblings.append(sibling.hash)
        depth += 1
    leaf = None if node is None else (node.path, node.value_hash) if type(node) is Leaf else None
    return MapProof(depth, bitmap, tuple(siblings), leaf)


def verify_membership(root: bytes, key: bytes, value: bytes, proof: MapProof) -> None:
    """Raises Rejection(BAD_PROOF) unless the map of this root holds exactly this value under the key."""
    path = sha256(key).digest()
    if proof.leaf is None:
        raise _bad("it proves absence, not membership")
    if proof.leaf != (path, sha256(value).digest()):
        raise _bad("its leaf isn't this key and value")
    _verify(root, path, proof)


def verify_absence(root: bytes, key: bytes, proof: MapProof) -> None:
    """Raises Rejection(BAD_PROOF) unless the map of this root holds nothing under the key."""
    path = sha256(key).digest()
    if proof.leaf is not None:
        if proof.leaf[0] == path:
            raise _bad("its leaf is the key itself: it proves membership, not absence")
        if _common_bits(proof.leaf[0], path) < proof.depth:
            raise _bad(f"its leaf doesn't share the key's first {proof.depth} bits")
    _verify(root, path, proof)


def _verify(root: bytes, path: bytes, proof: MapProof) -> None:
    validate_proof(proof)
    if len(root) != 32 or root == EMPTY_ROOT:
        raise _bad("the root must be 32 bytes, not all zero")
    current = proof_root(path, proof)
    if current != root:
        raise _bad(f"it leads to the root {current.hex()}, expected {root.hex()}")


def proof_root(path: bytes, proof: MapProof) -> bytes:
    """The root that a well-formed proof leads to from a path, whatever its leaf is."""
    current = EMPTY_ROOT if proof.leaf is None else sha256(_LEAF + proof.leaf[0] + proof.leaf[1]).digest()
    bits = int.from_bytes(path, "big") >> (MAX_DEPTH - proof.depth)
    bitmap = proof.bitmap
    remaining = len(proof.siblings)
    for level in range(proof.depth - 1, -1, -1):
        sibling = EMPTY_ROOT
        if bitmap >> level & 1:
            remaining -= 1
            sibling = proof.siblings[remaining]
        current = sha256(_BRANCH + (sibling + current if bits & 1 else current + sibling)).digest()
        bits >>= 1
    return current


def validate_proof(proof: MapProof) -> None:
    """Raises Rejection(BAD_PROOF) for a proof that no map has: depth, bitmap, siblings or leaf misshapen."""
    if not 0 <= proof.depth <= MAX_DEPTH:
        raise _bad(f"expected a depth of 0..{MAX_DEPTH}, got {proof.depth}")
    if proof.bitmap < 0 or proof.bitmap >> proof.depth:
        raise _bad(f"its bitmap has bits at or above its depth of {proof.depth}")
    if proof.bitmap.bit_count() != len(proof.siblings):
        raise _bad(f"its bitmap names {proof.bitmap.bit_count()} siblings, got {len(proof.siblings)}")
    lengths = set(map(len, proof.siblings))
    if not lengths <= {32}:
        raise _bad(f"expected siblings of 32 bytes, got {max(lengths - {32})}")
    if EMPTY_ROOT in proof.siblings:
        raise _bad("an empty sibling is listed")
    if proof.leaf is not None and (len(proof.leaf[0]) != 32 or len(proof.leaf[1]) != 32):
        raise _bad("expected a leaf of two hashes of 32 bytes")


def _common_bits(a: bytes, b: bytes) -> int:
    return 8 * len(b) - (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).bit_length()


def _bad(detail: str) -> Rejection:
    return Rejection(RejectionReason.BAD_PROOF, detail)


def list_root(items: Sequence[bytes]) -> bytes:
    """The root of a list: 32 bytes, zero for the empty one."""
    level = [sha256(_LEAF + item).digest() for item in items]
    while len(level) > 1:
        level = _level_above(level)
    return level[0] if level else EMPTY_ROOT


@dataclass(frozen=True, slots=True)
class ItemProof:
    """That an item stands at `index` of a list of `count`: the siblings on its way up to the root."""

    index: int
    count: int
    siblings: tuple[bytes, ...]


def prove_item(items: Sequence[bytes], index: int) -> ItemProof:
    """The proof of the item at the index. Raises IndexError."""
    if not 0 <= index < len(items):
        raise IndexError(f"no item {index} in a list of {len(items)}")
    level = [sha256(_LEAF + item).digest() for item in items]
    siblings = []
    position = index
    while len(level) > 1:
        if position ^ 1 < len(level):
            siblings.append(level[position ^ 1])
        level = _level_above(level)
        position >>= 1
    return ItemProof(index, len(items), tuple(siblings))


def verify_item(root: bytes, item: bytes, proof: ItemProof) -> None:
    """Raises Rejection(BAD_PROOF) unless the list of this root and count holds the item at the proof's index."""
    if not 0 <= proof.index < proof.count <= MAX_LIST_ITEMS:
        raise _bad(f"expected an index below the count, at most {MAX_LIST_ITEMS}, got {proof.index} of {proof.count}")
    current = sha256(_LEAF + item).digest()
    position, last, used = proof.index, proof.count - 1, 0
    while last:
        if position & 1 or position < last:
            if used == len(proof.siblings):
                raise _bad(f"expected more than {used} siblings")
            sibling = proof.siblings[used]
            if len(sibling) != 32:
                raise _bad(f"expected siblings of 32 bytes, got {len(sibling)}")
            current = sha256(_BRANCH + (sibling + current if position & 1 else current + sibling)).digest()
            used += 1
        position >>= 1
        last >>= 1
    if used != len(proof.siblings):
        raise _bad(f"expected {used} siblings, got {len(proof.siblings)}")
    if current != root:
        raise _bad(f"it leads to the root {current.hex()}, expected {root.hex()}")


def _level_above(level: list[bytes]) -> list[bytes]:
    """The nodes one level up; an odd last one rises as it is."""
    above = [sha256(_BRANCH + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
    if len(level) % 2:
        above.append(level[-1])
    return above
