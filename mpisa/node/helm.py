"""The helm: the succession that orders now, and how another takes its place.

Ordering takes one turn after another, an event and all its effects each. Whoever brings the stores further by another
way (a range of certified commits, a snapshot) does so inside `moved`: no turn is under way meanwhile, and behind it a
succession recovered from what the stores then hold goes on.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from consensus.dag.committee import Committee
    from consensus.status import EngineStatus
    from consensus.succession import Succession
    from mpisa.node.epochs import Epochs
    from mpisa.node.inbox import Inbox
    from mpisa.primitives.identifiers import AuthorityIndex, Epoch


class Helm:
    """See the module. Belongs to the loop."""

    def __init__(self, epochs: Epochs, succession: Succession, inbox: Inbox) -> None:
        self.succession = succession
        self.turn = asyncio.Lock()
        """Held by ordering while it handles an event."""

        self._epochs = epochs
        self._inbox = inbox
        self._is_new = True
        self._begun = asyncio.Event()

    def takes_over(self) -> bool:
        """Whether the succession has to be started first; asked once for each."""
        is_new, self._is_new = self._is_new, False
        return is_new

    def has_begun(self) -> None:
        """Ordering has started the succession."""
        self._begun.set()

    async def begun(self) -> None:
        """Returns when the present succession was started."""
        await self._begun.wait()

    @asynccontextmanager
    async def moved(self, is_due: Callable[[], bool] = lambda: True) -> AsyncIterator[bool]:
        """The stores may be moved on inside. `is_due` is asked once no turn is under way, for that turn may have opened
        an epoch: where it says no, False is yielded and nothing changes. Raises what recovering does; then the earlier
        succession stays.
        """
        async with self.turn:
            is_moving = is_due()
            yield is_moving
            if not is_moving:
                return
            self.succession = await asyncio.get_running_loop().run_in_executor(None, self._epochs.recover)
            self._is_new = True
            self._begun.clear()
        self._inbox.post_payload_waiting()  # wakes ordering, which then starts it

    def status(self) -> EngineStatus:
        """Of the current epoch."""
        return self.succession.status()

    @property
    def epoch(self) -> Epoch:
        """The current one."""
        return self.succession.epoch

    @property
    def committee(self) -> Committee:
        """The current epoch's."""
        return self.succession.committee

    @property
    def committees(self) -> Mapping[Epoch, Committee]:
        """Those of all open epochs."""
        return self.succession.committees

    @property
    def own(self) -> AuthorityIndex | None:
        """Which authority of the current epoch this node is, None for a follower."""
        return self.succession.own

    def proposes(self) -> bool:
        """Whether this node makes vertices now."""
        return self.own is not None and self.succession.sitting_out is None
