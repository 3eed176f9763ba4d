"""A run as a person reads it: the DAG as rounds by authorities with the verdict on each leader slot, and what happened
last.
"""

from consensus.dag.committee import Committee
from consensus.dag.vertex import Vertex
from mpisa.primitives.identifiers import Epoch
from tests.simulator.node import Node
from tests.simulator.world import World

ROUNDS = 24
LINES = 40


def picture(world: World, rounds: int = ROUNDS) -> str:
    """The last rounds of the last epoch. A cell shows an authority's vertices of the round: `o` one, `o o` twins, `.`
    none; `*` carries transactions, `!` evidence; `-13` says that it builds on nothing of authorities 1 and 3 in the
    round below. A `?` marks the Byzantine.
    """
    node = max(world.honest(), key=lambda item: max(item.commits, default=0))
    if node.engine is None:
        return "the node with most commits is down"
    epoch, committee = node.engine.epoch, node.engine.committee
    cells: dict[int, dict[int, list[Vertex]]] = {}
    for raw in {raw for item in world.honest() for raw in item.disk.of(epoch).raws.values()}:
        vertex = world.decode(raw)
        cells.setdefault(vertex.round, {}).setdefault(vertex.author, []).append(vertex)
    if not cells:
        return f"no vertex of epoch {epoch} was stored"
    last, count = max(cells), len(committee)
    names = [_name(world, committee, author) for author in range(count)]
    table = [["round", *names, f"verdicts of node {node.seat} in epoch {epoch}"]]
    for number in range(max(1, last - rounds + 1), last + 1):
        row = [_cell(cells.get(number, {}).get(author, []), count) for author in range(count)]
        table.append([str(number), *row, _verdicts(node, epoch, number)])
    widths = [max(len(row[column]) for row in table) for column in range(count + 1)]
    return "\n".join(_line(row, [*widths, 0]) for row in table)


def last_events(world: World, lines: int = LINES) -> str:
    """What happened last, one line each: time in ms, node, what."""
    return "\n".join(
        f"{now:>7} ms  {'network' if seat is None else f'node {seat}':<8} {text}"
        for now, seat, text in list(world.log)[-lines:]
    )


def divergence(world: World) -> str:
    """The first commit at which honest nodes differ, and what each of them has there."""
    chains = {node.seat: node.commits for node in world.honest()}
    for index in range(1, 1 + max((max(commits, default=0) for commits in chains.values()), default=0)):
        here = {seat: commits[index] for seat, commits in chains.items() if index in commits}
        if len({commit.digest for commit in here.values()}) > 1:
            lines = [f"commit {index} differs:"]
            for seat, commit in here.items():
                leader = commit.leader
                vertices = ", ".join(f"{item.round}/{item.author}" for item in commit.vertices)
                place = f"{leader.id.hex()[:8]} of round {leader.round} by {leader.author}, epoch {commit.epoch}"
                lines.append(f"  node {seat}: leader {place}; orders {vertices}")
            return "\n".join(lines)
    return "no two honest nodes differ at a commit"


def states(world: World) -> str:
    """Where each node stands."""
    lines = []
    for node in world.nodes:
        kind = next((name for seat, name in world.scenario.byzantine if seat == node.seat), "honest")
        if node.engine is None:
            what = f"its engine rests at height {node.disk.height}" if node.is_up else "down"
            lines.append(f"node {node.seat} ({kind}): {what}")
            continue
        status = node.engine.status()
        lines.append(
            f"node {node.seat} ({kind}): epoch {status.epoch}, round {status.round}, open {status.open_round}, "
            f"commits {len(node.commits)}, blocks {node.disk.lowest} to {node.disk.height}, "
            f"certified {max(node.certified, default=0)}, pending {status.pending}, "
            f"missing {status.missing}, evidence {list(status.evidence)}, suspects {list(status.suspects)}"
            + (f", sits out: {status.sitting_out}" if status.sitting_out else "")
            + (f", halted: {status.halted}" if status.halted else "")
        )
    return "\n".join(lines)


def _line(row: list[str], widths: list[int]) -> str:
    return "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True))


def _name(world: World, committee: Committee, author: int) -> str:
    seat = world.holders[committee[author].address]
    place = "" if seat == author else f" (node {seat})"
    return f"{author}{place}{'?' if world.nodes[seat].strategy.is_byzantine else ''}"


def _cell(vertices: list[Vertex], count: int) -> str:
    texts = []
    for vertex in vertices[:3]:
        below = {ref.author for ref in vertex.parents if ref.round == vertex.round - 1}
        lacking = "".join(str(author) for author in range(count) if author not in below)
        carries = ("*" if vertex.payload else "") + ("!" if vertex.evidence else "")
        texts.append("o" + carries + (f"-{lacking}" if lacking else ""))
    return " ".join(texts) + (f" +{len(vertices) - 3}" if len(vertices) > 3 else "") or "."


def _verdicts(node: Node, epoch: Epoch, number: int) -> str:
    """What the node decided of the round's leader slots, by the schedule that is in force now."""
    assert node.engine is not None
    commits = {commit.leader: index for index, commit in node.commits.items() if commit.epoch == epoch}
    last = max((leader.round for leader in commits), default=0)
    texts = []
    for leader in node.engine._current.engine._sequencer.committer.schedule.leaders(number):
        index = next((at for ref, at in commits.items() if (ref.round, ref.author) == (number, leader)), None)
        if index is not None:
            texts.append(f"{leader}: commit {index}")
        else:
            texts.append(f"{leader}: {'skip' if number < last else 'undecided'}")
    return ", ".join(texts)
