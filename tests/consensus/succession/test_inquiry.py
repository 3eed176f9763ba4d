"""An authority without a proposal asks the others before it signs: its disk may be lost."""

from consensus.events import Broadcast, EpochOpened, RangeEnded, RequestPayload, RequestRange, StoredEpoch
from consensus.inquiry import Inquiry
from consensus.order.epoch import start_behind
from consensus.parameters import Parameters
from consensus.succession import Succession
from mpisa.primitives.identifiers import AuthorityIndex
from tests.consensus.forge import Forge, of_kind
from tests.consensus.succession.town import Town, committee, identity

PARAMETERS = Parameters(idle_delay_ms=0, first_proposal_delay_ms=0, range_rounds=10, fetch_timeout_ms=100)
A0, A1, A2, A3 = (AuthorityIndex(index) for index in range(4))
NOW = 1_000_000


def test_it_is_done_with_a_quorum_itself_counted() -> None:
    inquiry = Inquiry(PARAMETERS, Forge().committee, A0)
    assert inquiry.due(NOW) == [(A1, 1), (A2, 1), (A3, 1)]
    assert inquiry.answered(A1, 0) is None
    assert not inquiry.is_done
    assert inquiry.answered(A1, 0) is None, "twice is still one"
    assert not inquiry.is_done
    assert inquiry.answered(A3, 4) is None
    assert inquiry.is_done
    assert inquiry.due(NOW + 10_000) == []


def test_a_long_answer_is_asked_on_for() -> None:
    inquiry = Inquiry(PARAMETERS, Forge().committee, A0)
    assert inquiry.answered(A1, 9) is None
    inquiry = Inquiry(PARAMETERS, Forge().committee, A0)
    assert inquiry.answered(A1, 10) == 10
    assert inquiry.answered(A1, 19) == 19
    assert inquiry.answered(A1, 27) is None


def test_it_asks_again_with_growing_patience() -> None:
    inquiry = Inquiry(PARAMETERS, Forge().committee, A0)
    assert len(inquiry.due(NOW)) == 3
    assert (inquiry.next_ms, inquiry.due(NOW + 99)) == (NOW + 100, [])
    inquiry.answered(A2, 0)
    assert inquiry.due(NOW + 100) == [(A1, 1), (A3, 1)]
    assert inquiry.next_ms == NOW + 300


def test_nothing_is_signed_before_and_a_lone_validator_asks_nobody() -> None:
    town = Town({0: (0,), 1: (1,), 2: (2,), 3: (3,)}, committee(0, 1, 2, 3), {})
    start = start_behind(town.genesis, town.first)
    seat = identity(0).seat_in(town.first)
    assert seat is not None
    alone = Town({0: (0,)}, committee(0), {})
    one = Succession(
        PARAMETERS, alone.genesis.chain_hash, identity(0), [(start_behind(alone.genesis, alone.first), StoredEpoch())]
    )
    assert len(of_kind([*one.start(NOW), *one.handle(RangeEnded(A0), NOW + 50)], RequestPayload)) == 1
    node = Succession(PARAMETERS, town.genesis.chain_hash, identity(0), [(start, StoredEpoch())])
    effects = node.start(NOW)
    others = [index for index in range(4) if index != seat.index]
    assert of_kind(effects, RequestRange) == [RequestRange(AuthorityIndex(index), 1) for index in others]
    assert len(of_kind(effects, EpochOpened)) == 1
    assert of_kind(node.handle(RangeEnded(AuthorityIndex(others[0])), NOW + 50), RequestPayload) == []
    assert len(of_kind(node.handle(RangeEnded(AuthorityIndex(others[1])), NOW + 60), RequestPayload)) == 1


def test_an_answer_with_an_own_vertex_means_a_lost_disk() -> None:
    town = Town({index: (index,) for index in range(4)}, committee(0, 1, 2, 3), {}, PARAMETERS).boot()
    town.run(1_000)
    citizen = town.citizens[2]
    citizen.crash()
    citizen.disk = type(citizen.disk)()
    citizen.boot()
    town.run(3_000)
    assert citizen.running.sitting_out is not None
    town.check()


def test_a_restart_with_a_proposal_asks_nobody() -> None:
    town = Town({index: (index,) for index in range(4)}, committee(0, 1, 2, 3), {}, PARAMETERS).boot()
    town.run(1_000)
    citizen = town.citizens[2]
    citizen.crash()
    citizen.effects.clear()
    citizen.boot()
    assert of_kind(citizen.effects, RequestRange) == []
    assert len(of_kind(citizen.effects, Broadcast)) == 1
