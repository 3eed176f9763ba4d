"""One timer a kind: asked for again only when its time changes."""

from consensus.events import Effect, SetTimer, TimerKind
from mpisa.primitives.identifiers import Epoch


class Timers:
    """The times (ms) that the shell was asked for."""

    __slots__ = ("_epoch", "_times")

    def __init__(self, epoch: Epoch) -> None:
        self._epoch = epoch
        self._times: dict[TimerKind, int] = {}

    def fired(self, kind: TimerKind) -> None:
        """The kind's timer is spent."""
        self._times.pop(kind, None)

    def set(self, effects: list[Effect], kind: TimerKind, at_ms: int | None) -> None:
        """Ask for this time in place of the earlier one; None leaves that: an early timer does no harm."""
        if at_ms is not None and self._times.get(kind) != at_ms:
            self._times[kind] = at_ms
            effects.append(SetTimer(kind, at_ms, self._epoch))
