"""Idling: rounds are delayed while there is nothing to do, and go on at once when there is."""

from consensus.dag.vertex import ExecutionSignature, decode_vertex
from consensus.engine import Engine
from consensus.events import (
    Broadcast,
    BroadcastSignature,
    Effect,
    Executed,
    ExecutionSignatureReceived,
    PayloadProvided,
    PayloadWaiting,
    RequestPayload,
    TimerFired,
    TimerKind,
)
from consensus.parameters import Parameters
from mpisa.primitives.header import header_hash
from mpisa.primitives.identifiers import AuthorityIndex, Height, Round
from tests.consensus.forge import NOW, Forge, of_kind, propose, receive, receive_all, timer
from tests.consensus.test_certifier import header, signature

PARAMETERS = Parameters(first_proposal_delay_ms=0)


def idle_engine(forge: Forge) -> tuple[Engine, list[Effect]]:
    """Round 1 is complete at NOW + 1,025; round 2 is open and nothing is to do."""
    engine = forge.engine(0, PARAMETERS)
    engine.start(NOW)
    [sent] = of_kind(propose(engine, NOW + 1_025), Broadcast)
    forge.made[1, 0] = decode_vertex(sent.raw, PARAMETERS)
    return engine, receive_all(engine, forge.layer(1, (1, 2, 3)), NOW + 1_025)


def test_an_idle_engine_asks_for_one_late_timer() -> None:
    engine, effects = idle_engine(Forge())
    assert timer(effects, TimerKind.ROUND) == NOW + 1_025 + 1_025
    assert of_kind(engine.handle(TimerFired(TimerKind.ROUND), NOW + 2_049), RequestPayload) == []
    assert of_kind(engine.handle(TimerFired(TimerKind.ROUND), NOW + 2_050), RequestPayload) == [RequestPayload(2)]


def test_a_waiting_payload_ends_it_at_once() -> None:
    engine, _ = idle_engine(Forge())
    assert of_kind(engine.handle(PayloadWaiting(), NOW + 1_100), RequestPayload) == [RequestPayload(2)]


def test_an_uncommitted_payload_of_another_ends_it_at_once() -> None:
    forge = Forge()
    engine, _ = idle_engine(forge)
    effects = receive(engine, forge.vertex(2, 1, payload=b"x"), NOW + 1_100)
    assert of_kind(effects, RequestPayload) == [RequestPayload(2)]


def test_an_uncertified_header_ends_it_and_its_certificate_restores_it() -> None:
    engine, _ = idle_engine(Forge())
    made = header(1)
    own = signature(1, 0).signature
    effects = engine.handle(Executed(Height(1), header_hash(made), own, made), NOW + 1_060)
    assert of_kind(effects, RequestPayload) == [RequestPayload(2)]
    assert not engine.status().idle
    for authority in (1, 2):
        pushed = ExecutionSignatureReceived(AuthorityIndex(authority), signature(1, authority))
        engine.handle(pushed, NOW + 1_060)
    assert engine.status().idle
    assert engine.status().certified_height == 1


def test_a_certificate_that_never_comes_stops_counting_as_work() -> None:
    forge = Forge()
    engine = forge.engine(0, Parameters(first_proposal_delay_ms=0, certify_patience_rounds=3))
    engine.start(NOW)
    made = header(1)
    engine.handle(Executed(Height(1), header_hash(made), signature(1, 0).signature, made), NOW)
    busy = []
    for number in range(1, 8):
        now = NOW + 2_000 * number
        [sent] = of_kind(propose(engine, now), Broadcast)
        forge.made[number, 0] = decode_vertex(sent.raw, PARAMETERS)
        receive_all(engine, forge.layer(number, (1, 2, 3)), now)
        busy.append(not engine.status().idle)
    assert busy == [True, True, True, False, False, False, False]


def test_a_signature_pushed_by_another_is_ignored() -> None:
    engine, _ = idle_engine(Forge())
    made = header(1)
    engine.handle(Executed(Height(1), header_hash(made), signature(1, 0).signature, made), NOW + 1_060)
    for authority in (1, 2, 3):
        engine.handle(ExecutionSignatureReceived(AuthorityIndex(0), signature(1, authority)), NOW + 1_060)
    assert engine.status().certified_height == 0


def test_execution_signatures_travel_in_the_next_vertex() -> None:
    forge = Forge()
    engine, _ = idle_engine(forge)
    made = header(1)
    own = ExecutionSignature(Height(1), header_hash(made), AuthorityIndex(0), signature(1, 0).signature)
    engine.handle(Executed(own.height, own.header_hash, own.signature, made), NOW + 1_030)
    [sent] = of_kind(propose(engine, NOW + 1_100), Broadcast)
    assert decode_vertex(sent.raw, PARAMETERS).header.execution_signatures == (own,)
    receive(engine, forge.vertex(2, 1, signatures=(signature(1, 1),)), NOW + 1_110)
    assert engine.status().certified_height == 0
    receive(engine, forge.vertex(2, 2, signatures=(signature(1, 2),)), NOW + 1_110)
    assert engine.status().certified_height == 1


def test_a_signature_is_pushed_unless_a_vertex_is_about_to_carry_it() -> None:
    engine, _ = idle_engine(Forge())
    first, second = header(1), header(2)
    effects = engine.handle(Executed(Height(1), header_hash(first), signature(1, 0).signature, first), NOW + 1_030)
    assert [item.signature.height for item in of_kind(effects, BroadcastSignature)] == [1], "nothing else is to do"
    engine.handle(PayloadWaiting(), NOW + 1_040)
    effects = engine.handle(Executed(Height(2), header_hash(second), signature(2, 0).signature, second), NOW + 1_050)
    assert of_kind(effects, BroadcastSignature) == []
    [sent] = of_kind(engine.handle(PayloadProvided(Round(2), b"x"), NOW + 1_060), Broadcast)
    carried = decode_vertex(sent.raw, PARAMETERS).header.execution_signatures
    assert [item.height for item in carried] == [1, 2]


def test_the_last_vertex_is_sent_again_while_nothing_moves() -> None:
    forge = Forge()
    engine = forge.engine(0, PARAMETERS)
    engine.start(NOW)
    effects = propose(engine, NOW + 1_025)
    [first] = of_kind(effects, Broadcast)
    times = []
    for _ in range(4):
        at = timer(effects, TimerKind.RESEND)
        assert at is not None
        effects = engine.handle(TimerFired(TimerKind.RESEND), at)
        assert of_kind(effects, Broadcast) == [first]
        times.append(at - NOW - 1_025)
    assert times == [1_400, 3_200, 5_800, 10_000], "idle delay, plus twice the timeout, doubling"
