"""A whole state map from its entries, in the order of their paths, in bounded memory: for loading and for checking.

What comes out is what a crown, its buckets and its pages must hold: the node of every slot of the crown, and the page
of every divided node. Whether a slot is divided depends on its size alone here; a store that shrank may keep pages that
this wouldn't make, so whoever compares looks at hashes, not at kinds.
"""

from collections.abc import Iterable, Iterator

from mpisa.primitives.merkle_bucket import Below, bucket_of, settle
from mpisa.primitives.merkle_crown import Node, slot_of


def slots_of(leaves: Iterable[tuple[bytes, bytes]], bits: int) -> Iterator[tuple[int, Node, dict[int, bytes]]]:
    """Slot, node, and pages by heap index, for every slot of a crown that isn't empty.

    `leaves` are path and leaf hash, ascending by path; one slot's worth of them is held at a time.
    """
    slot = -1
    waiting: list[tuple[bytes, bytes]] = []
    for path, digest in leaves:
        here = slot_of(path, 0, bits)
        if here != slot and waiting:
            yield _slot(slot, waiting, bits)
            waiting = []
        slot = here
        waiting.append((path, digest))
    if waiting:
        yield _slot(slot, waiting, bits)


def _slot(slot: int, leaves: list[tuple[bytes, bytes]], bits: int) -> tuple[int, Node, dict[int, bytes]]:
    below = Below()
    node = settle(1 << bits | slot, bucket_of(leaves), below)
    pages = {index: below.new[index] or b"" for index in sorted(below.pages)}
    return slot, node, pages
