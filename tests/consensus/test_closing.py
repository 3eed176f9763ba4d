"""Which own payloads come back at the end of an epoch: each that no executed commit took, once."""

from dataclasses import replace

from consensus.closing import Closing
from consensus.dag.vertex import Vertex
from mpisa.primitives.digest import ZERO_DIGEST
from mpisa.primitives.header import Header
from mpisa.primitives.identifiers import Epoch, Height
from tests.consensus.forge import Forge

CLOSING = Header(
    chain_hash=ZERO_DIGEST,
    height=Height(1),
    time_ms=1,
    epoch=Epoch(0),
    first_commit=1,
    last_commit=7,
    previous=ZERO_DIGEST,
    commit_digest=ZERO_DIGEST,
    window_root=ZERO_DIGEST,
    tx_root=ZERO_DIGEST,
    receipts_root=ZERO_DIGEST,
    state_root=ZERO_DIGEST,
    validators_hash=ZERO_DIGEST,
    next_validators_hash=bytes([1]) * 32,
)


def sent(count: int) -> tuple[Closing, list[Vertex]]:
    """So many own vertices, the later ones sent first, each with a payload of its own."""
    forge, closing = Forge(), Closing()
    vertices = []
    for number in range(1, count + 1):
        layer = [forge.vertex(number, author, payload=b"%d of %d" % (number, author)) for author in range(4)]
        vertices.append(layer[0])
    for vertex in reversed(vertices):
        closing.sent(vertex)
    return closing, vertices


def loads(vertices: list[Vertex]) -> list[tuple[int, bytes]]:
    return [(vertex.round, vertex.payload) for vertex in vertices]


def test_what_no_commit_took_comes_back_once_ascending_by_round() -> None:
    closing, vertices = sent(3)
    assert closing.close(CLOSING) == loads(vertices)
    assert closing.close(CLOSING) == []
    assert closing.drop(vertices[0].id) == []


def test_what_the_closing_commit_took_does_not_come_back_and_what_a_void_one_took_does() -> None:
    closing, vertices = sent(3)
    closing.committed(vertices[0].id, CLOSING.last_commit)
    closing.committed(vertices[1].id, CLOSING.last_commit + 1)
    assert closing.close(CLOSING) == loads(vertices[1:])


def test_what_is_ordered_is_remembered_until_it_is_executed() -> None:
    closing, vertices = sent(2)
    closing.committed(vertices[0].id, 4)
    closing.committed(vertices[1].id, 5)
    closing.executed(4)
    assert closing.close(replace(CLOSING, last_commit=4)) == loads(vertices[1:])


def test_a_vertex_that_will_never_be_committed_gives_its_payload_back() -> None:
    closing, vertices = sent(2)
    assert closing.drop(vertices[0].id) == loads(vertices[:1])
    assert closing.drop(vertices[0].id) == []
    assert closing.close(CLOSING) == loads(vertices[1:])
