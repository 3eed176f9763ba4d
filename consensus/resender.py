"""Sending the last own vertex again while nothing moves (docs/protocol.md, section 10).

A broadcast may be lost, and then a whole network may wait for one vertex. Whoever receives the latest vertex again
fetches what it lacks below it, so repeating that one is enough; the interval doubles up to a cap.
"""

from consensus.parameters import Parameters

_MAX_DOUBLINGS = 16


class Resender:
    """The bytes of the last own vertex (None before the first) and when they were last sent (ms)."""

    __slots__ = ("_parameters", "_resends", "raw", "sent_ms")

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._resends = 0
        self.raw: bytes | None = None
        self.sent_ms = 0

    def sent(self, raw: bytes, now_ms: int) -> None:
        """A new own vertex was sent."""
        self.raw = raw
        self.sent_ms = now_ms
        self._resends = 0

    def resent(self, now_ms: int) -> None:
        """The last one was sent again."""
        self.sent_ms = now_ms
        self._resends += 1

    def due_ms(self, timeout_ms: int, *, is_idle: bool) -> int:
        """When to send it again, unless a new one is made before."""
        patience = 2 * timeout_ms << min(self._resends, _MAX_DOUBLINGS)
        idle = self._parameters.idle_delay_ms if is_idle else 0
        return self.sent_ms + idle + min(patience, 2 * self._parameters.timeout_cap_ms)
