"""What a survey shows is what the commit rule decided, and each authority's part adds up."""

from consensus.dag.graph import Graph
from consensus.order.committer import Slot, Verdict
from consensus.survey import MAX_ROUNDS, look
from mpisa.primitives.identifiers import Epoch
from tests.consensus.forge import Forge
from tests.consensus.test_sequencer import history, sequencer


def test_verdicts_are_those_that_were_emitted_and_the_rest_is_not_final() -> None:
    forge = Forge((1,) * 7)
    vertices = history(forge, 3)
    graph = Graph(forge.committee)
    line = sequencer(forge, graph)
    emitted: dict[Slot, bytes | None] = {}
    for at, vertex in enumerate(vertices):
        line.add(graph.add(vertex))
        for step in line.advance():
            emitted[step.slot] = None if step.commit is None else step.commit.leader.id
        if at % 40 != 39:
            continue
        survey = look(Epoch(0), forge.committee, graph, line, (), (), 20)
        shown = {Slot(item.number, slot.number): slot for item in survey.rounds for slot in item.slots}
        for slot, found in shown.items():
            if slot in emitted:
                expected = Verdict.SKIP if emitted[slot] is None else Verdict.COMMIT
                assert (found.verdict, found.vertex, found.final) == (expected, emitted[slot], True), slot
            else:
                assert not found.final or line.rota.suspended, slot
        assert len(survey.rounds) == min(20, graph.highest_round - graph.pruned_round)


def test_parts_count_what_an_authority_did() -> None:
    forge = Forge()
    graph = Graph(forge.committee)
    line = sequencer(forge, graph)
    for number in range(1, 9):
        for author in (0, 1, 2):  # authority 3 is silent
            below = [(number - 1, other) for other in (0, 1, 2)] if number > 1 else [(0, other) for other in range(4)]
            own = (number - 1, author)
            parents = [forge.ref(*own), *(forge.ref(*place) for place in below if place != own)]
            line.add(graph.add(forge.vertex(number, author, parents, payload=b"12345" if author == 1 else b"")))
    line.advance()
    survey = look(Epoch(5), forge.committee, graph, line, {3}, {2}, MAX_ROUNDS)
    assert (survey.epoch, survey.gc_round, [item.number for item in survey.rounds]) == (5, 0, list(range(1, 9)))
    slots = [slot for item in survey.rounds for slot in item.slots]
    for part in survey.parts:
        led = [slot for slot in slots if slot.authority == part.authority]
        assert part.led == len(led)
        assert part.committed == sum(slot.verdict is Verdict.COMMIT for slot in led)
        assert part.skipped == sum(slot.verdict is Verdict.SKIP for slot in led)
    silent = survey.parts[3]
    assert (silent.last_round, silent.last_ms, silent.vertices, silent.asked, silent.voted) == (0, None, 0, 0, 0)
    assert (silent.suspect, silent.equivocator, silent.committed, silent.skipped > 0) == (True, False, 0, True)
    assert survey.parts[2].equivocator
    busy = survey.parts[1]
    assert (busy.last_round, busy.vertices, busy.suspect) == (8, 8, False)
    assert busy.asked == sum(len(item.slots) for item in survey.rounds[:-1])
    assert busy.voted == sum(slot.authority != 3 for item in survey.rounds[:-1] for slot in item.slots)
    shown = survey.rounds[3].vertices
    assert [(vertex.author, vertex.payload_bytes, len(vertex.parents)) for vertex in shown] == [
        (0, 0, 3),
        (1, 5, 3),
        (2, 0, 3),
    ]
    assert look(Epoch(5), forge.committee, graph, line, (), (), 2).rounds == survey.rounds[-2:]
