"""When a second peer is asked for what is due, and whom a node asks first, on a clock of the test's own."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from mpisa.node.patience import MAX_ASKED, MAX_NAMED, NODE_PACE, Chase, Move, Patience

FIRST = NODE_PACE.first
REQUEST = 10.0
"""After so many seconds the network gives a request up."""

NEVER = float("inf")


@dataclass
class Asker:
    """Gets one thing after the other from peers that take known times, as a shell does."""

    delays: Mapping[str, float]
    patience: Patience[str] = field(default_factory=lambda: Patience(NODE_PACE))
    now: float = 0.0
    asked: list[str] = field(default_factory=list)
    most: int = 0

    def get(self, able: Sequence[str] | None = None) -> str:
        """Who delivered it."""
        chase, waiting = Chase(self.patience), list[tuple[float, str, bool]]()
        while True:
            move = chase.move(tuple(self.delays) if able is None else able, self.now)
            if move.ask is not None:
                self.asked.append(move.ask)
                took = self.delays[move.ask]
                heapq.heappush(waiting, (self.now + min(took, REQUEST), move.ask, took <= REQUEST))
            waiting = [item for item in waiting if item[1] in chase.asked]
            heapq.heapify(waiting)
            self.most = max(self.most, len(chase.asked))
            assert waiting, "somebody is always asked"
            wake = chase.wake if chase.wake > self.now else self.now + self.patience.bound
            self.now = min(wake, waiting[0][0])
            if self.now < waiting[0][0]:
                continue
            _, peer, has_it = heapq.heappop(waiting)
            if has_it:
                chase.delivered(peer, self.now, self.delays[peer])
                return peer
            self.patience.was_slow(peer, self.now)
            chase.failed(peer)


def fleet(honest: int, withholding: int, seconds: float = 0.1) -> dict[str, float]:
    liars = {f"liar {number}": NEVER for number in range(withholding)}
    return liars | {f"honest {number}": seconds for number in range(honest)}


def test_a_second_peer_is_asked_once_the_first_has_had_its_time_and_not_before() -> None:
    chase = Chase(Patience[str](NODE_PACE))
    first = chase.begin(["one", "two"], 10.0)
    assert first is not None
    other = "two" if first == "one" else "one"
    assert chase.move(["one", "two"], 10.0 + FIRST - 0.01) == Move()
    assert chase.move(["one", "two"], 10.0 + FIRST) == Move(other)
    assert chase.asked == (first, other)
    assert chase.move(["one", "two"], 1_000.0) == Move(), "there is nobody else"


def test_the_one_asked_first_is_given_up_when_a_third_is_asked() -> None:
    patience = Patience[str](NODE_PACE)
    chase = Chase(patience)
    peers = ["one", "two", "three"]
    first = chase.move(peers, 0.0).ask
    second = chase.move(peers, FIRST).ask
    assert chase.move(peers, FIRST + 2 * FIRST - 0.01) == Move()
    third = chase.move(peers, FIRST + 2 * FIRST)
    assert third.give_up == first
    assert {first, second, third.ask} == set(peers)
    assert len(chase.asked) == MAX_ASKED


def test_one_that_fails_costs_no_wait() -> None:
    chase = Chase(Patience[str](NODE_PACE))
    first = chase.move(["one", "two"], 0.0).ask
    assert first is not None
    chase.failed(first)
    assert chase.move(["one", "two"], 0.01).ask is not None


def test_the_slow_one_is_asked_last_until_its_time_is_over_and_longer_each_time() -> None:
    patience = Patience[str](NODE_PACE)
    now, spans = 0.0, []
    for _ in range(5):
        patience.was_slow("slow", now)
        patience.was_slow("slow", now + 1), "one delay, however much waits for it"
        until = now
        while patience.is_demoted("slow", until):
            assert patience.choose(["slow", "other"], until, steps_in=False) == "other"
            until += 1.0
        spans.append(until - now)
        now = until
    assert spans == [10.0, 40.0, 160.0, 600.0, 600.0]
    ahead = {patience.choose(["slow", "other"], now, steps_in=False) for _ in range(2)}
    assert ahead == {"slow", "other"}, "it is tried again, but steps in for nobody"
    assert patience.choose(["slow", "other"], now, steps_in=True) == "other"
    patience.delivered("slow", 0.1)
    assert {patience.choose(["slow", "other"], now, steps_in=False) for _ in range(2)} == {"slow", "other"}
    patience.was_slow("slow", now)
    assert not patience.is_demoted("slow", now + NODE_PACE.demoted), "what it delivered in time has cleared it"


def test_whoever_is_overtaken_was_slow_and_whoever_overtakes_is_not() -> None:
    patience = Patience[str](NODE_PACE)
    chase = Chase(patience)
    first = chase.move(["one", "two"], 0.0).ask
    second = chase.move(["one", "two"], FIRST).ask
    assert first is not None
    assert second is not None
    chase.delivered(second, 2.0, 0.5)
    assert [patience.is_demoted(peer, 2.0) for peer in (first, second)] == [True, False]
    again = Chase(patience)
    assert again.move([second], 3.0).ask == second
    assert again.move([second, "three"], 3.0 + patience.bound).ask == "three"
    again.delivered(second, 5.0, 2.0)
    assert not patience.is_demoted("three", 5.0), "the first one came first all the same"


def test_one_that_has_delivered_steps_in_for_one_that_takes_long() -> None:
    patience = Patience[str](NODE_PACE)
    patience.delivered("sure", 0.1)
    for _ in range(4):
        chase = Chase(patience)
        chase.move(["one"], 0.0)
        assert chase.move(["one", "new", "sure", "other"], FIRST).ask == "sure"
        chase.end()


@pytest.mark.parametrize(
    ("times", "bound"),
    [
        ((), FIRST),
        ((0.01,) * 3, 0.5),
        ((0.4,), 1.2),
        ((0.4, 0.4, 0.4, 0.0), 1.2),
        ((0.4, 0.4, 9.0), 1.2),
        ((7.0,), 5.0),
    ],
)
def test_the_bound_follows_the_median_of_what_peers_took_between_a_floor_and_a_ceiling(
    times: tuple[float, ...], bound: float
) -> None:
    patience = Patience[int](NODE_PACE)
    for peer, took in enumerate(times):
        for _ in range(10):  # more answers make no heavier
            patience.delivered(peer, took)
    assert patience.bound == pytest.approx(bound)


@pytest.mark.parametrize(("honest", "withholding"), [(3, 1), (5, 2), (1, 3), (1, 6), (67, 33)])
def test_withholding_peers_cost_a_moment_each_and_stop_nobody(honest: int, withholding: int) -> None:
    """Each is met once between the times when it is asked last, whatever part of all it is."""
    asker = Asker(fleet(honest, withholding))
    for _ in range(1_000):
        assert asker.get().startswith("honest")
    assert asker.most <= MAX_ASKED
    tries = sum(peer.startswith("liar") for peer in asker.asked)
    assert withholding <= tries <= 4 * withholding
    search = 3 * FIRST + NODE_PACE.most * withholding  # before anybody has delivered
    assert asker.now - 1_000 * 0.1 <= search + NODE_PACE.least * tries


def test_where_all_are_slow_every_one_gets_its_time() -> None:
    asker = Asker(dict.fromkeys(["one", "two", "three"], 6.0))
    for _ in range(20):
        asker.get()
    assert asker.now <= 20 * 10.0
    assert asker.most <= MAX_ASKED


def test_one_honest_peer_that_is_slow_comes_through_among_withholding_ones() -> None:
    asker = Asker(fleet(1, 3, seconds=6.0))
    for _ in range(20):
        assert asker.get() == "honest 0"
    assert asker.now <= 20 * 6.0 + 3 * 3 * NODE_PACE.most, "each liar is asked first three times meanwhile"


def test_a_withholder_among_those_asked_ahead_costs_nothing_where_it_has_had_its_time() -> None:
    patience = Patience[str](NODE_PACE)
    ahead = Chase(patience)
    slow = ahead.begin(["one"], 0.0)
    assert ahead.move(["one", "two"], 8.0) == Move("two"), "due at last, and late already"
    ahead.delivered("two", 8.1, 0.1)
    assert slow == "one"
    assert patience.is_demoted("one", 8.1)


def test_what_is_asked_ahead_goes_to_those_who_have_least_to_do() -> None:
    patience = Patience[str](NODE_PACE)
    chases = [Chase(patience) for _ in range(3)]
    peers = ["one", "two", "three"]
    assert {chase.begin(peers, 0.0) for chase in chases} == set(peers)
    chases[0].end()
    free = Chase(patience).begin(peers, 0.0)
    assert free is not None
    assert free not in {peer for chase in chases[1:] for peer in chase.asked}


def test_nobody_s_name_stays_for_ever() -> None:
    patience = Patience[int](NODE_PACE)
    patience.was_slow(-1, 0.0)
    for peer in range(2 * MAX_NAMED):
        patience.delivered(peer, 0.1)
    assert len(patience._records) == MAX_NAMED
    assert patience.is_demoted(-1, 1.0), "those who pass by don't push out whoever was slow"
