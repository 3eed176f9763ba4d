"""Which blocks to name before they are asked for, so that they can be fetched meanwhile: each once, 64 ahead."""

from collections.abc import Sequence
from typing import Final

from mpisa.primitives.cid import Cid

AHEAD: Final = 64
"""Blocks named ahead of their turn, at most."""

_EVERY: Final = 32
"""Blocks that are read between two looks ahead."""


class Ahead:
    """Of a stack of blocks to come, which were named already. `moved` for each block read, `grew` when more came."""

    def __init__(self) -> None:
        self._named: set[Cid] = set()
        self._left = 0

    def moved(self, cid: Cid) -> None:
        """This block was read: named again if it comes again."""
        self._named.discard(cid)
        self._left -= 1

    def grew(self) -> None:
        """Others come first now."""
        self._left = 0

    @property
    def due(self) -> bool:
        """Whether it is time to look again."""
        return self._left <= 0

    def names(self, upcoming: Sequence[Cid]) -> list[Cid]:
        """Of the next AHEAD blocks, in their order, those to be named now."""
        self._left = min(_EVERY, len(upcoming))
        fresh = [cid for cid in dict.fromkeys(upcoming) if cid not in self._named]
        self._named.update(fresh)
        return fresh
