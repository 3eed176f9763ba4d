"""Questions that a node asks while its engine rests, and whom it asks: `mpisa.node.sources` on a virtual clock.

Work is a generator: it yields what it waits for (answers, a pause, or nothing where a crash may strike) and is thrown
away when its node dies.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from mpisa.node.sources import Bounds
from mpisa.primitives.errors import Rejection

if TYPE_CHECKING:
    from tests.simulator.node import Node

ANSWER_MS: Final = 600
REST_MS: Final = 300
FOREVER_MS: Final = 1 << 40

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


_T = TypeVar("_T")
Work: TypeAlias = Generator[Ask | Pause | None, Any, _T]


def ask_one(peer: int, kind: str, body: bytes) -> Work[bytes | None]:
    """One answer."""
    answers: list[bytes | None] = yield Ask([(peer, kind, body)])
    return answers[0]


class Driver:
    """Runs a node's work until it ends or the node dies; a planned crash strikes between any two steps."""

    def __init__(self, node: "Node", work: Work[None]) -> None:
        self._node = node
        self._process = node.process
        self._work = work
        self._step = 0

    def resume(self, value: object = None) -> None:
        """Up to where it waits again."""
        node, step = self._node, None
        while step is None:
            if node.process != self._process or node.strikes():
                self._work.close()
                return
            try:
                step = self._work.send(value)
            except StopIteration:
                return
            value = None
        self._step += 1
        if isinstance(step, Pause):
            node.world.later(step.ms, lambda: self.resume() if node.process == self._process else None)
        else:
            self._ask(step)

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
        self._turn = 0
        self.claims: dict[int, Bounds] = {}

    def usable(self) -> list[int]:
        """Peers that may be asked now."""
        world, own = self._node.world, self._node.seat
        silent = world.scenario.silent
        seats = [seat for seat in range(len(world.nodes)) if seat != own and seat not in silent]
        return [seat for seat in seats if self._until.get(seat, 0) <= world.now]

    def next_of(self, peers: Sequence[int]) -> int:
        """One after the other."""
        self._turn += 1
        return peers[self._turn % len(peers)]

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
