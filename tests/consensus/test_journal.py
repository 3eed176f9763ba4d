"""What is on the disk before a block's cursor can be."""

from consensus.dag.vertex import Vertex
from consensus.events import BlockBoundary, CommittedSubDag, Effect, Persist, VertexRecord
from consensus.journal import Journal
from mpisa.primitives.identifiers import Epoch, Height
from tests.consensus.forge import NOW, Forge, raw_of

BOUNDARY = BlockBoundary(1, Height(1))


def commit(index: int, vertex: Vertex, block: BlockBoundary | None) -> CommittedSubDag:
    return CommittedSubDag(index, vertex.ref, (vertex,), NOW, b"", b"", Epoch(0), block, b"")


def record(vertex: Vertex) -> VertexRecord:
    return VertexRecord(vertex.round, vertex.author, vertex.id, raw_of(vertex), Epoch(0))


def test_a_block_waits_for_the_vertices_of_commits_that_made_none() -> None:
    """Its cursor goes past them too, and the leaders of one round needn't have each other for ancestors."""
    forge = Forge()
    synced, late = forge.layer(1, (0, 1))
    journal = Journal(100, Epoch(0))
    effects: list[Effect] = []
    journal.accepted(synced)
    journal.flush(effects, sync=True)
    journal.accepted(late)
    journal.committed(effects, commit(1, late, None))
    journal.committed(effects, commit(2, synced, BOUNDARY))
    journal.committed(effects, commit(3, synced, BOUNDARY))
    assert effects == [
        Persist((record(synced),), sync=True),
        Persist((record(late),), sync=False),
        Persist((), sync=True),
    ]
