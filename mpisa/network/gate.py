"""The gate: what a node does to its own links so that people can see how a network behaves under faults.

Rules name peers. A cut closes every connection with the peer and refuses new ones, whoever dials. Delay and loss act on
what this node sends (authority frames, questions, answers, and what it asks for blocks), at the place where bytes leave
it, and never change the order of frames. Rules are this process's: a restart forgets them. Non-goals: bandwidth, lies.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from mpisa.network.ports import LinkRule, NetworkLimits, NetworkStats, PeerId
from mpisa.primitives.errors import TimedOut, Unreachable

NO_RULE = LinkRule()
LOST_SECONDS = 10.0
"""How long an asker is left without the answer that got lost: longer than it waits."""


class Gate:
    """The rules of one node and what waits because of them. Belongs to the loop."""

    def __init__(self) -> None:
        self.rules: Mapping[PeerId, LinkRule] = {}
        self._random = random.Random()  # noqa: S311 - which bytes get lost is no secret
        self._passages: dict[PeerId, set[asyncio.Timeout]] = {}

    def set(self, rules: Mapping[PeerId, LinkRule]) -> tuple[frozenset[PeerId], frozenset[PeerId]]:
        """Other rules from now on, for all peers. Returns who is cut that wasn't, and who isn't any more; what was
        under way to those cut now ends.
        """
        before = self.cut()
        self.rules = {peer: rule for peer, rule in rules.items() if rule != NO_RULE}
        after = self.cut()
        for peer in after - before:
            for passage in self._passages.get(peer, ()):
                if not passage.expired():
                    passage.reschedule(asyncio.get_running_loop().time())
        return after - before, before - after

    def cut(self) -> frozenset[PeerId]:
        """The peers that are cut off."""
        return frozenset(peer for peer, rule in self.rules.items() if rule.cut)

    def is_cut(self, peer: PeerId | str) -> bool:
        """Whether nothing passes between this node and the peer."""
        rule = self.rules.get(PeerId(peer))
        return rule is not None and rule.cut

    def loses(self, peer: PeerId) -> bool:
        """Whether what is sent to the peer now gets lost; each call draws anew."""
        rule = self.rules.get(peer)
        return rule is not None and rule.drop_percent > 0 and self._random.random() * 100 < rule.drop_percent

    def delay(self, peer: PeerId) -> float:
        """Seconds that what is sent to the peer now is held back."""
        rule = self.rules.get(peer)
        if rule is None:
            return 0.0
        return (rule.delay_ms + self._random.random() * rule.jitter_ms) / 1000

    @asynccontextmanager
    async def passage(self, peer: PeerId, timeout: float) -> AsyncIterator[None]:
        """Around a question to the peer and its answer: held back, lost or refused as the rules say.

        Raises Unreachable where the peer is cut off, now or meanwhile, and TimedOut for a question that got lost.
        """
        if self.is_cut(peer):
            raise Unreachable(f"{peer} is cut off by a fault that was asked for")
        passage = asyncio.timeout(None)
        self._passages.setdefault(peer, set()).add(passage)
        try:
            async with passage:
                if peer in self.rules:
                    await self._hold(peer, timeout)
                yield
        except TimeoutError:
            if passage.expired():
                raise Unreachable(f"{peer} was cut off by a fault that was asked for") from None
            raise
        finally:
            waiting = self._passages[peer]
            waiting.discard(passage)
            if not waiting:
                del self._passages[peer]

    async def hold_answer(self, peer: PeerId) -> None:
        """Before an answer to the peer leaves. Raises Unreachable for one that is lost, when the peer has given up."""
        if peer not in self.rules:
            return
        if self.loses(peer):
            await asyncio.sleep(LOST_SECONDS)
            raise Unreachable("the answer got lost by a fault that was asked for")
        await asyncio.sleep(self.delay(peer))

    async def _hold(self, peer: PeerId, timeout: float) -> None:
        if self.loses(peer):
            await asyncio.sleep(timeout)
            raise TimedOut(f"{peer} didn't answer within {timeout} s")
        await asyncio.sleep(self.delay(peer))


class DelayLine:
    """Frames to one peer that are held back, in order. Bounded as a link's queue is: the oldest are dropped."""

    def __init__(
        self, gate: Gate, peer: PeerId, limits: NetworkLimits, stats: NetworkStats, onward: Callable[[bytes], object]
    ) -> None:
        self._gate = gate
        self._peer = peer
        self._limits = limits
        self._stats = stats
        self._onward = onward
        self._held: deque[tuple[float, bytes]] = deque()
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def takes(self, frame: bytes) -> bool:
        """Whether the frame got lost or is held back here; else the caller sends it on at once."""
        if self._peer not in self._gate.rules and not self._held:
            return False
        if self._gate.loses(self._peer):
            self._stats.frames_dropped += 1
            return True
        delay = self._gate.delay(self._peer)
        if delay <= 0 and not self._held:
            return False
        due = asyncio.get_running_loop().time() + delay
        self._held.append((max(due, self._held[-1][0]) if self._held else due, frame))
        self._bytes += len(frame)
        while len(self._held) > self._limits.authority_queue_frames or self._bytes > self._limits.authority_queue_bytes:
            self._bytes -= len(self._held.popleft()[1])
            self._stats.frames_dropped += 1
        self._wait()
        return True

    def clear(self) -> None:
        """What is held gets lost: the link is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._stats.frames_dropped += len(self._held)
        self._held.clear()
        self._bytes = 0

    def _wait(self) -> None:
        if self._timer is None and self._held:
            self._timer = asyncio.get_running_loop().call_at(self._held[0][0], self._release)

    def _release(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._held and self._held[0][0] <= now:
            _, frame = self._held.popleft()
            self._bytes -= len(frame)
            self._onward(frame)
        self._wait()
