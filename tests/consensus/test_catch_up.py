"""Far behind: what counts as far, one range at a time, another source when nothing comes."""

from consensus.catch_up import CatchUp
from consensus.events import RequestRange
from consensus.parameters import Parameters
from mpisa.primitives.identifiers import AuthorityIndex
from tests.consensus.forge import Forge

PARAMETERS = Parameters(far_behind_rounds=20, range_rounds=100, range_timeout_ms=1_000)


def machine(powers: tuple[int, ...] = (1, 1, 1, 1)) -> CatchUp:
    return CatchUp(PARAMETERS, Forge(powers).committee, AuthorityIndex(0))


def test_one_liar_makes_nobody_behind() -> None:
    catch_up = machine()
    catch_up.note(1, 10**9)
    assert catch_up.known_round == 0
    assert not catch_up.is_behind(1)
    catch_up.note(2, 500)
    assert catch_up.known_round == 500
    assert catch_up.is_behind(479)
    assert not catch_up.is_behind(480)


def test_ranges_are_asked_one_at_a_time() -> None:
    catch_up = machine()
    assert catch_up.due(1, 0, 0) is None
    assert catch_up.next_due() is None
    catch_up.note(2, 500)
    assert catch_up.due(1, 0, 0) == RequestRange(2, 1)
    assert catch_up.due(1, 0, 999) is None
    assert catch_up.due(50, 10, 999) is None, "under way"
    assert catch_up.due(101, 41, 999) == RequestRange(2, 100), "the range came whole: the next at once"


def test_a_silent_source_is_replaced() -> None:
    catch_up = machine()
    for author in (1, 2, 3):
        catch_up.note(author, 500 + author)
    asked = []
    for now in (0, 1_000, 2_000, 3_000):
        request = catch_up.due(1, 0, now)
        assert request is not None
        asked.append(int(request.to))
    assert asked == [3, 2, 1, 3]


def test_progress_keeps_the_source() -> None:
    catch_up = machine()
    catch_up.note(3, 500)
    assert catch_up.due(1, 0, 0) is not None
    catch_up.progressed(900)
    assert catch_up.due(5, 0, 1_500) is None
    assert catch_up.next_due() == 1_900


def test_an_answer_that_ends_early_is_followed_up_if_it_brought_something() -> None:
    catch_up = machine()
    catch_up.note(3, 500)
    assert catch_up.due(1, 0, 0) == RequestRange(3, 1)
    catch_up.ended(3, 2)
    assert catch_up.due(2, 0, 10) is None, "it brought nothing: only the timeout asks again"
    catch_up.ended(3, 40)
    assert catch_up.due(40, 0, 20) == RequestRange(3, 39)


def test_it_asks_only_above_the_gc_round_and_ends_when_near() -> None:
    catch_up = machine()
    catch_up.note(3, 500)
    assert catch_up.due(200, 250, 0) == RequestRange(3, 251)
    assert catch_up.due(480, 420, 5_000) is None
    assert catch_up.next_due() is None


def test_the_end_of_another_answer_than_the_one_asked_for_changes_nothing() -> None:
    catch_up = machine()
    catch_up.note(3, 500)
    assert catch_up.due(1, 0, 0) == RequestRange(3, 1)
    catch_up.ended(2, 40)
    assert catch_up.due(40, 0, 10) is None


def test_it_never_asks_itself() -> None:
    """Whoever lost its disk hears of own vertices far above."""
    catch_up = machine()
    catch_up.note(0, 600)
    assert catch_up.due(1, 0, 0) is None
    catch_up.note(2, 500)
    assert catch_up.due(1, 0, 0) == RequestRange(2, 1)


def test_the_rest_of_an_epoch_is_asked_from_each_in_turn_and_not_more_often_than_ranges() -> None:
    catch_up = machine()
    asked = []
    for now in (0, 1_000, 2_000, 3_000):
        catch_up.want_rest()
        asked.append(catch_up.due(30, 10, now))
        catch_up.want_rest()
        assert catch_up.due(30, 10, now + 999) is None
    assert asked == [RequestRange(AuthorityIndex(author), 29) for author in (1, 2, 3, 1)]


def test_who_brings_more_of_the_rest_is_asked_on_at_once() -> None:
    catch_up = machine()
    catch_up.want_rest()
    assert catch_up.due(30, 10, 0) == RequestRange(1, 29)
    catch_up.ended(1, 60)
    assert catch_up.due(60, 40, 1) == RequestRange(1, 59)
    catch_up.ended(1, 60)
    assert catch_up.due(60, 40, 2) is None, "there is no more of it"
