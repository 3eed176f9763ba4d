"""What is known of the providers of blocks, from what they did: how fast they answer, how often they failed, and who
lied. Kept between calls, for a bounded number of peers.

An answer is expected after the provider's latency and the time its bytes take behind those that were asked for before.
Whoever wasn't measured lately is hoped to be as fast as the fastest, so that all who have a DAG are tried. Faults in a
row make a provider look slower, a lie rules it out for a while. Times are seconds, sizes bytes.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from mpisa.network.ports import PeerId

FAULTS_TO_DEMOTE = 3
LIAR_SECONDS = 600.0
MAX_STANDINGS = 1024
FIRST_SPEED = 8 << 20
FIRST_LATENCY = 0.01
LOWEST_SPEED = 16 << 10
WEIGHT = 0.3
"""Of the newest answer in the moving averages."""

FRESH_SECONDS = 10.0
"""A speed that was measured longer ago says little: links and loads change, and who isn't asked can't show it."""

SMALL_BYTES = 64 << 10
"""Up to here an answer tells of the latency, above of the speed."""


@dataclass(slots=True)
class Standing:
    """One provider: moving averages of its speed and latency, faults in a row, bytes expected of it now."""

    speed: float = FIRST_SPEED
    measured: float = -FRESH_SECONDS
    latency: float = FIRST_LATENCY
    faults: int = 0
    liar_until: float = 0.0
    pending: int = 0

    def delay(self, size: int, now: float, hope: float = FIRST_SPEED) -> float:
        """Seconds until another `size` bytes should be here; `hope` counts where no speed was measured lately."""
        penalty = 4.0 ** min(self.faults, 8)
        speed = self.speed if now - self.measured < FRESH_SECONDS else max(self.speed, hope)
        return (self.latency + (self.pending + size) / speed) * penalty

    def delivered(self, size: int, ahead: int, seconds: float, now: float) -> None:
        """An answer of `size` bytes came after `seconds`; `ahead` bytes were expected before it when it was asked."""
        self.faults = 0
        if size <= SMALL_BYTES:
            self.latency += WEIGHT * (seconds - self.latency)
            return
        speed = (ahead + size) / max(seconds, 1e-6)
        known = now - self.measured < FRESH_SECONDS
        self.speed = self.speed + WEIGHT * (speed - self.speed) if known else speed
        self.measured = now

    def lost(self, now: float) -> None:
        """Another delivered what this one was late with."""
        self.speed = max(self.speed / 2, LOWEST_SPEED)
        self.measured = now


class Standings:
    """The standing of each provider; of more than MAX_STANDINGS the one heard of longest ago is forgotten."""

    def __init__(self) -> None:
        self._held: OrderedDict[PeerId, Standing] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def of(self, peer: PeerId) -> Standing:
        found = self._held.get(peer)
        if found is None:
            found = self._held[peer] = Standing()
            if len(self._held) > MAX_STANDINGS:
                self._held.popitem(last=False)
        else:
            self._held.move_to_end(peer)
        return found
