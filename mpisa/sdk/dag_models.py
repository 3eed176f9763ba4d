"""The DAG's part of `models`: rounds, vertices, leader slots, authorities. See there for the conventions."""

from mpisa.sdk.chain_models import Model


class DagVertex(Model, frozen=True, kw_only=True):
    """A vertex in the DAG: `author` is the authority's index, `parents` how many vertices it builds on, `signatures`
    how many headers it signs, `committed` whether it is ordered.
    """

    id: str
    author: int
    time_ms: int
    parents: int
    payload_bytes: int
    signatures: int
    committed: bool


class DagSlot(Model, frozen=True, kw_only=True):
    """A leader slot. `verdict`: commit, skip or undecided; `final`: every slot before it is decided too."""

    number: int
    authority: int
    verdict: str
    final: bool
    vertex: str | None = None


class DagRound(Model, frozen=True, kw_only=True):
    """A round: vertices by author (more than one an author: equivocation), slots by number."""

    round: int
    vertices: tuple[DagVertex, ...]
    slots: tuple[DagSlot, ...]


class DagAuthority(Model, frozen=True, kw_only=True):
    """An authority's part in the rounds shown. Of `asked` leader slots it could vote for it `voted` for so many; of
    those it `led`, so many were `committed` and `skipped`. `points` are held against it; suspended: it leads no slots
    until that commit. `suspect`: not waited for at present. `equivocator`: evidence of two vertices in one round.
    """

    index: int
    name: str
    address: str
    power: int
    last_round: int
    last_ms: int | None
    vertices: int
    asked: int
    voted: int
    led: int
    committed: int
    skipped: int
    points: int
    suspended_until: int
    suspect: bool
    equivocator: bool


class Dag(Model, frozen=True, kw_only=True):
    """The recent DAG of the epoch as this node sees it: rounds ascending, authorities by index."""

    epoch: int
    own: int | None
    gc_round: int
    commit_index: int
    now_ms: int
    rounds: tuple[DagRound, ...]
    authorities: tuple[DagAuthority, ...]


class DagRef(Model, frozen=True, kw_only=True):
    """Where a vertex stands."""

    round: int
    author: int
    id: str


class DagVertexDetail(Model, frozen=True, kw_only=True):
    """One vertex. `size_bytes`, `transactions` and `evidence` are None until its bytes are on the disk."""

    id: str
    epoch: int
    round: int
    author: int
    author_name: str
    time_ms: int
    committed: bool
    payload_bytes: int
    signatures: int
    size_bytes: int | None
    transactions: int | None
    evidence: int | None
    parents: tuple[DagRef, ...]
