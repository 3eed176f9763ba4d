"""Pending vertices: who is asked for what and when, and every bound."""

from itertools import pairwise

from consensus.dag.pending import Pending
from consensus.dag.vertex import Vertex, VertexRef
from consensus.parameters import Parameters
from mpisa.primitives.identifiers import AuthorityIndex, Round
from tests.consensus.forge import Forge

A0, A1, A2, A3 = (AuthorityIndex(index) for index in range(4))
QUICK = Parameters(fetch_delay_ms=40, fetch_timeout_ms=100, fetch_timeout_cap_ms=400)


def waiting(forge: Forge, author: int, number: int = 2) -> Vertex:
    return forge.vertex(number, author, keep=False)


def lost(author: int, number: int = 1, mark: int = 0) -> VertexRef:
    return VertexRef(Round(number), AuthorityIndex(author), bytes([author, mark]) * 16)


def prepared() -> tuple[Forge, Pending]:
    forge = Forge()
    forge.layer(1, range(4))
    return forge, Pending(QUICK, 4, A0)


def test_a_round_trip_passes_before_anyone_is_asked() -> None:
    forge, pending = prepared()
    assert pending.add(waiting(forge, 2), [lost(3)], A1, 1_000)
    assert pending.due(1_039) == []
    assert pending.next_due(1_000) == 1_040
    assert pending.due(1_040) == [(A1, (lost(3),))]


def test_then_authors_that_reference_it_then_everyone_in_turn() -> None:
    forge, pending = prepared()
    pending.add(waiting(forge, 2), [lost(3)], A1, 0)
    pending.add(waiting(forge, 3), [lost(3)], A1, 0)
    asked = []
    now = 40
    while len(asked) < 7:
        for target, refs in pending.due(now):
            assert refs == (lost(3),)
            asked.append(int(target))
        now = pending.next_due(now) or 0
    assert asked[:3] == [1, 2, 3]
    assert set(asked[3:]) == {1, 2, 3}, "never ourselves"


def test_an_answer_that_it_isn_t_there_moves_on_at_once() -> None:
    forge, pending = prepared()
    pending.add(waiting(forge, 2), [lost(3)], A1, 0)
    assert pending.due(40) == [(A1, (lost(3),))]
    pending.unavailable([lost(3)], A3, 41)
    assert pending.due(41) == [], "it wasn't asked from that one"
    pending.unavailable([lost(3)], A1, 42)
    assert pending.due(42) == [(A2, (lost(3),))]


def test_when_nobody_has_it_questions_keep_their_patience() -> None:
    forge, pending = prepared()
    pending.add(waiting(forge, 2), [lost(3)], A1, 0)
    now, times = 40, []
    while len(times) < 8:
        for target, refs in pending.due(now):
            times.append(now)
            pending.unavailable(refs, target, now)
        now = pending.next_due(now) or 0
    assert times[:4] == [40, 41, 42, 43], "each of the others at once, once"
    assert all(later - earlier >= 100 for earlier, later in pairwise(times[3:]))


def test_whoever_was_silent_is_asked_last_until_what_it_was_asked_for_comes() -> None:
    forge, pending = prepared()
    pending.add(waiting(forge, 2), [lost(3)], A1, 0)
    assert pending.due(40) == [(A1, (lost(3),))]
    assert pending.due(140) == [(A2, (lost(3),))], "the first let the timeout pass"
    pending.add(waiting(forge, 3), [lost(2)], A1, 140)
    assert pending.due(180) == [(A3, (lost(2),))], "the sender is known to be silent"


def test_a_source_that_turns_up_is_asked_while_another_keeps_silent() -> None:
    forge, pending = prepared()
    pending.add(waiting(forge, 2), [lost(3)], A1, 0)
    assert pending.due(40) == [(A1, (lost(3),))]
    pending.add(waiting(forge, 3), [lost(3)], A3, 50)
    assert pending.due(89) == []
    assert pending.due(90) == [(A2, (lost(3),))], "long before the timeout at 140"


def test_whoever_builds_on_it_is_asked_again_whatever_it_answered_before() -> None:
    forge, pending = prepared()
    pending.add(waiting(forge, 2), [lost(3)], A1, 0)
    now = 40
    while now < 5_000:
        for target, refs in pending.due(now):
            pending.unavailable(refs, target, now)
        now = pending.next_due(now) or 0
    before = now - 300
    pending.add(waiting(forge, 3), [lost(3)], A3, before)
    assert pending.next_due(before) == before + 40, "not when its patience of 400 ms is over"
    assert pending.due(before + 40) == [(A3, (lost(3),))]


def test_a_flood_doesn_t_hold_up_what_another_needs_too() -> None:
    """Author 1 has its one place in flight taken; what author 2 waits for as well flies in author 2's place."""
    forge = Forge()
    forge.layer(1, range(4))
    pending = Pending(Parameters(max_in_flight=4, fetch_delay_ms=0, fetch_timeout_ms=100), 4, A0)
    for mark in range(4):
        pending.add(forge.vertex(2, 1, payload=bytes([mark]), keep=False), [lost(3, 1, mark)], A1, 0)
    assert pending.due(0) == [(A1, (lost(3, 1, 0),))]
    assert pending.due(5) == []
    pending.add(waiting(forge, 2), [lost(3, 1, 3)], A2, 10)
    assert pending.due(10) == [(A1, (lost(3, 1, 3),))]


def test_what_arrives_sets_free_what_waited_for_it() -> None:
    forge, pending = prepared()
    first, second = waiting(forge, 2), waiting(forge, 3)
    pending.add(first, [lost(1), lost(3)], A2, 0)
    pending.add(second, [lost(3)], A3, 0)
    assert pending.resolve(lost(3).id) == [second]
    assert pending.resolve(lost(3).id) == []
    assert pending.resolve(lost(1).id) == [first]
    assert (len(pending), pending.missing_count) == (0, 0)


def test_requests_in_flight_and_in_one_message_are_capped() -> None:
    forge = Forge()
    forge.layer(1, range(4))
    parameters = Parameters(max_in_flight=20, max_refs_a_request=2, fetch_delay_ms=0, fetch_timeout_ms=100)
    pending = Pending(parameters, 4, A0)
    refs = [lost(3, 1, mark) for mark in range(8)]
    pending.add(waiting(forge, 2), refs, A1, 0)
    requests = pending.due(0)
    assert [len(items) for _, items in requests] == [2, 2, 1]
    assert pending.due(1) == []
    assert pending.next_due(1) == 100, "a full flight waits for an answer or a timeout"
    pending.resolve(requests[0][1][0].id)
    assert [len(items) for _, items in pending.due(2)] == [1]


def test_those_that_got_no_answer_go_behind_those_that_were_never_asked() -> None:
    forge = Forge()
    forge.layer(1, range(4))
    pending = Pending(Parameters(max_in_flight=8, fetch_delay_ms=0, fetch_timeout_ms=100), 4, A0)
    refs = [lost(3, 1, mark) for mark in range(5)]
    pending.add(waiting(forge, 2), refs, A1, 0)
    flights = [sorted(ref for _, items in pending.due(now) for ref in items) for now in (0, 100, 200)]
    assert flights == [refs[:2], refs[2:4], [refs[0], refs[4]]]


def test_a_flood_of_unknown_parents_leaves_the_others_their_place_in_flight() -> None:
    """One author's vertices name thousands of ancestors that nobody has; another's lacks one that exists."""
    forge = Forge()
    forge.layer(1, range(4))
    parameters = Parameters(max_in_flight=40, max_missing=400, fetch_delay_ms=0, fetch_timeout_ms=100)
    pending = Pending(parameters, 4, A0)
    taken = 0
    for mark in range(200):
        made = forge.vertex(2, 3, payload=mark.to_bytes(2, "big"), keep=False)
        bogus = [
            VertexRef(Round(1), AuthorityIndex(author), bytes([author]) + mark.to_bytes(31, "big"))
            for author in range(4)
        ]
        taken += pending.add(made, bogus, A3, 0)
    assert (taken, pending.missing_count) == (25, 100), "its share of what may be missing"
    assert pending.add(waiting(forge, 2), [lost(1, 1, 9)], A2, 0)
    asked = [ref for _, refs in pending.due(0) for ref in refs]
    assert len(asked) == 11, "its share in flight, and the other author's one"
    assert lost(1, 1, 9) in asked


def test_what_waits_costs_nothing_while_nothing_is_due() -> None:
    forge = Forge()
    forge.layer(1, range(4))
    pending = Pending(Parameters(), 4, A0)
    for author in (1, 2, 3):
        for mark in range(500):
            made = forge.vertex(2, author, payload=mark.to_bytes(2, "big"), keep=False)
            refs = [VertexRef(Round(1), A0, bytes([author, other]) + mark.to_bytes(30, "big")) for other in range(4)]
            assert pending.add(made, refs, A1, 0)
    pending.due(40)
    steps = 0

    class Counted(list[tuple[int, VertexRef]]):
        def __getitem__(self, item: object) -> object:  # type: ignore[override]
            nonlocal steps
            steps += 1
            return super().__getitem__(item)  # type: ignore[call-overload]

    pending._queue = Counted(pending._queue)
    for now in range(41, 141):
        assert pending.due(now) == []
        pending.next_due(now)
    assert steps <= 400


def test_an_author_has_its_share_of_the_room_and_no_more() -> None:
    forge = Forge()
    forge.layer(1, range(4))
    pending = Pending(Parameters(max_pending=8), 4, A0)
    made = [forge.vertex(2, 1, payload=bytes([mark]), keep=False) for mark in range(3)]
    assert [pending.add(vertex, [lost(3)], A1, 0) for vertex in made] == [True, True, False]
    assert pending.add(waiting(forge, 2), [lost(3)], A2, 0)
    assert len(pending) == 3


def test_bytes_are_bounded() -> None:
    forge = Forge()
    forge.layer(1, range(4))
    size = len(forge.vertex(2, 1, payload=bytes(100), keep=False).header_bytes) + 100
    pending = Pending(Parameters(max_pending_bytes=4 * size), 4, A0)
    assert pending.add(forge.vertex(2, 1, payload=bytes(100), keep=False), [lost(3)], A1, 0)
    assert not pending.add(forge.vertex(2, 1, payload=bytes(200), keep=False), [lost(3)], A2, 0)
    assert pending.add(waiting(forge, 2), [lost(3)], A2, 0), "another author has its own share"
    pending.resolve(lost(3).id)
    assert pending.add(forge.vertex(2, 1, payload=bytes(1 << 20), keep=False), [lost(3)], A2, 0), "one always fits"


def test_below_the_gc_round_nothing_is_waited_for() -> None:
    forge, pending = prepared()
    kept, gone = waiting(forge, 2), forge.vertex(1, 3, keep=False)
    pending.add(kept, [lost(3), gone.ref], A2, 0)
    pending.add(gone, [lost(3, 0)], A3, 0)
    ready, dropped = pending.prune(1)
    assert (ready, dropped) == ([kept], [gone])
    assert (len(pending), pending.missing_count) == (0, 0)


def test_what_is_here_or_held_isn_t_asked_for() -> None:
    forge, pending = prepared()
    low = waiting(forge, 2)
    pending.add(low, [lost(3)], A2, 0)
    pending.add(forge.vertex(3, 1, [forge.ref(1, 1)], keep=False), [low.ref], A1, 0)
    assert pending.due(40, {lost(3).id}) == []
    assert pending.due(440) == [(A2, (lost(3),))]
