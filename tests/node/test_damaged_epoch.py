"""A start on damaged vertices: an epoch that is over and merely served may be hurt, the running one may not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from consensus.dag.vertex import Vertex, decode_vertex
from consensus.parameters import Parameters
from mpisa.network.ports import PeerId
from mpisa.node.consensus_store import ConsensusStore, vertex_key
from mpisa.node.home import HomeLock
from mpisa.node.links import encode_refs
from mpisa.node.runtime import read_setup
from mpisa.node.serving import RangeRequest
from mpisa.node.upkeep import CONSENSUS, check
from mpisa.primitives import codec
from mpisa.primitives.errors import NotFound, Rejection, StoreDamaged
from mpisa.primitives.identifiers import Epoch, Height
from tests.node.cluster import key_of, until
from tests.node.validators import Town, town

ALICE = key_of("account 0")
VICTIM = 1
PARAMETERS = Parameters()
JUNK = b"\xc1 no vertex"
ENOUGH = 10
"""Transfers that fill several blocks of a table: what is hurt in the middle shares none with what isn't epoch 0's."""


def vertices_of(store: ConsensusStore, epoch: int) -> list[Vertex]:
    return [decode_vertex(raw, PARAMETERS) for raw in store.all_from(epoch, 0)]


def garble(store: ConsensusStore, epoch: int) -> None:
    """One vertex of the epoch can't be read."""
    hurt = vertices_of(store, epoch)[0]
    store.write([(vertex_key(epoch, hurt.round, hurt.author, hurt.id), JUNK)], sync=True)


def garble_proposal(store: ConsensusStore, epoch: int) -> None:
    """What this authority signed last in the epoch can't be read."""
    proposal = store.proposal(epoch)
    assert proposal is not None
    store.write([store.proposal_change(epoch, proposal[0], JUNK)], sync=True)


def lose(store: ConsensusStore, epoch: int) -> None:
    """All vertices of the epoch's first round are gone."""
    gone = [vertex for vertex in vertices_of(store, epoch) if vertex.round == 1]
    store.write([(vertex_key(epoch, vertex.round, vertex.author, vertex.id), None) for vertex in gone], sync=True)


def damage(made: Town, hurt: Callable[[ConsensusStore, int], None], *epochs: int) -> None:
    """To the stopped victim's vertices."""
    store = ConsensusStore(made.cluster.home(VICTIM) / "consensus")
    try:
        for epoch in epochs:
            hurt(store, epoch)
    finally:
        store.close()


def flip(made: Town, epoch: int) -> None:
    """A byte of each of some of the epoch's vertices, in the middle, wherever the disk has them."""
    place = made.cluster.home(VICTIM) / "consensus"
    store = ConsensusStore(place)  # opening it writes what the log holds out as a table
    try:
        raws = list(store.all_from(epoch, 0))
    finally:
        store.close()
    middle = len(raws) // 2
    hurt = 0
    for table in place.glob("*.ldb"):
        content = bytearray(table.read_bytes())
        for raw in raws[middle - 2 : middle + 3]:
            at = content.find(raw)
            while at >= 0:
                content[at + len(raw) // 2] ^= 0x20
                hurt += 1
                at = content.find(raw)
        table.write_bytes(content)
    assert hurt


async def in_two_epochs(made: Town, transfers: int = 1) -> None:
    """The victim stops where epoch 0 is over, and nothing of epoch 1 is certified yet: it has both open."""
    for nonce in range(transfers):
        await made.submit(made.cluster.transfer(ALICE, nonce))
    await made.submit(made.join(4))
    victim = made.cluster.nodes[VICTIM]
    await until(lambda: victim.status().epoch == 1, "epoch 1")
    await until(lambda: victim._running.vertices.proposal(1) is not None, "a vertex in epoch 1")
    assert set(victim._running.helm.committees) == {0, 1}
    await made.cluster.stop(VICTIM)


def findings(made: Town) -> list[str]:
    setup = read_setup(made.cluster.home(VICTIM))
    with HomeLock(setup.home):
        return [finding.store for finding in check(setup)]


async def goes_on(made: Town, transfers: int = 1) -> None:
    """The victim starts with epoch 1 alone, says so, gives nobody what it has of epoch 0, and takes part."""
    with capture_logs() as said:
        await made.cluster.start(VICTIM)
    (line,) = [item for item in said if item["event"].startswith("what is kept of an epoch that is over is damaged")]
    assert (line["log_level"], line["epoch"]) == ("error", 0)
    victim = made.cluster.nodes[VICTIM]
    runtime = victim._running
    assert set(runtime.helm.committees) == {1}
    peer = PeerId(made.cluster.genesis.validators[0].peer_id)
    held = next(iter(made.cluster.nodes[0]._running.vertices.all_from(0, 0)))
    refs = encode_refs(Epoch(0), [decode_vertex(held, PARAMETERS).ref])
    with pytest.raises(NotFound, match="none of these vertices is here"):
        await runtime.links._answer_ancestors(peer, refs)
    with pytest.raises(NotFound, match="the vertices of epoch 0 are damaged here"):
        await runtime.links._answer_range(peer, codec.encode((0, 1)))
    with pytest.raises(NotFound, match="no certificate or no vertices are kept here for the blocks from 1 on"):
        await runtime.providing._serving._answer(peer, RangeRequest(Height(1), 0, 1, 0).encode())
    assert victim.status().sitting_out is None
    proposed = victim.metrics()["vertices_proposed_total"]
    await made.submit(made.cluster.transfer(ALICE, transfers), through=VICTIM)
    await made.in_epoch(1)
    assert victim.metrics()["vertices_proposed_total"] > proposed
    assert await runtime.links._answer_range(peer, codec.encode((1, 1))) != codec.encode(())
    await made.level()
    await made.cluster.stop(0, 2, 3, 4)
    made.assert_no_double_signature()


@pytest.mark.parametrize("hurt", [garble, garble_proposal, lose])
async def test_a_served_epoch_may_be_damaged(tmp_path: Path, hurt: Callable[[ConsensusStore, int], None]) -> None:
    async with town(tmp_path, 4, 1) as made:
        await in_two_epochs(made)
        damage(made, hurt, 0)
        assert findings(made) == [CONSENSUS]
        await goes_on(made)
        await made.cluster.stop(VICTIM)
        assert findings(made) == [CONSENSUS], "it is over by now, and still reported"
        await made.cluster.start(VICTIM)
        assert made.cluster.nodes[VICTIM]._running.vertices.withheld.keys() == {0}


async def test_so_may_the_disk_under_it(tmp_path: Path) -> None:
    async with town(tmp_path, 4, 1) as made:
        await in_two_epochs(made, ENOUGH)
        flip(made, 0)
        assert findings(made) == [CONSENSUS]
        await goes_on(made, ENOUGH)


@pytest.mark.parametrize("epochs", [(1,), (0, 1)])
@pytest.mark.parametrize("hurt", [garble, garble_proposal])
async def test_the_running_epoch_may_not(
    tmp_path: Path, hurt: Callable[[ConsensusStore, int], None], epochs: tuple[int, ...]
) -> None:
    async with town(tmp_path, 4, 1) as made:
        await in_two_epochs(made)
        damage(made, hurt, *epochs)
        assert findings(made) == [CONSENSUS]
        with pytest.raises((Rejection, StoreDamaged)):
            await made.cluster.start(VICTIM)
        store = ConsensusStore(made.cluster.home(VICTIM) / "consensus")
        try:
            assert store.withheld == {}
        finally:
            store.close()
        del made.cluster.nodes[VICTIM]


def test_what_is_withheld_stays_when_others_are_forgotten(tmp_path: Path) -> None:
    store = ConsensusStore(tmp_path)
    changes = [store.vertex_change(epoch, number, 0, bytes(32), b"v") for epoch in range(4) for number in range(1, 6)]
    store.write(changes, sync=True)
    store.withhold(1, "a test")
    store.close()
    store = ConsensusStore(tmp_path)
    assert store.withheld == {1: "a test"}
    assert store.vertex(1, 1, 0, bytes(32)) is None
    assert store.vertex(2, 1, 0, bytes(32)) == b"v"
    steps = 0
    while store.prune(2, 3, 4):
        steps += 1
    assert steps == 3
    assert [len(list(store.all_from(epoch, 0))) for epoch in range(4)] == [0, 5, 2, 5]
    store.close()
