"""A start with one epoch served and the next one open: each is told of before anything of it."""

from consensus import events as e
from consensus.dag.judging import Era, ListedEras
from consensus.dag.vertex import Vertex
from consensus.identity import Identity
from consensus.order.epoch import EpochStart
from consensus.parameters import Parameters
from consensus.succession import Succession
from mpisa.primitives.identifiers import Epoch, Height
from tests.consensus.forge import NOW, Forge
from tests.simulator.world import ANCHOR, CHAIN_HASH


def twins(epoch: int) -> tuple[Vertex, ...]:
    forge = Forge()
    return tuple(forge.vertex(1, 2, payload=payload, epoch=epoch) for payload in (b"one", b"other"))


def started(*stored: tuple[Vertex, ...]) -> tuple[Succession, list[e.Effect]]:
    """Epochs 0 and 1 with these vertices in the store."""
    forge = Forge()
    vertex_key, header_key = forge.keys[0]
    later = EpochStart(Epoch(1), forge.committee, ANCHOR, 0, Height(1))
    first, second = stored
    earlier = ListedEras({Epoch(0): Era(forge.committee, 1, later.height)})
    epochs = [
        (forge.start, e.StoredEpoch(vertices=first)),
        (later, e.StoredEpoch(vertices=second, earlier=earlier)),
    ]
    identity = Identity((header_key.public_key.address,), (vertex_key,))
    succession = Succession(Parameters(), CHAIN_HASH, identity, epochs)
    return succession, succession.start(NOW)


def test_each_epoch_is_opened_before_what_its_store_shows() -> None:
    _, effects = started(twins(0), twins(1))
    found = [(effect.epoch, effect.author) for effect in effects if isinstance(effect, e.EvidenceFound)]
    assert found == [(0, 2), (1, 2)]
    for epoch in (0, 1):
        of_it = [effect for effect in effects if getattr(effect, "epoch", None) == epoch]
        assert isinstance(of_it[0], e.EpochOpened)


def test_evidence_in_the_store_of_the_epoch_before_is_carried_on() -> None:
    """An engine with something to carry isn't idle."""
    assert started((), ())[0].status().idle
    assert not started(twins(0), ())[0].status().idle
