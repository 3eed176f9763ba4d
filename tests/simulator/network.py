"""Links of the simulated network: each with its own delays and faults, all drawn from one seed."""

from random import Random

from tests.simulator.scenario import Cut, LinkFaults


class Links:
    """Delivery times of messages; reordering follows from independent delays. Links are one-way."""

    def __init__(self, random: Random, count: int, faults: LinkFaults, cuts: tuple[Cut, ...]) -> None:
        self._random = random
        self._faults = faults
        self._cuts = cuts
        self._base = {
            (sender, receiver): random.randint(faults.min_delay_ms, faults.max_delay_ms)
            for sender in range(count)
            for receiver in range(count)
        }

    def is_cut(self, sender: int, receiver: int, now_ms: int) -> bool:
        """Whether nothing travels this way now."""
        return any(
            cut.at_ms <= now_ms < cut.until_ms and sender in cut.senders and receiver in cut.receivers
            for cut in self._cuts
        )

    def arrivals(self, sender: int, receiver: int, now_ms: int) -> tuple[int, ...]:
        """When the copies of a message sent now arrive."""
        if self._cuts and self.is_cut(sender, receiver, now_ms):
            return ()
        random, faults = self._random, self._faults
        base = self._base[sender, receiver]
        arrival = now_ms + base + int(random.random() * (base + 1))
        if now_ms >= faults.heal_ms:
            return (arrival,)
        if random.random() < faults.drop:
            return ()
        if random.random() < faults.slow:
            arrival += random.randint(0, faults.slow_ms)
        if random.random() < faults.duplicate:
            return (arrival, arrival + random.randint(0, 100))
        return (arrival,)
