"""Questions that a node asks while its engine rests, and whom it asks: `mpisa.node.{sources,pursuit}` on a virtual
clock, by the real `Patience`.

Work is a generator: it yields what it waits for (answers, a pause, or nothing where a crash may strike) and is thrown
away when its node dies.
"""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from mpisa.node.patience import Chase, Pace, Patience
from mpisa.node.pursuit import MAX_FAILURES
from mpisa.node.sources import Bounds
from mpisa.primitives.errors import Rejection
from tests.simulator.provider import REFUSED

if TYPE_CHECKING:
    from tests.simulator.node import Node

ANSWER_MS: Final = 600
REST_MS: Final = 300
FOREVER_MS: Final = 1 << 40
PACE: Final = Pace(first=150, least=50, most=300, demoted=1_000, longest=60_000)
"""In milliseconds, as much quicker as answers are given up sooner."""

Question: TypeAlias = tuple[int, str, bytes]
"""Whom (a seat), about what, with which bytes."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Goes on with the answers in the order of the questions, None for silence, once all are there or it took too
    long.
    """

    questions: Sequence[Question]


@dataclass(frozen=True, slots=True)
class Pause:
    """Goes on then."""

    ms: int


@dataclass(frozen=True, slots=True)
class Send:
    """One question, with a number of its own; goes on at once."""

    number: int
    question: Question


@dataclass(frozen=True, slots=True)
class Receive:
    """Goes on with the number of a question that was sent and its answer, or with None at this time."""

    until_ms: int


_T = TypeVar("_T")
Work: TypeAlias = Generator[Ask | Send | Receive | Pause | None, Any, _T]


class Driver:
    """Runs a node's work until it ends or the node dies; a planned crash strikes between any two steps."""

    def __init__(self, node: "Node", work: Work[None]) -> None:
        self._node = node
        self._process = node.process
        self._work = work
        self._step = 0
        self._arrived: deque[tuple[int, bytes]] = deque()
        self._receiving = -1

    def resume(self, value: object = None) -> None:
        """Up to where it waits again."""
        node = self._node
        while True:
            if node.process != self._process or node.strikes():
                self._work.close()
                return
            try:
                step = self._work.send(value)
            except StopIteration:
                return
            value = None
            if isinstance(step, Send):
                self._send(step)
            elif isinstance(step, Receive) and self._arrived:
                value = self._arrived.popleft()
            elif step is not None:
                break
        self._step += 1
        if isinstance(step, Receive):
            self._receive(step)
        elif isinstance(step, Pause):
            node.world.later(step.ms, lambda: self.resume() if node.process == self._process else None)
        else:
            self._ask(step)

    def _send(self, step: Send) -> None:
        peer, kind, body = step.question

        def arrive(raw: bytes) -> None:
            self._arrived.append((step.number, raw))
            if self._receiving == self._step:
                self.resume(self._arrived.popleft())

        self._node.world.ask_source(self._node, peer, kind, body, arrive)

    def _receive(self, step: Receive) -> None:
        number = self._receiving = self._step
        world = self._node.world

        def give_up() -> None:
            if self._step == number:
                self.resume()

        world.later(max(0, step.until_ms - world.now), give_up)

    def _ask(self, step: Ask) -> None:
        number, world = self._step, self._node.world
        answers: list[bytes | None] = [None] * len(step.questions)
        waiting = set(range(len(answers)))

        def arrive(place: int, raw: bytes) -> None:
            if self._step == number and place in waiting:
                waiting.remove(place)
                answers[place] = raw
                if not waiting:
                    self.resume(answers)

        def give_up() -> None:
            if self._step == number:
                self.resume(answers)

        for place, (peer, kind, body) in enumerate(step.questions):
            world.ask_source(self._node, peer, kind, body, lambda raw, place=place: arrive(place, raw))
        world.later(ANSWER_MS if answers else 0, give_up)


class Sources:
    """See the module. Whoever's bytes fail a check isn't asked again in this life."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._until: dict[int, int] = {}
        self._sent = 0
        self.patience: Patience[int] = Patience(PACE)
        self.claims: dict[int, Bounds] = {}

    def usable(self) -> list[int]:
        """Peers that may be asked now."""
        world, own = self._node.world, self._node.seat
        silent = world.scenario.silent
        seats = [seat for seat in range(len(world.nodes)) if seat != own and seat not in silent]
        return [seat for seat in seats if self._until.get(seat, 0) <= world.now]

    def pursue(
        self, able: Callable[[], Sequence[int]], kind: str, body: bytes, verify: Callable[[int, bytes], _T | None]
    ) -> Work[_T | None]:
        """What `verify` makes of the first answer that passes it; None when nobody is left to ask, or too many brought
        nothing of use. A lie raises Rejection there, an answer with nothing in it gives None.
        """
        world, chase, failures = self._node.world, Chase(self.patience), 0
        sent: dict[int, tuple[int, int]] = {}
        while failures < MAX_FAILURES:
            move = chase.move(able(), world.now)
            if move.ask is not None:
                self._sent += 1
                sent[self._sent] = move.ask, world.now
                yield Send(self._sent, (move.ask, kind, body))
            sent = {number: (peer, begun) for number, (peer, begun) in sent.items() if peer in chase.asked}
            if not sent:
                return None
            wake = chase.wake if chase.wake > world.now else world.now + self.patience.bound
            ends = min(begun for _, begun in sent.values()) + ANSWER_MS
            found: tuple[int, bytes] | None = yield Receive(min(ceil(wake), ends))
            for peer in [peer for peer, begun in sent.values() if found is None and world.now >= begun + ANSWER_MS]:
                self.patience.was_slow(peer, world.now)
                self._useless(chase, peer)
                failures += 1
            if found is None or found[0] not in sent:
                continue
            peer, begun = sent[found[0]]
            result = self._judge(peer, kind, found[1], verify)
            if result is not None:
                chase.delivered(peer, world.now, world.now - begun)
                return result
            self._useless(chase, peer)
            failures += 1
        chase.end()
        return None

    def _judge(self, peer: int, kind: str, raw: bytes, verify: Callable[[int, bytes], _T | None]) -> _T | None:
        try:
            return None if raw == REFUSED else verify(peer, raw)
        except Rejection as rejection:
            self.drop(peer, kind, rejection)
            return None

    def _useless(self, chase: Chase[int], peer: int) -> None:
        self.rest(peer)
        chase.failed(peer)

    def able(self, first: int, last: int) -> list[int]:
        """Usable peers that claim to have all these heights."""
        known = [(seat, self.claims.get(seat)) for seat in self.usable()]
        return [seat for seat, claim in known if claim and claim.lowest <= first and claim.certified >= last]

    def certified(self, peer: int) -> int:
        """The highest height that a peer claims."""
        return self.claims[peer].certified if peer in self.claims else 0

    def highest(self) -> int:
        """The highest height that a usable peer claims."""
        return max((self.certified(seat) for seat in self.usable()), default=0)

    def drop(self, peer: int, what: str, rejection: Rejection) -> None:
        """Its bytes failed a check."""
        world = self._node.world
        world.note(self._node.seat, f"drops node {peer} as a source of {what}: {rejection}")
        world.dropped.append((self._node.seat, peer, f"{what}: {rejection}"))
        self._rest(peer, FOREVER_MS)

    def rest(self, peer: int) -> None:
        """It didn't deliver."""
        self._rest(peer, REST_MS)

    def _rest(self, peer: int, delay_ms: int) -> None:
        self._until[peer] = max(self._until.get(peer, 0), self._node.world.now + delay_ms)
        self.claims.pop(peer, None)
