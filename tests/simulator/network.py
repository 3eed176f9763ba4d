"""Links of the simulated network: each with its own delays and faults, all drawn from one seed."""

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class LinkFaults:
    """Until `heal_ms`: messages are dropped or doubled with these probabilities, and cut off between partitions."""

    heal_ms: int
    drop: float = 0.0
    duplicate: float = 0.0
    min_delay_ms: int = 1
    max_delay_ms: int = 30
    slow: float = 0.0
    slow_ms: int = 400


class Links:
    """Delivery times of messages; reordering follows from independent delays."""

    def __init__(self, random: Random, count: int, faults: LinkFaults) -> None:
        self._random = random
        self._faults = faults
        self._base = {
            (sender, receiver): random.randint(faults.min_delay_ms, faults.max_delay_ms)
            for sender in range(count)
            for receiver in range(count)
        }
        self._cut: set[int] = set()
        self._cut_until = 0

    def cut(self, members: set[int], until_ms: int) -> None:
        """Separate these from the others until then."""
        self._cut, self._cut_until = members, until_ms

    def arrivals(self, sender: int, receiver: int, now_ms: int) -> list[int]:
        """When the copies of a message sent now arrive."""
        base = self._base[sender, receiver]
        arrival = now_ms + base + self._random.randint(0, base)
        if now_ms >= self._faults.heal_ms:
            return [arrival]
        if now_ms < self._cut_until and (sender in self._cut) != (receiver in self._cut):
            return []
        if self._random.random() < self._faults.drop:
            return []
        if self._random.random() < self._faults.slow:
            arrival += self._random.randint(0, self._faults.slow_ms)
        copies = [arrival]
        if self._random.random() < self._faults.duplicate:
            copies.append(arrival + self._random.randint(0, 100))
        return copies
