"""When a vertex is due: delays, leaders, votes, suspects, timeouts that double to a cap."""

from consensus.dag.graph import Graph
from consensus.order.committer import Committer
from consensus.order.leader import RoundRobin
from consensus.pacemaker import Pacemaker
from consensus.parameters import Parameters
from mpisa.primitives.identifiers import AuthorityIndex
from tests.consensus.forge import Forge

PARAMETERS = Parameters(leaders_per_round=1)


class Fixture:
    def __init__(self) -> None:
        self.forge = Forge()
        self.graph = Graph(self.forge.committee)
        self.committer = Committer(self.forge.committee, RoundRobin(4, 1), self.graph)
        self.pacemaker = Pacemaker(PARAMETERS, self.graph, self.committer, AuthorityIndex(0))

    def layer(self, number: int, *authors: int) -> None:
        for vertex in self.forge.layer(number, authors):
            self.committer.add(self.graph.add(vertex))

    def step(
        self, target: int, now: int, *, idle: bool = False, equivocators: frozenset[int] = frozenset()
    ) -> int | None:
        return self.pacemaker.next_step(target, 1_000, is_idle=idle, equivocators=equivocators, now_ms=now)


def test_the_shortest_delay_comes_first() -> None:
    fixture = Fixture()
    assert fixture.step(1, 1_000) == 1_025
    assert fixture.step(1, 1_024) == 1_025
    assert fixture.step(1, 1_025) is None


def test_idling_only_delays_the_start() -> None:
    fixture = Fixture()
    assert fixture.step(1, 1_025, idle=True) == 2_025
    assert fixture.step(1, 2_025, idle=True) is None
    assert fixture.step(1, 1_025, idle=False) is None, "whatever ends idling ends it at once"


def test_the_leader_below_is_waited_for_until_the_timeout() -> None:
    fixture = Fixture()
    fixture.layer(1, 0, 2, 3)  # the leader of round 1 is authority 1
    assert fixture.step(2, 1_100) == 1_200
    assert fixture.step(2, 1_200) is None
    fixture.layer(1, 1)
    assert fixture.step(2, 1_100) is None


def test_a_suspected_or_equivocating_leader_isn_t_waited_for() -> None:
    fixture = Fixture()
    fixture.layer(1, 0, 2, 3)
    assert fixture.step(2, 1_100, equivocators=frozenset({1})) is None
    fixture.pacemaker.skipped(1)
    assert fixture.step(2, 1_100) is None
    fixture.pacemaker.seen_in_time(1)
    assert fixture.step(2, 1_100) == 1_200


def test_a_leader_skipped_again_and_again_must_be_in_time_for_more_rounds() -> None:
    pacemaker = Fixture().pacemaker
    owed = []
    for _ in range(8):
        pacemaker.skipped(1)
        times = 0
        while 1 in pacemaker.suspects:
            pacemaker.seen_in_time(1)
            times += 1
        owed.append(times)
    assert owed == [1, 2, 4, 8, 16, 32, 32, 32]
    for _ in range(5):
        pacemaker.committed(1)
    pacemaker.skipped(1)
    pacemaker.seen_in_time(1)
    pacemaker.seen_in_time(1)
    assert pacemaker.suspects == set(), "commits of its slots make up for skips"


def test_a_leader_that_jumped_over_the_round_isn_t_waited_for() -> None:
    fixture = Fixture()
    fixture.layer(1, 0, 2, 3)
    assert fixture.step(2, 1_100) == 1_200
    parents = [fixture.forge.genesis[1], *(fixture.forge.ref(1, author) for author in (0, 2, 3))]
    fixture.committer.add(fixture.graph.add(fixture.forge.vertex(2, 1, parents)))
    assert fixture.step(2, 1_100) is None


def test_an_author_that_jumped_over_the_round_won_t_vote() -> None:
    fixture = Fixture()
    fixture.layer(1, 0, 1, 2, 3)
    fixture.layer(2, 0, 2)
    parents = [fixture.forge.ref(1, author) for author in (3, 0, 2)]
    fixture.committer.add(fixture.graph.add(fixture.forge.vertex(2, 3, parents)))
    assert not fixture.committer.votes_settled(1), "author 1 may still make the quorum"
    above = [fixture.forge.ref(1, 1), *(fixture.forge.ref(2, author) for author in (0, 2, 3))]
    fixture.committer.add(fixture.graph.add(fixture.forge.vertex(3, 1, above)))
    assert fixture.committer.votes_settled(1)


def test_votes_for_the_slot_two_below_are_waited_for() -> None:
    fixture = Fixture()
    fixture.layer(1, 0, 1, 2, 3)
    # Round 2: its leader 2 and 0 vote for the leader of round 1, author 3 doesn't; author 1 may still make the quorum.
    fixture.layer(2, 0, 2)
    parents = [fixture.forge.ref(1, author) for author in (3, 0, 2)]
    fixture.committer.add(fixture.graph.add(fixture.forge.vertex(2, 3, parents)))
    assert not fixture.committer.votes_settled(1)
    assert fixture.step(3, 1_100) == 1_200
    fixture.layer(2, 1)
    assert fixture.committer.votes_settled(1)
    assert fixture.step(3, 1_100) is None


def test_votes_that_can_t_make_a_quorum_any_more_are_settled() -> None:
    fixture = Fixture()
    fixture.layer(1, 0, 1, 2, 3)
    fixture.layer(2, 2)
    for author in (0, 3):
        parents = [fixture.forge.ref(1, item) for item in (author, 2, 3 - author)]
        fixture.committer.add(fixture.graph.add(fixture.forge.vertex(2, author, parents)))
    assert fixture.committer.votes_settled(1)


def test_the_timeout_doubles_each_wave_without_a_commit_up_to_the_cap() -> None:
    pacemaker = Fixture().pacemaker
    timeouts = []
    for _ in range(21):
        timeouts.append(pacemaker.timeout_ms)
        pacemaker.proposed()
    assert timeouts[::3] == [200, 400, 800, 1_600, 3_200, 3_200, 3_200]
    pacemaker.committed(1)
    assert pacemaker.timeout_ms == 200
