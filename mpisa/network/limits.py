"""Token buckets, the shape of every rate limit here: `rate` a second on average, `burst` at once. Time is an
argument.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(slots=True)
class TokenBucket:
    """One bucket, full at first. `rate` tokens a second, at most `burst`."""

    rate: float
    burst: float
    tokens: float
    updated: float

    def take(self, now: float, amount: float = 1.0) -> bool:
        """Takes the tokens if they are there."""
        self.tokens = min(self.burst, self.tokens + max(0.0, now - self.updated) * self.rate)
        self.updated = now
        if self.tokens < amount:
            return False
        self.tokens -= amount
        return True


class KeyedLimiter:
    """A bucket a key; at most `max_keys`, the least recently used forgotten first (it then starts full again)."""

    def __init__(self, rate: float, burst: float, max_keys: int) -> None:
        self._rate = rate
        self._burst = burst
        self._max_keys = max_keys
        self._buckets: OrderedDict[Hashable, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: Hashable, now: float, amount: float = 1.0) -> bool:
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = TokenBucket(self._rate, self._burst, self._burst, now)
            if len(self._buckets) > self._max_keys:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket.take(now, amount)
