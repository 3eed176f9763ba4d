"""Which vertices enter the graph: ancestors, false references, twins and their budget, the GC round."""

from consensus.dag.admission import Admission
from consensus.dag.graph import Graph
from consensus.dag.vertex import Vertex, VertexRef
from consensus.parameters import Parameters
from mpisa.primitives.identifiers import AuthorityIndex, Round
from tests.consensus.forge import NOW, Forge

A0 = AuthorityIndex(0)


def gate(forge: Forge, parameters: Parameters | None = None, pruned: int = 0) -> tuple[Admission, Graph]:
    graph = Graph(forge.committee)
    graph.prune(pruned)
    return Admission(parameters or Parameters(), forge.committee, graph, forge.genesis, A0), graph


def take(admission: Admission, vertex: Vertex) -> list[bytes]:
    return [node.id for node in admission.receive(vertex, vertex.author, NOW)]


def test_ancestors_first_in_any_order_of_arrival() -> None:
    forge = Forge()
    admission, _ = gate(forge)
    low = forge.layer(1, (1, 2, 3))
    high = forge.vertex(2, 1)
    top = forge.layer(2, (2, 3)) and forge.vertex(3, 2)
    assert take(admission, top) == []
    assert take(admission, high) == []
    for vertex in low[:2]:
        assert take(admission, vertex) == [vertex.id]
    assert take(admission, low[2]) == [low[2].id, high.id]
    assert take(admission, high) == [], "once"


def test_a_reference_is_checked_once_its_vertex_is_held() -> None:
    forge = Forge()
    admission, _ = gate(forge)
    for vertex in forge.layer(1, (1, 2, 3)):
        take(admission, vertex)
    true = forge.ref(1, 2)
    lie = VertexRef(true.round, AuthorityIndex(0), true.id)
    bad = forge.vertex(2, 1, [forge.ref(1, 1), lie, forge.ref(1, 3)], keep=False)
    assert take(admission, bad) == []
    [(author, rejection)] = admission.faults
    assert author == 1
    assert str(rejection) == (
        f"bad-parents: vertex {bad.id.hex()} parents[1]: expected round 1 and author 2, got 1 and 0"
    )


def test_a_false_genesis_is_a_fault() -> None:
    forge = Forge()
    admission, graph = gate(forge)
    false = VertexRef(Round(0), AuthorityIndex(3), bytes(32))
    assert take(admission, forge.vertex(1, 1, [*(forge.genesis[author] for author in (1, 0, 2)), false])) == []
    assert len(admission.faults) == 1
    assert len(graph) == 0


def test_at_or_below_the_gc_round_a_reference_is_taken_unread() -> None:
    forge = Forge()
    forge.layer(1, range(4))
    forge.layer(2, range(4))
    admission, graph = gate(forge, pruned=2)
    unknown = VertexRef(Round(2), AuthorityIndex(3), bytes(32))
    vertex = forge.vertex(3, 1, [forge.ref(2, 1), forge.ref(2, 0), forge.ref(2, 2), unknown])
    assert take(admission, vertex) == [vertex.id]
    assert take(admission, forge.made[2, 1]) == [], "too old to matter"
    assert len(graph) == 1


def test_a_moving_gc_round_frees_what_waited_below_it() -> None:
    forge = Forge()
    forge.layer(1, range(4))
    admission, graph = gate(forge)
    vertex = forge.vertex(2, 1)
    assert take(admission, vertex) == []
    graph.prune(1)
    assert [node.id for node in admission.prune(1, NOW)] == [vertex.id]


def twins(forge: Forge, number: int, author: int, count: int) -> list[Vertex]:
    first = forge.vertex(number, author)
    return [first, *(forge.vertex(number, author, payload=bytes([mark]), keep=False) for mark in range(1, count))]


def test_the_first_twin_is_kept_and_the_other_is_evidence() -> None:
    forge = Forge()
    admission, graph = gate(forge)
    first, second = twins(forge, 1, 1, 2)
    assert take(admission, first) == [first.id]
    assert take(admission, second) == []
    assert [(item.subject.author, item.subject.position) for item in admission.found] == [(1, 1)]
    assert admission.equivocators == {1}
    assert take(admission, second) == []
    assert len(admission.found) == 1, "one piece an author"
    assert [node.id for node in graph.at(1, 1)] == [first.id]


def test_a_twin_that_another_builds_on_is_needed() -> None:
    forge = Forge()
    admission, graph = gate(forge)
    first, second = twins(forge, 1, 1, 2)
    others = forge.layer(1, (0, 2, 3))
    for vertex in (first, *others):
        take(admission, vertex)
    builder = forge.vertex(2, 2, [forge.ref(1, 2), second.ref, forge.ref(1, 3)])
    assert take(admission, builder) == []
    assert admission.pending.is_missing(second.id)
    assert take(admission, second) == [second.id, builder.id]
    assert [node.id for node in graph.at(1, 1)] == [first.id, second.id]


def test_for_an_equivocator_alone_nothing_is_fetched() -> None:
    forge = Forge()
    admission, _ = gate(forge)
    first, second = twins(forge, 1, 1, 2)
    for vertex in (first, second, *forge.layer(1, (0, 2, 3))):
        take(admission, vertex)
    unknown = VertexRef(Round(1), AuthorityIndex(2), bytes(32))
    take(admission, forge.vertex(2, 1, [second.ref, unknown, forge.ref(1, 3)]))
    assert (len(admission.pending), admission.pending.missing_count) == (0, 0)


def fetch_all(admission: Admission, store: dict[bytes, Vertex], now: int) -> int:
    """Answer every question for as long as answers bring anything; the time then."""
    progressed = now
    while now < progressed + 10_000:
        at = admission.pending.next_due(now)
        if at is None:
            break
        now = at
        for ref in [ref for _, refs in admission.pending.due(now) for ref in refs]:
            if ref.id in store:
                before = len(admission.pending)
                if admission.receive(store[ref.id], ref.author, now) or len(admission.pending) != before:
                    progressed = now
    return now


def test_a_fork_bomb_over_the_whole_window_stays_within_the_budget() -> None:
    """Two equivocators of seven whose twins reference each other's distinct twins, and an honest author on top."""
    forge = Forge((1,) * 7)
    admission, graph = gate(forge, Parameters(twin_budget=1))
    honest = range(2, 7)
    below: dict[int, list[VertexRef]] = {author: [forge.genesis[author]] for author in range(7)}
    store: dict[bytes, Vertex] = {}
    for number in range(1, 61):
        layer: dict[int, list[VertexRef]] = {}
        for author in range(7):
            copies = 40 if author < 2 and number > 1 else 1
            for copy in range(copies):
                spread = (copy + 5) % len(below[0])
                other = below[1 - author][spread] if author < 2 else below[0][0]
                parents = [below[author][copy % len(below[author])]]
                parents += [other] if other.author != author else []
                parents += [below[item][0] for item in honest if item != author]
                vertex = forge.vertex(number, author, parents, payload=bytes([copy]), keep=False)
                store[vertex.id] = vertex
                layer.setdefault(author, []).append(vertex.ref)
        below = layer
    top = [
        forge.vertex(
            61, author, [below[author][0], below[0][mark], *(below[item][0] for item in honest if item != author)]
        )
        for mark, author in enumerate(honest)
    ]
    for vertex in top:
        take(admission, vertex)
    fetch_all(admission, store, NOW)
    budget = 1 << 2  # two equivocators are known
    per_round = [len(graph.at(number, author)) for number in range(1, 62) for author in (0, 1)]
    assert admission.equivocators == {0, 1}
    assert 3 <= max(per_round) <= 1 + len(honest) * budget < 40
    assert len(graph) + len(admission.pending) <= 61 * (2 * (1 + len(honest) * budget) + 5)


def private_branches(forge: Forge, rounds: int, honest: range, store: dict[bytes, Vertex]) -> dict[int, list[Vertex]]:
    """For each honest author a chain of equivocator 1 that nobody else is shown, each vertex of it on a chain of
    equivocator 0 of its own, down to round 1.
    """
    for number in range(1, rounds + 1):
        for author in honest:
            own = forge.ref(number - 1, author)
            vertex = forge.vertex(number, author, [own, *(forge.ref(number - 1, o) for o in honest if o != author)])
            store[vertex.id] = vertex

    def make(number: int, author: int, own: VertexRef, extra: list[VertexRef], mark: bytes) -> Vertex:
        parents = [own, *(forge.ref(number - 1, other) for other in honest), *extra]
        vertex = forge.vertex(number, author, parents, payload=mark, keep=False)
        store[vertex.id] = vertex
        return vertex

    branches: dict[int, list[Vertex]] = {}
    for victim in honest:
        last = forge.genesis[1]
        for number in range(1, rounds + 1):
            below = forge.genesis[0]
            for lower in range(1, number):
                below = make(lower, 0, below, [], b"%d %d %d" % (victim, number, lower)).ref
            vertex = make(number, 1, last, [below] if number > 1 else [], b"%d %d" % (victim, number))
            last = vertex.ref
            branches.setdefault(victim, []).append(vertex)
    return branches


def test_what_each_honest_author_was_tricked_into_building_on_all_others_take() -> None:
    """Each of five is shown a branch of its own by the two equivocators before any evidence comes, builds on as much of
    it as it takes, and tells the others: a bound a round that all share would be full of other twins at each of them.
    """
    forge = Forge((1,) * 7)
    honest, rounds = range(2, 7), 12
    store: dict[bytes, Vertex] = {}
    branches = private_branches(forge, rounds, honest, store)
    views = {author: gate(forge) for author in honest}
    now = NOW
    for author, (admission, graph) in views.items():
        for vertex in sorted((forge.made[n, a] for n in range(1, rounds + 1) for a in honest), key=lambda v: v.ref):
            take(admission, vertex)
        for vertex in branches[author]:
            admission.receive(vertex, vertex.author, now)
            fetch_all(admission, store, now)
        assert admission.equivocators == {0}
        deepest = graph.at(graph.latest_round(1), 1)[0]
        others = [forge.ref(rounds, other) for other in honest if other != author]
        built = forge.vertex(rounds + 1, author, [forge.ref(rounds, author), *others, deepest.ref])
        store[built.id] = built
    for admission, graph in views.values():
        for author in honest:
            admission.receive(forge.made[rounds + 1, author], AuthorityIndex(author), now)
            now = fetch_all(admission, store, now)
        assert all(forge.made[rounds + 1, author].id in graph for author in honest)
        assert admission.equivocators == {0, 1}
        most = max(len(graph.at(number, author)) for number in range(1, rounds + 1) for author in (0, 1))
        assert most <= 1 + len(honest) * (Parameters().twin_budget << 2)


def test_all_twins_together_are_bounded() -> None:
    forge = Forge()
    admission, graph = gate(forge, Parameters(twin_budget=8, max_twins=3))
    for vertex in forge.layer(1, (0, 2, 3)):
        take(admission, vertex)
    made = twins(forge, 1, 1, 6)
    take(admission, made[0])
    for position, twin in enumerate(made[1:]):
        others = [forge.ref(1, other) for other in (0, 3)]
        builder = forge.vertex(2, 2, [forge.ref(1, 2), twin.ref, *others], payload=bytes([position]), keep=False)
        admission.pending.add(forge.vertex(3, 3, [forge.ref(1, 3)], keep=False), [builder.ref], A0, NOW)
        take(admission, builder)
        take(admission, twin)
    assert len(graph.at(1, 1)) == 1 + 3


def test_a_vertex_of_the_future_is_held_until_our_clock_passes_it_or_others_vouch_for_it() -> None:
    forge = Forge()
    admission, graph = gate(forge)
    early = forge.vertex(1, 1, timestamp_ms=NOW + 50)
    assert take(admission, early) == []
    assert len(admission.held) == 1
    assert [node.id for node in admission.wake(NOW + 49)] == []
    assert [node.id for node in admission.wake(NOW + 50)] == [early.id]
    far = forge.vertex(1, 2, timestamp_ms=NOW + 60_000)
    for vertex in (far, *forge.layer(1, (0, 3))):
        take(admission, vertex)
    assert far.id not in graph
    builders = [forge.vertex(2, author) for author in (0, 3)]
    take(admission, builders[0])
    assert far.id not in graph, "one author alone may have a clock that is ahead"
    take(admission, builders[1])
    assert far.id in graph
