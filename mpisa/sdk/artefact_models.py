"""The artefacts' part of `models`: provenance records, lineage, names. See there for the conventions."""

from mpisa.sdk.chain_models import Model


class External(Model, frozen=True, kw_only=True):
    """What a hub calls something: `hub` such as huggingface, `repo` such as google-bert/bert-base, a revision there."""

    hub: str
    repo: str
    revision: str | None = None


class Input(Model, frozen=True, kw_only=True):
    """What an artefact was made from: a CID, or (with `resolved` False) a name on a hub."""

    role: str
    relation: str
    cid: str | None = None
    external: External | None = None
    resolved: bool = True


class Artefact(Model, frozen=True, kw_only=True):
    """One provenance record: who published which CID as what, and where the ledger says so.

    `height`, `time_ms` and `tx` are those of the latest publication, `first_time_ms` that of this publisher's first.
    """

    cid: str
    kind: str
    size: int
    publisher: str
    height: int
    time_ms: int
    first_time_ms: int
    tx: str
    media_type: str | None = None
    license: str | None = None
    supersedes: str | None = None
    inputs: tuple[Input, ...] = ()


class ArtefactPage(Model, frozen=True, kw_only=True):
    artefacts: tuple[Artefact, ...]
    next: str | None = None


class ArtefactRecords(Model, frozen=True, kw_only=True):
    """Every record for one CID, the earliest first."""

    cid: str
    records: tuple[Artefact, ...]


class LineageEdge(Model, frozen=True, kw_only=True):
    """`source` (a CID or an external name) went into `target` (a CID), or is its earlier version (`supersedes`)."""

    source: str
    target: str
    role: str
    relation: str
    resolved: bool


class Lineage(Model, frozen=True, kw_only=True):
    """The graph of inputs and earlier versions below one CID; `truncated` says that a bound cut it."""

    cid: str
    artefacts: tuple[Artefact, ...]
    edges: tuple[LineageEdge, ...]
    truncated: bool = False


class Name(Model, frozen=True, kw_only=True):
    """What `owner/model@tag` points to."""

    name: str
    cid: str
    account: str
    height: int
    time_ms: int
    tx: str
