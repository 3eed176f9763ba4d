"""Proof that a list of entries is everything a state map holds in an interval of paths, both ends included.

The verifier builds the part of the map that it was given, and takes what lies outside from the proof: on the way to the
first path the siblings to its left, on the way to the last path those to its right. Along both ways every node is
hashed as a branch down to where the way ends, at an empty slot or a lone leaf; so the proof says nothing that the root
doesn't bind, and a forged or missing entry leads to another root. Snapshots are handed out in such ranges.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from mpisa.primitives import codec
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.merkle import (
    EMPTY_ROOT,
    MAX_DEPTH,
    MAX_PROOF_BYTES,
    MapNode,
    MapProof,
    prove_path,
    validate_proof,
)
from mpisa.primitives.merkle_bucket import subtree_hash

MAX_RANGE_PROOF_BYTES: Final = 2 * MAX_PROOF_BYTES + 16
_BRANCH: Final = b"\x01"


@dataclass(frozen=True, slots=True)
class RangeProof:
    """Two ways down: `left` to the interval's first path, with the siblings to the left of it, `right` to its last."""

    left: MapProof
    right: MapProof

    def encode(self) -> bytes:
        """The canonical bytes: both halves as MapProof encodes them."""
        return codec.encode((self.left.encode(), self.right.encode()))

    @classmethod
    def decode(cls, raw: bytes) -> "RangeProof":
        """From `encode`'s form. Raises Rejection; the result is well-formed, not yet verified."""
        fields = codec.expect_tuple(
            codec.decode(raw, max_bytes=MAX_RANGE_PROOF_BYTES, max_depth=1), "range proof", length=2
        )
        left = codec.expect_bytes(fields[0], "left", max_length=MAX_PROOF_BYTES)
        right = codec.expect_bytes(fields[1], "right", max_length=MAX_PROOF_BYTES)
        return cls(MapProof.decode(left), MapProof.decode(right))


def prove_range(node: MapNode | None, first: bytes, last: bytes) -> RangeProof:
    """The proof of what the map holds from path `first` to path `last`."""
    return range_proof(prove_path(node, first), prove_path(node, last), first, last)


def range_proof(left: MapProof, right: MapProof, first: bytes, last: bytes) -> RangeProof:
    """From the proofs of both ends."""
    return RangeProof(_outer(left, first, 1), _outer(right, last, 0))


def _outer(proof: MapProof, path: bytes, side: int) -> MapProof:
    """The proof without siblings inside the interval: kept where the path's own bit is `side`."""
    bitmap, kept, siblings = 0, [], iter(proof.siblings)
    for level in range(proof.depth):
        if proof.bitmap >> level & 1:
            sibling = next(siblings)
            if _bit(path, level) == side:
                bitmap |= 1 << level
                kept.append(sibling)
    return MapProof(proof.depth, bitmap, tuple(kept), proof.leaf)


def verify_range(
    root: bytes, first: bytes, last: bytes, entries: Iterable[tuple[bytes, bytes]], proof: RangeProof
) -> None:
    """Raises Rejection(BAD_PROOF) unless these (key, value) pairs, ascending by path, are all that the map of this root
    holds from path `first` to path `last`. The caller bounds the entries.
    """
    if len(root) != 32 or root == EMPTY_ROOT:
        raise _bad("the root must be 32 bytes, not all zero")
    if len(first) != 32 or len(last) != 32 or first > last:
        raise _bad("expected two paths of 32 bytes, the first not above the last")
    leaves: list[tuple[bytes, bytes]] = []
    for key, value in entries:
        path = sha256(key).digest()
        if not (leaves[-1][0] if leaves else b"") < path <= last or path < first:
            raise _bad("the entries aren't ascending by path, or one lies outside of the interval")
        leaves.append((path, sha256(value).digest()))
    found = _Verification(first, last, leaves, proof).root()
    if found != root:
        raise _bad(f"it leads to the root {found.hex()}, expected {root.hex()}")


class _Verification:
    """One verification: the interval, what is claimed inside, and the siblings outside by level."""

    def __init__(self, first: bytes, last: bytes, leaves: Sequence[tuple[bytes, bytes]], proof: RangeProof) -> None:
        self._ends = (last, first)  # by side: the way with siblings where its bit is `side`
        self._proofs = (proof.right, proof.left)
        self._outside = tuple([_siblings(half, self._ends[side], side) for side, half in enumerate(self._proofs)])
        self._leaves = leaves

    def root(self) -> bytes:
        """The root that entries and proof lead to. Raises Rejection(BAD_PROOF) when they contradict each other."""
        return self._hash(0, 0, len(self._leaves), (True, True))

    def _hash(self, depth: int, start: int, end: int, on: tuple[bool, bool]) -> bytes:
        """The node at a depth, above leaves[start:end]; `on` says whether it lies on the way to last, to first.

        Recursion ends at the depth of the proof's halves, at most 256.
        """
        if not any(on):
            if start == end:
                return EMPTY_ROOT
            inside = self._leaves[start:end]
            hashes = [sha256(b"\x00" + path + value_hash).digest() for path, value_hash in inside]
            return subtree_hash([path for path, _ in inside], hashes, depth)
        if any(on[side] and depth >= self._proofs[side].depth for side in (0, 1)):
            return self._terminal(depth, start, end, on)
        middle = start
        while middle < end and not _bit(self._leaves[middle][0], depth):
            middle += 1
        left = self._child(depth, start, middle, on, 0)
        right = self._child(depth, middle, end, on, 1)
        return sha256(_BRANCH + left + right).digest()

    def _child(self, depth: int, start: int, end: int, on: tuple[bool, bool], bit: int) -> bytes:
        below = (on[0] and _bit(self._ends[0], depth) == bit, on[1] and _bit(self._ends[1], depth) == bit)
        outside_right = bit == 1 and on[0] and not below[0]
        outside_left = bit == 0 and on[1] and not below[1]
        if outside_right or outside_left:
            return self._outside[0 if outside_right else 1].get(depth, EMPTY_ROOT)
        return self._hash(depth + 1, start, end, below)

    def _terminal(self, depth: int, start: int, end: int, on: tuple[bool, bool]) -> bytes:
        """Where a way ends: an empty slot, or a lone leaf that is the only entry here, if it lies in the interval."""
        halves = [self._proofs[side] for side in (0, 1) if on[side]]
        leaf = halves[0].leaf
        if any(half.depth != depth or half.leaf != leaf for half in halves):
            raise _bad("its two ways end differently in one place")
        inside = [] if leaf is None or not self._ends[1] <= leaf[0] <= self._ends[0] else [leaf]
        if list(self._leaves[start:end]) != inside:
            raise _bad("the entries aren't those that its ways end at")
        if leaf is None:
            return EMPTY_ROOT
        end_path = self._ends[0] if on[0] else self._ends[1]
        if _prefix(leaf[0], depth) != _prefix(end_path, depth):
            raise _bad(f"its leaf doesn't share the way's first {depth} bits")
        return sha256(b"\x00" + leaf[0] + leaf[1]).digest()


def _siblings(half: MapProof, path: bytes, side: int) -> dict[int, bytes]:
    """Siblings by level. Raises Rejection(BAD_PROOF) for one inside the interval, or a misshapen half."""
    validate_proof(half)
    found: dict[int, bytes] = {}
    siblings = iter(half.siblings)
    for level in range(half.depth):
        if half.bitmap >> level & 1:
            if _bit(path, level) != side:
                raise _bad(f"its sibling at level {level} lies inside of the interval")
            found[level] = next(siblings)
    return found


def _prefix(path: bytes, depth: int) -> int:
    return int.from_bytes(path, "big") >> (MAX_DEPTH - depth)


def _bit(path: bytes, depth: int) -> int:
    return path[depth >> 3] >> (7 - (depth & 7)) & 1


def _bad(detail: str) -> Rejection:
    return Rejection(RejectionReason.BAD_PROOF, detail)
