"""Replaying a described DAG through the real commit rule: `mpisa chain decide` (docs/protocol.md, sections 6 and 7).

A case is the form of tests/vectors/commit_rule.json: authorities and stakes, a leader schedule or none (round robin),
the vertices with ids and parents by id (g0, g1, ... are genesis), and where to resume. Vertices may come in any
order. The answer has the form of that file's `expect`. Only what the rule itself relies on is demanded of a case;
that parents make a quorum or begin with the author's own isn't, so that odd DAGs can be examined too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from consensus.dag.committee import Authority, Committee
from consensus.dag.graph import Graph, Node
from consensus.dag.vertex import FIRST_EPOCH, Vertex, VertexHeader, VertexRef
from consensus.order.committer import Committer, Decision, Slot, Verdict, conflicts_after
from consensus.order.epoch import EpochStart
from consensus.order.leader import LeaderSchedule, Listed, RoundRobin
from consensus.order.linearizer import Linearizer
from consensus.parameters import MAX_AUTHORITIES
from mpisa.primitives.digest import ZERO_DIGEST
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.identifiers import Address, AuthorityIndex, Epoch, Round

MAX_CASE_VERTICES: Final = 200_000
MAX_CASE_ROUND: Final = 100_000
MAX_ID_LENGTH: Final = 128
MAX_STAKE: Final = 1 << 63
DEFAULT_GC_DEPTH: Final = 60
DEFAULT_LEADERS: Final = 1


@dataclass(frozen=True, slots=True)
class Case:
    """A case of the commit rule; vertices by ascending round."""

    committee: Committee
    schedule: LeaderSchedule
    gc_depth: int
    resume_after: Slot | None
    vertices: tuple[Vertex, ...]


def decide_case(case: Mapping[str, Any]) -> dict[str, Any]:
    """{"decisions": [...], "commits": [...]} of a case, or {"halt": [id, id]}: two certified vertices in one slot.

    Raises Rejection naming the place in the case that can't be understood, and why.
    """
    read = read_case(case)
    graph = Graph(read.committee)
    committer = Committer(read.committee, read.schedule, graph)
    for vertex in read.vertices:
        committer.add(graph.add(vertex))
    conflicts = conflicts_after(committer, read.resume_after)
    if conflicts:
        return {"halt": [identifier.decode() for identifier in conflicts[0].vertices]}
    start = EpochStart(FIRST_EPOCH, read.committee, ZERO_DIGEST, 0)
    linearizer = Linearizer(graph, read.committee, read.gc_depth, 0, 1, start.checkpoint)
    if read.resume_after is not None:
        for decision in committer.decide(None):
            if decision.slot <= read.resume_after:
                _take(linearizer, decision)
    decisions = committer.decide(read.resume_after)
    commits = [taken for decision in decisions if (taken := _take(linearizer, decision)) is not None]
    return {"decisions": [_show(decision) for decision in decisions], "commits": commits}


def _take(linearizer: Linearizer, decision: Decision) -> dict[str, Any] | None:
    """Order a decision's vertices, if it is a commit."""
    leader = decision.node
    if decision.verdict is not Verdict.COMMIT or leader is None:
        return None
    nodes = linearizer.order(leader)
    linearizer.checkpoint = replace(linearizer.checkpoint, leaders=(leader.ref,))
    return {"leader": _name(leader), "vertices": [_name(node) for node in nodes]}


def _show(decision: Decision) -> dict[str, Any]:
    return {
        "round": decision.slot.round,
        "slot": decision.slot.number,
        "authority": decision.authority,
        "verdict": decision.verdict.value,
        "vertex": None if decision.node is None else _name(decision.node),
    }


def _name(node: Node) -> str:
    return node.id.decode()


def read_case(case: object) -> Case:
    """The case, checked. Raises Rejection naming the place that can't be understood, and why."""
    fields = _mapping(case, "case")
    count = _integer(_field(fields, "authorities", "case"), "authorities", 1, MAX_AUTHORITIES)
    committee = _read_committee(fields, count)
    vertices = _read_vertices(_field(fields, "vertices", "case"), count)
    return Case(
        committee=committee,
        schedule=_read_schedule(fields, count),
        gc_depth=_integer(fields.get("gc_depth", DEFAULT_GC_DEPTH), "gc_depth", 0, MAX_STAKE),
        resume_after=_read_resume(fields.get("resume_after")),
        vertices=vertices,
    )


def _read_committee(fields: Mapping[str, Any], count: int) -> Committee:
    stakes = fields.get("stakes")
    powers = [1] * count if stakes is None else _sequence(stakes, "stakes", count)
    if len(powers) != count:
        raise _malformed(f"stakes: expected {count}, one an authority, got {len(powers)}")
    return Committee(
        [
            Authority(
                AuthorityIndex(index),
                Address(index.to_bytes(20, "big")),
                _integer(power, f"stakes[{index}]", 1, MAX_STAKE),
                b"",
            )
            for index, power in enumerate(powers)
        ]
    )


def _read_schedule(fields: Mapping[str, Any], count: int) -> LeaderSchedule:
    slots = _integer(fields.get("leaders_per_round", DEFAULT_LEADERS), "leaders_per_round", 1, MAX_AUTHORITIES)
    leaders = fields.get("leaders")
    if leaders is None:
        return RoundRobin(count, slots)
    rounds: list[list[int]] = []
    for position, row in enumerate(_sequence(leaders, "leaders", MAX_CASE_ROUND)):
        where = f"leaders[{position}]"
        chosen = [
            _integer(item, f"{where}[{index}]", 0, count - 1) for index, item in enumerate(_sequence(row, where, count))
        ]
        if len(set(chosen)) != len(chosen):
            raise _malformed(f"{where}: an authority has two slots of one round: {chosen}")
        if len(chosen) > slots:
            raise _malformed(f"{where}: expected at most leaders_per_round = {slots}, got {len(chosen)}")
        rounds.append(chosen)
    return Listed(rounds)


def _read_resume(value: object) -> Slot | None:
    """None, {"round": r, "slot": k} (further keys of a decision are allowed), or [r, k]."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        where = "resume_after"
        round_number, index = _field(value, "round", where), _field(value, "slot", where)
    else:
        pair = _sequence(value, "resume_after", 2)
        if len(pair) != 2:
            raise _malformed(f"resume_after: expected [round, slot], got {len(pair)} items")
        round_number, index = pair
    return Slot(
        _integer(round_number, "resume_after.round", 0, MAX_CASE_ROUND),
        _integer(index, "resume_after.slot", 0, MAX_AUTHORITIES - 1),
    )


@dataclass(frozen=True, slots=True)
class _Entry:
    where: str
    ref: VertexRef
    parents: Sequence[Any]


def _read_vertices(value: object, count: int) -> tuple[Vertex, ...]:
    """The vertices by ascending round, their order otherwise kept: parents come first, whatever the input's order."""
    known = {f"g{index}": VertexRef(Round(0), AuthorityIndex(index), b"g%d" % index) for index in range(count)}
    entries: list[_Entry] = []
    for position, item in enumerate(_sequence(value, "vertices", MAX_CASE_VERTICES)):
        where = f"vertices[{position}]"
        fields = _mapping(item, where)
        identifier = _identifier(_field(fields, "id", where), f"{where}.id")
        if identifier in known:
            raise Rejection(RejectionReason.DUPLICATE, f"{where}.id: {identifier!r} is taken")
        ref = VertexRef(
            Round(_integer(_field(fields, "round", where), f"{where}.round", 1, MAX_CASE_ROUND)),
            AuthorityIndex(_integer(_field(fields, "author", where), f"{where}.author", 0, count - 1)),
            identifier.encode(),
        )
        known[identifier] = ref
        entries.append(_Entry(where, ref, _sequence(_field(fields, "parents", where), f"{where}.parents", count)))
    entries.sort(key=lambda entry: entry.ref.round)
    return tuple(_vertex(entry, known) for entry in entries)


def _vertex(entry: _Entry, known: Mapping[str, VertexRef]) -> Vertex:
    parents: list[VertexRef] = []
    authors: set[int] = set()
    for position, item in enumerate(entry.parents):
        where = f"{entry.where}.parents[{position}]"
        identifier = _identifier(item, where)
        parent = known.get(identifier)
        if parent is None:
            raise Rejection(RejectionReason.UNKNOWN_PARENT, f"{where}: no vertex has the id {identifier!r}")
        if parent.round >= entry.ref.round:
            raise Rejection(
                RejectionReason.BAD_PARENTS,
                f"{where}: expected a round below {entry.ref.round}, {identifier!r} has {parent.round}",
            )
        if parent.author in authors:
            raise Rejection(
                RejectionReason.BAD_PARENTS, f"{where}: author {parent.author} already is among the parents"
            )
        authors.add(parent.author)
        parents.append(parent)
    header = VertexHeader(
        chain_hash=ZERO_DIGEST,
        epoch=Epoch(0),
        round=entry.ref.round,
        author=entry.ref.author,
        timestamp_ms=0,
        parents=tuple(parents),
        payload_root=ZERO_DIGEST,
        payload_length=0,
        execution_signatures=(),
        evidence_root=ZERO_DIGEST,
    )
    return Vertex(header, b"", b"", (), entry.ref.id)


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _malformed(f"{where}: expected an object, got {_kind(value)}")
    return value


def _sequence(value: object, where: str, limit: int) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise _malformed(f"{where}: expected a list, got {_kind(value)}")
    if len(value) > limit:
        raise Rejection(RejectionReason.TOO_MANY, f"{where}: expected at most {limit} items, got {len(value)}")
    return value


def _field(fields: Mapping[str, Any], name: str, where: str) -> object:
    if name not in fields:
        raise _malformed(f"{where}: {name!r} is missing")
    return fields[name]


def _integer(value: object, where: str, low: int, high: int) -> int:
    if type(value) is not int:
        raise _malformed(f"{where}: expected an integer, got {_kind(value)}")
    if not low <= value <= high:
        raise Rejection(RejectionReason.OUT_OF_RANGE, f"{where}: expected {low}..{high}, got {str(value)[:40]}")
    return value


def _identifier(value: object, where: str) -> str:
    if type(value) is not str:
        raise _malformed(f"{where}: expected a string, got {_kind(value)}")
    if not 0 < len(value) <= MAX_ID_LENGTH:
        raise Rejection(
            RejectionReason.OUT_OF_RANGE, f"{where}: expected 1..{MAX_ID_LENGTH} characters, got {len(value)}"
        )
    if not value.isprintable():
        raise _malformed(f"{where}: expected printable characters, got {value!a}")
    return value


def _kind(value: object) -> str:
    names = {
        dict: "an object",
        list: "a list",
        str: "a string",
        bool: "a boolean",
        type(None): "null",
        float: "a float",
    }
    return names.get(type(value), type(value).__name__)


def _malformed(detail: str) -> Rejection:
    return Rejection(RejectionReason.MALFORMED, detail)
