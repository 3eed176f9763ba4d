"""What a block store must be able to do so that garbage can be collected from it; see gc.py for who asks.

Blocks lie in packs. A pack is retired as a whole: its live blocks are written again, the others forgotten.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from mpisa.primitives.cid import Cid
from storage.blockstore import BlockStore


@dataclass(frozen=True, slots=True)
class PackInfo:
    """A pack: its size in bytes, how many records it has (None where nobody counted), when it was last written to.

    `sealed_at` is in seconds of the wall clock, also for the pack that is still written to.
    """

    number: int
    bytes: int
    records: int | None
    sealed_at: float


@dataclass(slots=True)
class Retired:
    """What became of a pack: `complete` when it is gone. `longest_hold_ms` is how long writers waited at most."""

    complete: bool = False
    blocks_kept: int = 0
    blocks_forgotten: int = 0
    bytes_rewritten: int = 0
    bytes_freed: int = 0
    longest_hold_ms: float = 0.0


class Collectable(BlockStore, Protocol):
    """A block store that gives space back."""

    def generations(self) -> Sequence[PackInfo]:
        """The packs that hold records, oldest first."""
        ...

    def records_of(self, pack: int) -> Iterator[tuple[Cid, int]]:
        """The blocks for which this pack is the place, and what each takes in it, in bytes. Raises StoreDamaged."""
        ...

    def retire(self, pack: int, keep: Callable[[Cid], bool], stop: Callable[[], bool]) -> Retired:
        """Write again what is kept or protected by a lease, forget the rest, remove the pack. Goes in small slices.

        `stop` is asked when nobody can touch what is about to be forgotten: if it says so, that isn't, and `keep` is
        asked anew, without a lock; it may raise to end all. After many stops the pack is left, not complete. What was
        done so far stays done. Raises what `keep` does, StoreDamaged (the pack then stays), DiskFull, QuotaExceeded.
        """
        ...

    def on_full(self, make_room: Callable[[int], bool] | None) -> None:
        """Whom a put asks for room that exceeds the quota: it waits for the answer and tries again if it is True."""
        ...
