"""Hashing all blocks of a DAG again, where they lie: nothing is fetched and nothing is changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mpisa.node.dag import Walk, links_of
from mpisa.primitives.cid import IDENTITY
from mpisa.primitives.errors import IntegrityError, NotFound, StoreDamaged

if TYPE_CHECKING:
    from mpisa.primitives.cid import Cid
    from storage.blockstore import BlockStore

MAX_NAMED: Final = 100
"""Damaged and missing blocks that are named; the others are counted."""
SLICE_BYTES: Final = 64 << 20
"""Hashed in one go of a worker thread; between two the node may be stopped."""


@dataclass(slots=True)
class Check:
    """A check under way and what it found. `names` of damaged and missing blocks are bounded, their numbers are not."""

    walk: Walk
    blocks: int = 0
    size: int = 0
    damaged: int = 0
    missing: int = 0
    damaged_names: list[Cid] = field(default_factory=list)
    missing_names: list[Cid] = field(default_factory=list)

    def note_damaged(self, cid: Cid) -> None:
        self.damaged += 1
        if len(self.damaged_names) < MAX_NAMED:
            self.damaged_names.append(cid)

    def note_missing(self, cid: Cid) -> None:
        self.missing += 1
        if len(self.missing_names) < MAX_NAMED:
            self.missing_names.append(cid)

    @property
    def over(self) -> bool:
        """Whether every block was looked at."""
        return not self.walk.stack


def check_slice(store: BlockStore, check: Check) -> None:
    """Go on for about SLICE_BYTES. For a worker thread. Raises Rejection for a malformed or too large DAG."""
    until = check.size + SLICE_BYTES
    while check.walk.stack and check.size < until:
        cid = check.walk.stack.pop()
        if not check.walk.first_visit(cid):
            continue
        if cid.digest_code == IDENTITY:
            check.walk.push(links_of(cid, cid.digest))
            continue
        try:
            data = store.get(cid)
        except NotFound:
            check.note_missing(cid)
            continue
        except (StoreDamaged, IntegrityError):
            check.note_damaged(cid)
            continue
        check.blocks += 1
        check.size += len(data)
        check.walk.push(links_of(cid, data))
