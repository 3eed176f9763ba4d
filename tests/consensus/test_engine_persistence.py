"""Persist before broadcast, and what a restart does with what was persisted."""

import pytest

from consensus.dag.vertex import Vertex, VertexRef, decode_vertex
from consensus.engine import Engine
from consensus.events import (
    Broadcast,
    Commit,
    CommittedSubDag,
    Effect,
    Persist,
    ProposalRecord,
    RequestPayload,
    StoredEpoch,
    VertexRecord,
)
from consensus.parameters import Parameters
from mpisa.primitives.errors import Rejection, StoreDamaged
from tests.consensus.forge import NOW, Forge, of_kind, propose, receive, receive_all
from tests.simulator.world import CHAIN_HASH

PARAMETERS = Parameters(idle_delay_ms=0, first_proposal_delay_ms=0)


class Machine:
    """An engine with a store, driven by hand."""

    def __init__(self, forge: Forge, engine: Engine | None = None) -> None:
        self.forge = forge
        self.engine = engine or forge.engine(0, PARAMETERS)
        self.records: dict[VertexRef, bytes] = {}
        self.proposal: ProposalRecord | None = None
        self.sent: list[bytes] = []
        self.commits: list[CommittedSubDag] = []
        self.now = NOW

    def keep(self, effects: list[Effect]) -> list[Effect]:
        for effect in effects:
            match effect:
                case Persist():
                    for record in effect.records:
                        if isinstance(record, VertexRecord):
                            self.records[VertexRef(record.round, record.author, record.id)] = record.raw
                        else:
                            self.proposal = record
                case Broadcast():
                    self.sent.append(effect.raw)
                case Commit():
                    self.commits.append(effect.commit)
        return effects

    def start(self) -> list[Effect]:
        return self.keep(self.engine.start(self.now))

    def round(self, number: int, payload: bytes = b"", authors: tuple[int, ...] = (1, 2, 3)) -> list[Effect]:
        """Our vertex of the round, then the others'."""
        self.now += 300
        effects = self.keep(propose(self.engine, self.now, payload))
        own = decode_vertex(self.sent[-1], PARAMETERS)
        assert own.round == number
        self.forge.made[number, 0] = own
        made = [self.forge.vertex(number, author, payload=payload, timestamp_ms=self.now) for author in authors]
        return effects + self.keep(receive_all(self.engine, made, self.now))

    def vertices(self) -> list[Vertex]:
        return [decode_vertex(raw, PARAMETERS) for raw in self.records.values()]

    def first_cursor(self) -> bytes:
        """That of the first block."""
        return next(commit.cursor for commit in self.commits if commit.block is not None)

    def restart(self, cursor: bytes | None = None) -> "Machine":
        """Another machine from the same store."""
        engine = Engine(
            PARAMETERS,
            CHAIN_HASH,
            self.forge.start,
            self.forge.seat(),
            StoredEpoch(cursor, self.vertices(), self.proposal),
        )
        other = Machine(self.forge, engine)
        other.records, other.proposal, other.now = dict(self.records), self.proposal, self.now + 1_000
        return other


def test_one_synced_batch_precedes_the_first_byte() -> None:
    machine = Machine(Forge())
    machine.start()
    machine.round(1)
    effects = machine.round(2)
    names = [type(effect).__name__ for effect in effects]
    place = names.index("Broadcast")
    batch = effects[place - 1]
    assert isinstance(batch, Persist)
    assert batch.sync
    own = decode_vertex(machine.sent[-1], PARAMETERS)
    assert batch.records[-1] == ProposalRecord(own.round, machine.sent[-1])
    stored = {VertexRef(item.round, item.author, item.id) for item in batch.records if isinstance(item, VertexRecord)}
    assert stored == {own.ref, *own.parents} - {machine.forge.made[1, 0].ref}, "itself and its parents, in one batch"
    assert set(own.parents) <= set(machine.records)


def test_every_broadcast_is_preceded_by_its_own_persist() -> None:
    machine = Machine(Forge())
    effects = machine.start()
    for number in range(1, 12):
        effects += machine.round(number)
    durable: set[bytes] = set()
    for effect in effects:
        if isinstance(effect, Persist) and effect.sync:
            durable |= {item.raw for item in effect.records if isinstance(item, ProposalRecord)}
        elif isinstance(effect, Broadcast):
            assert effect.raw in durable
    assert len(machine.sent) == 11


def test_a_restart_sends_the_identical_bytes_and_proposes_higher_rounds_only() -> None:
    machine = Machine(Forge())
    machine.start()
    for number in range(1, 6):
        machine.round(number, b"payload")
    again = machine.restart()
    effects = again.start()
    assert of_kind(effects, Broadcast) == [Broadcast(machine.sent[-1])]
    again.round(6)
    assert [decode_vertex(raw, PARAMETERS).round for raw in again.sent] == [5, 6]
    own = decode_vertex(again.sent[-1], PARAMETERS)
    assert own.parents[0] == decode_vertex(machine.sent[-1], PARAMETERS).ref


def test_a_restart_before_the_others_answered_proposes_nothing_new() -> None:
    machine = Machine(Forge())
    machine.start()
    machine.round(1, authors=())
    again = machine.restart()
    again.start()
    effects = propose(again.engine, again.now + 5_000)
    assert of_kind(effects, RequestPayload) == []
    assert again.sent == machine.sent


def test_commits_behind_the_cursor_come_again_and_are_the_same() -> None:
    machine = Machine(Forge())
    machine.start()
    for number in range(1, 15):
        machine.round(number, b"payload")
    closing = [commit for commit in machine.commits if commit.block is not None]
    assert len(closing) > 8
    for commit in closing:
        again = machine.restart(commit.cursor)
        again.start()
        assert again.commits == machine.commits[commit.index :]
    fresh = machine.restart()
    fresh.start()
    assert fresh.commits == machine.commits


def test_what_a_block_builds_on_is_synced_before_its_commit() -> None:
    """A follower proposes nothing, so only the commit itself makes it sync."""
    forge = Forge()
    engine = forge.engine(None, PARAMETERS)
    engine.start(NOW)
    effects: list[Effect] = []
    for number in range(1, 6):
        made = [forge.vertex(number, author, payload=b"x") for author in range(4)]
        effects += receive_all(engine, made)
    synced: set[bytes] = set()
    waiting: set[bytes] = set()
    blocks = 0
    for effect in effects:
        if isinstance(effect, Persist):
            waiting |= {item.id for item in effect.records if isinstance(item, VertexRecord)}
            if effect.sync:
                synced |= waiting
        elif isinstance(effect, Commit) and effect.commit.block is not None:
            assert {vertex.id for vertex in effect.commit.vertices} <= synced
            blocks += 1
    assert blocks >= 4


def test_what_a_store_holds_after_a_restart_is_synced_before_a_block_builds_on_it() -> None:
    """It was written without a sync, perhaps; the crash since took nothing, but the next one may."""
    machine = Machine(Forge())
    machine.start()
    for number in range(1, 8):
        machine.round(number, b"payload")
    effects = machine.restart(machine.first_cursor()).start()
    kinds = [type(effect) for effect in effects if isinstance(effect, Persist | Commit)]
    assert kinds[:2] == [Persist, Commit]
    [batch] = of_kind(effects, Persist)
    assert batch == Persist((), sync=True), "once for all of it"


def test_a_store_that_lost_executed_vertices_is_refused() -> None:
    machine = Machine(Forge())
    machine.start()
    for number in range(1, 8):
        machine.round(number, b"payload")
    last = machine.commits[-1]
    del machine.records[last.leader]
    with pytest.raises(
        StoreDamaged, match=f"lacks vertex {last.leader.id.hex()} of round {last.leader.round}"
    ) as caught:
        machine.restart(last.cursor)
    assert "mpisa node repair" in (caught.value.hint or "")


def test_a_cursor_of_another_history_is_refused() -> None:
    machine = Machine(Forge())
    machine.start()
    for number in range(1, 8):
        machine.round(number, b"payload")
    cursor = machine.commits[-1].cursor
    damaged = cursor.replace(machine.commits[-1].window_root, bytes(32))
    with pytest.raises(StoreDamaged, match="committed window"):
        machine.restart(damaged)
    with pytest.raises(Rejection):
        machine.restart(cursor[:-1])


def test_vertices_lost_behind_the_cursor_are_fetched_again() -> None:
    machine = Machine(Forge())
    machine.start()
    for number in range(1, 8):
        machine.round(number, b"payload")
    lost = machine.forge.ref(7, 2)
    machine.records.pop(lost, None)
    again = machine.restart(machine.first_cursor())
    again.start()
    receive(again.engine, machine.forge.vertex(8, 1), again.now)
    assert again.engine.status().missing > 0
    receive_all(again.engine, [machine.forge.made[7, author] for author in (1, 2, 3)], again.now)
    assert again.engine.status().missing == 0


def test_much_that_is_unpersisted_is_flushed() -> None:
    forge = Forge()
    engine = forge.engine(None, Parameters(max_unpersisted=4))
    engine.start(NOW)
    effects = receive_all(engine, forge.layer(1, range(4)))
    [batch] = of_kind(effects, Persist)
    assert (len(batch.records), batch.sync) == (4, False)


def test_a_proposal_without_its_vertex_in_the_store_is_gone_on_from() -> None:
    """The record of the last proposal is enough: the next vertex builds on it."""
    machine = Machine(Forge())
    machine.start()
    machine.round(1)
    machine.round(2)
    last = decode_vertex(machine.sent[-1], PARAMETERS)
    del machine.records[last.ref]
    after = machine.restart()
    after.start()
    assert after.sent == [machine.sent[-1]]
    after.keep(receive_all(after.engine, [machine.forge.made[2, author] for author in (1, 2, 3)], after.now))
    after.round(3)
    assert decode_vertex(after.sent[-1], PARAMETERS).parents[0] == last.ref
