"""Answers to questions for ancestors: what was asked, what else the asker lacks, and every bound."""

from consensus.dag.pushing import ANSWER_BYTES, MAX_PUSHED, PUSHED_ROUNDS, answer_ancestors
from consensus.dag.vertex import VertexRef, decode_vertex, encode_vertex
from consensus.parameters import Parameters
from mpisa.primitives.identifiers import AuthorityIndex, Round
from tests.consensus.forge import Forge

PARAMETERS = Parameters()


class Store:
    """What the answering node holds."""

    def __init__(self, forge: Forge) -> None:
        self.raws = {vertex.ref: encode_vertex(vertex) for vertex in forge.made.values()}
        self.asked = 0

    def lookup(self, ref: VertexRef) -> bytes | None:
        self.asked += 1
        return self.raws.get(ref)


def grown(rounds: int, size: int = 4, payload: bytes = b"") -> Forge:
    forge = Forge((1,) * size)
    for number in range(1, rounds + 1):
        for author in range(size):
            forge.vertex(number, author, payload=payload)
    return forge


def answer(store: Store, refs: list[VertexRef], have: list[int]) -> list[tuple[int, int]]:
    raws = answer_ancestors(refs, have, store.lookup, PARAMETERS)
    made = [decode_vertex(raw, PARAMETERS) for raw in raws]
    return [(vertex.round, vertex.author) for vertex in made]


def test_what_the_asker_lacks_comes_along_ancestors_first() -> None:
    forge = grown(6)
    assert answer(Store(forge), [forge.ref(6, 1)], [4, 5, 5, 3]) == [(4, 3), (5, 0), (5, 3), (6, 1)]


def test_an_asker_that_names_no_rounds_gets_what_it_asked_for() -> None:
    forge = grown(6)
    assert answer(Store(forge), [forge.ref(6, 1), forge.ref(5, 2)], []) == [(5, 2), (6, 1)]


def test_what_isn_t_here_is_left_out_and_nothing_comes_for_it() -> None:
    forge = grown(3)
    unknown = VertexRef(Round(3), AuthorityIndex(1), bytes(32))
    assert answer(Store(forge), [unknown], [0] * 4) == []
    assert answer(Store(forge), [unknown, forge.ref(1, 2)], [0] * 4) == [(1, 2)]


def test_pushed_vertices_are_bounded_nearest_first() -> None:
    forge = grown(40, 7)
    store = Store(forge)
    found = answer(store, [forge.ref(40, 0)], [0] * 7)
    assert len(found) == 1 + MAX_PUSHED
    assert min(found)[0] == 40 - 1 - MAX_PUSHED // 7
    assert store.asked <= 1 + MAX_PUSHED + 7


def test_pushed_rounds_are_bounded() -> None:
    forge = grown(40, 1)
    found = answer(Store(forge), [forge.ref(40, 0)], [0])
    assert found == [(number, 0) for number in range(40 - PUSHED_ROUNDS + 1, 41)]


def test_bytes_are_bounded() -> None:
    payload = bytes(PARAMETERS.max_payload_bytes)
    forge = grown(5, 4, payload)
    raws = answer_ancestors([forge.ref(5, 0)], [0] * 4, Store(forge).lookup, PARAMETERS)
    assert ANSWER_BYTES <= sum(len(raw) for raw in raws) < ANSWER_BYTES + PARAMETERS.max_vertex_bytes
