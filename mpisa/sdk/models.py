"""What the HTTP API answers and the SDK returns: one frozen record per kind of answer.

The server builds its JSON and its OpenAPI schemas from these very types, and the client converts its answers to them,
so both ends agree by construction. Conventions: hashes, keys and encoded bytes are lower-case hex without a prefix;
addresses are `0x` and 40 hex digits; CIDs are text; times are milliseconds since the Unix epoch; sizes are bytes.
Unknown fields in an answer are ignored, so that an older client can talk to a newer node.
"""

from typing import Any

import msgspec

from mpisa.sdk.artefact_models import (
    Artefact,
    ArtefactPage,
    ArtefactRecords,
    External,
    Input,
    Lineage,
    LineageEdge,
    Name,
)
from mpisa.sdk.chain_models import (
    Account,
    ChainBlock,
    ChainHead,
    ClosedEpoch,
    Cosignature,
    Cosignatures,
    CosignedEpoch,
    EpochPage,
    GenesisDocument,
    HeaderPage,
    MapProof,
    Model,
    Offence,
    Offences,
    ProofLeaf,
    ProvenRecord,
    Receipt,
    SignedHeader,
    Stake,
    StakeReturn,
    Staking,
    StateProof,
    StateValue,
    Transaction,
    Validator,
    Validators,
    ValidatorStanding,
)
from mpisa.sdk.dag_models import Dag, DagAuthority, DagRef, DagRound, DagSlot, DagVertex, DagVertexDetail
from mpisa.sdk.store_models import Diagnosis, Finding, GcResult, GcState, StoreCheck, StoreCheckState, StoreDamage

__all__ = [
    "Account",
    "Artefact",
    "ArtefactPage",
    "ArtefactRecords",
    "Batch",
    "BatchResult",
    "BlobStat",
    "ChainBlock",
    "ChainHead",
    "ChainVerification",
    "Check",
    "ClosedEpoch",
    "Cosignature",
    "Cosignatures",
    "CosignedEpoch",
    "Dag",
    "DagAuthority",
    "DagRef",
    "DagRound",
    "DagSlot",
    "DagVertex",
    "DagVertexDetail",
    "Diagnosis",
    "Entries",
    "Entry",
    "EpochPage",
    "Event",
    "External",
    "Finding",
    "GcResult",
    "GcState",
    "GenesisDocument",
    "GetResult",
    "HeaderPage",
    "Health",
    "Input",
    "Lineage",
    "LineageEdge",
    "MapProof",
    "Model",
    "Name",
    "NodeInfo",
    "Offence",
    "Offences",
    "Peer",
    "Peers",
    "Pin",
    "Pins",
    "Problem",
    "ProofLeaf",
    "ProvenRecord",
    "PublishResult",
    "PutResult",
    "Readiness",
    "Receipt",
    "SignedHeader",
    "Stake",
    "StakeReturn",
    "Staking",
    "StateProof",
    "StateValue",
    "StoreCheck",
    "StoreCheckState",
    "StoreDamage",
    "StreamAnswer",
    "Transaction",
    "Validator",
    "ValidatorStanding",
    "Validators",
    "VerifyResult",
]


class Readiness(Model, frozen=True, kw_only=True):
    """Whether a node serves requests; `reasons` says what it still waits for."""

    ready: bool
    reasons: tuple[str, ...] = ()


class NodeInfo(Model, frozen=True, kw_only=True):
    """A node's account of itself: `authority` names its validator in the current epoch, None where it only follows.

    `height` is the newest executed chain block, `certified_height` the newest a quorum has signed; `halted` says why
    the node stopped taking transactions, None while it takes them.
    """

    name: str
    version: str
    role: str
    peer_id: str
    chain_id: str
    api_url: str
    peer_url: str
    epoch: int
    round: int
    commit_index: int
    height: int
    certified_height: int
    mempool: int
    mempool_bytes: int
    caught_up: bool
    ready: bool
    started_ms: int
    blocks_held: int
    bytes_held: int
    authority: str | None = None
    authority_index: int | None = None
    halted: str | None = None
    sitting_out: str | None = None
    syncing: str | None = None
    kept_from: int = 1
    listen: tuple[str, ...] = ()
    not_ready: tuple[str, ...] = ()


class Peer(Model, frozen=True, kw_only=True):
    """A peer this node knows. `authority` is its committee index; `link`: its authority stream is up."""

    peer_id: str
    addresses: tuple[str, ...]
    connected: bool
    link: bool
    authority: int | None = None


class Peers(Model, frozen=True, kw_only=True):
    peers: tuple[Peer, ...]


class LinkFault(Model, frozen=True, kw_only=True):
    """What a devnet's node does to its link with a peer: cuts it, delays what it sends, loses a share of that."""

    peer_id: str
    cut: bool = False
    delay_ms: int = 0
    jitter_ms: int = 0
    drop_percent: int = 0


class LinkFaults(Model, frozen=True, kw_only=True):
    faults: tuple[LinkFault, ...]


class PutResult(Model, frozen=True, kw_only=True, omit_defaults=True):
    """What a node has now: bytes of content, distinct blocks; `sent`: bytes of blocks that a client had to send."""

    cid: str
    size: int
    blocks: int
    sent: int = 0


class GetResult(Model, frozen=True, kw_only=True):
    """What a download wrote. `blocks` were hashed on this machine, each as often as it is linked.

    `size`: bytes of content; `reused`: bytes that an earlier download had left, hashed again.
    """

    cid: str
    path: str | None
    size: int
    blocks: int
    files: int
    reused: int = 0


class PublishResult(Model, frozen=True, kw_only=True):
    cid: str
    tx: str
    height: int
    certified: bool
    size: int = 0
    blocks: int = 0
    name: str | None = None


class BlobStat(Model, frozen=True, kw_only=True):
    """`kind`: file, directory, symlink or raw; `size`: of the content; `dag_size`: with structure; `blocks`: links.

    `target` of a symlink; `mode` (permission bits) and `mtime_ns` (since 1970) where the tree says them.
    """

    cid: str
    kind: str
    size: int
    dag_size: int
    blocks: int
    local: bool
    target: str | None = None
    mode: int | None = None
    mtime_ns: int | None = None


class CarResult(Model, frozen=True, kw_only=True):
    """What a node took of a CAR; `pinned` are the roots whose whole DAG it has."""

    roots: tuple[str, ...]
    blocks: int
    bytes: int
    pinned: tuple[str, ...]


class CarFile(Model, frozen=True, kw_only=True):
    """A CAR that was written: of which root, its bytes in all, and blocks hashed here."""

    cid: str
    path: str | None
    size: int
    blocks: int


class MissingBlocks(Model, frozen=True, kw_only=True):
    """The places, in the question's list, of blocks that the node lacks."""

    missing: tuple[int, ...]


class BlobCheck(Model, frozen=True, kw_only=True):
    """All local blocks of a DAG hashed again; damaged and missing ones are counted, the first hundred named."""

    cid: str
    blocks: int
    bytes: int
    damaged: int
    missing: int
    damaged_cids: tuple[str, ...] = ()
    missing_cids: tuple[str, ...] = ()


class Entry(Model, frozen=True, kw_only=True):
    name: str
    cid: str
    size: int
    kind: str


class Entries(Model, frozen=True, kw_only=True):
    """A page of a directory; `next` is the cursor to go on with."""

    cid: str
    entries: tuple[Entry, ...]
    next: str | None = None


class Pin(Model, frozen=True, kw_only=True):
    """`kind`: recursive (the whole DAG is kept) or direct (one block); `reason`: user, publish or custody."""

    cid: str
    kind: str
    name: str = ""
    reason: str = "user"


class Pins(Model, frozen=True, kw_only=True):
    pins: tuple[Pin, ...]
    next: str | None = None


class Event(Model, frozen=True, kw_only=True):
    """`kind`: block, certified, transaction, peer, pin, halt or gap (some were missed)."""

    id: int
    kind: str
    data: dict[str, Any] = msgspec.field(default_factory=dict)


class Check(Model, frozen=True, kw_only=True):
    """One check a verification made, in words, with what it found."""

    name: str
    detail: str


class VerifyResult(Model, frozen=True, kw_only=True):
    """A record that held up. `trust` says plainly where the trusted genesis came from."""

    cid: str
    publisher: str
    height: int
    record: Artefact
    checks: tuple[Check, ...]
    trust: str
    valid: bool = True


class ChainVerification(Model, frozen=True, kw_only=True):
    """What was checked from the trusted header to `height` held up: certificates, links, times, sets.

    `compared` are the endpoints whose chains don't contradict it; `cosigned` is None where that wasn't asked for.
    """

    height: int
    headers_checked: int
    valid: bool
    genesis_hash: str
    trust: str
    compared: tuple[str, ...] = ()
    cosigned: tuple[CosignedEpoch, ...] | None = None


class Problem(Model, frozen=True, kw_only=True):
    """An RFC 9457 problem detail; `code` names the error, `reason` a rejection, `hint` what to do next."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: str | None = None
    reason: str | None = None
    request_id: str | None = None


class BatchResult(Model, frozen=True, kw_only=True):
    """One transaction of a batch: where it is, or why it was refused or isn't where it was waited for."""

    transaction: Transaction | None = None
    problem: Problem | None = None


class Batch(Model, frozen=True, kw_only=True):
    """One result a transaction, in the order of the batch."""

    results: tuple[BatchResult, ...]


class StreamAnswer(Model, frozen=True, kw_only=True, omit_defaults=True):
    """What became of some of a stream's transactions, named by their places in it, from 0.

    `status`: accepted, ordered or certified, or rejected (one transaction, with its receipt). Without one `problem`
    says why a transaction was refused or dropped or, where none is named, why the stream was ended.
    """

    transactions: tuple[int, ...]
    status: str | None = None
    height: int | None = None
    receipt: Receipt | None = None
    problem: Problem | None = None


class Health(Model, frozen=True, kw_only=True):
    """The process answers; whether it serves is /readyz."""

    status: str
