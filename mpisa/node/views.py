"""What a node shows of itself: frozen values that the API, the command line and the devnet read.

Times are milliseconds since the Unix epoch, sizes are bytes. `ordered` means committed by the DAG, `certified` means
executed and signed by a quorum; a light client accepts only the second. Nothing here does I/O, so a fake node in a
test builds the same values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from consensus.survey import SeenVertex, Survey
    from mpisa.primitives.cid import Cid
    from mpisa.primitives.errors import MpisaError
    from mpisa.primitives.header import Certificate, Header, ValidatorSet
    from mpisa.primitives.identifiers import Address
    from mpisa.primitives.keys import PublicKey
    from mpisa.primitives.merkle import MapProof
    from mpisa.primitives.receipt import Receipt
    from mpisa.primitives.record import StoredRecord


class WaitFor(StrEnum):
    """How long `Node.submit` waits: pool accepted it, the DAG ordered it, or a quorum certified its block."""

    ACCEPTED = "accepted"
    ORDERED = "ordered"
    CERTIFIED = "certified"


class TransactionState(StrEnum):
    """Where a transaction stands. `rejected` is final and never changes the ledger beyond nonce and fee."""

    ACCEPTED = "accepted"
    ORDERED = "ordered"
    CERTIFIED = "certified"
    REJECTED = "rejected"


class EventKind(StrEnum):
    """Kinds of `Event`; the value is the name of the server-sent event."""

    BLOCK = "block"
    CERTIFIED = "certified"
    TRANSACTION = "transaction"
    PEER = "peer"
    PIN = "pin"
    HALT = "halt"
    GAP = "gap"


@dataclass(frozen=True, slots=True)
class Head:
    """The latest certified header (genesis until there is one) and how far ordering is ahead of it."""

    chain_id: str
    height: int
    hash: bytes
    state_root: bytes
    epoch: int
    time_ms: int
    ordered_height: int
    certified: bool
    """False only for genesis, which carries no certificate and is trusted out of band."""


@dataclass(frozen=True, slots=True)
class ChainBlock:
    """A header with what it commits to. `certificate` is None for genesis and while a block is ordered only."""

    hash: bytes
    header: Header
    certificate: Certificate | None
    transactions: tuple[bytes, ...]
    """Signed transactions as they were executed, in order."""
    receipts: tuple[Receipt, ...]
    """One for each transaction, same order."""


@dataclass(frozen=True, slots=True)
class HeaderBundle:
    """What a light client needs of one height."""

    header: Header
    certificate: Certificate | None
    validators: ValidatorSet


@dataclass(frozen=True, slots=True)
class TransactionStatus:
    """`height` and `index` are set once executed; `raw` is the signed transaction when this node holds it."""

    hash: bytes
    status: TransactionState
    height: int | None = None
    index: int | None = None
    receipt: Receipt | None = None
    raw: bytes | None = None


@dataclass(frozen=True, slots=True)
class StreamAnswer:
    """What became of some of a stream's transactions, named by their places in it.

    Either `status` (with the height once there is one, and the receipt of a rejected one), or the error for which one
    was refused or dropped.
    """

    transactions: tuple[int, ...]
    status: TransactionState | None = None
    height: int | None = None
    receipt: Receipt | None = None
    error: MpisaError | None = None


@dataclass(frozen=True, slots=True)
class AccountView:
    """An account at the latest certified state; `pending_nonce` also counts what this node's pool holds.

    An address that never appeared has `exists` False, nonce 0 and balance 0.
    """

    address: Address
    exists: bool
    public_key: PublicKey | None
    nonce: int
    balance: int
    pending_nonce: int


@dataclass(frozen=True, slots=True)
class RecordView:
    """A provenance record as it stands in the state, with the state key that proves it."""

    cid: Cid
    key: bytes
    stored: StoredRecord


@dataclass(frozen=True, slots=True)
class RecordPage:
    """`next_cursor` is None on the last page."""

    records: tuple[RecordView, ...]
    next_cursor: bytes | None


@dataclass(frozen=True, slots=True)
class StateProof:
    """A value (None = proven absent) under a certified header. Verify it with `mpisa.primitives` alone."""

    header: Header
    certificate: Certificate | None
    validators: ValidatorSet
    key: bytes
    value: bytes | None
    proof: MapProof


@dataclass(frozen=True, slots=True)
class PinView:
    """A pin: `kind` is "recursive" or "direct", `reason` "user", "publish" or "custody"."""

    cid: Cid
    kind: str
    name: str
    reason: str = "user"


@dataclass(frozen=True, slots=True)
class CarView:
    """A CAR that was taken: its roots, how many blocks it had, their bytes, and which roots are pinned now."""

    roots: tuple[Cid, ...]
    blocks: int
    size: int
    pinned: tuple[Cid, ...]


@dataclass(frozen=True, slots=True)
class CheckView:
    """All blocks of a DAG hashed again. Damaged and missing blocks are counted; the first of them are named."""

    cid: Cid
    blocks: int
    size: int
    damaged: int
    missing: int
    damaged_cids: tuple[Cid, ...]
    missing_cids: tuple[Cid, ...]


@dataclass(frozen=True, slots=True)
class StatView:
    """`kind`: file, directory, symlink or raw; `size`: of the content; `dag_size`: with structure; `blocks`: links."""

    cid: Cid
    kind: str
    size: int
    dag_size: int
    blocks: int
    local: bool
    target: str | None = None
    mode: int | None = None
    mtime_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Retrieved:
    """What `ensure` did: blocks and bytes of the whole DAG, and how many of those came from peers."""

    cid: Cid
    blocks: int
    size: int
    fetched_blocks: int
    fetched_bytes: int
    providers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PeerView:
    """A peer. `authority` is its index in the committee, None for others."""

    peer_id: str
    addresses: tuple[str, ...]
    authority: int | None
    connected: bool
    link: bool
    """Whether the long-lived authority stream to it is up."""


@dataclass(frozen=True, slots=True)
class DagView:
    """The recent DAG with the names and addresses of its authorities; `own` is this node's place among them."""

    survey: Survey
    names: tuple[str, ...]
    addresses: tuple[Address, ...]
    own: int | None


@dataclass(frozen=True, slots=True)
class VertexView:
    """A vertex and its author's name; sizes and counts are None while its bytes aren't on the disk yet."""

    epoch: int
    seen: SeenVertex
    author_name: str
    size_bytes: int | None
    transactions: int | None
    evidence: int | None


@dataclass(frozen=True, slots=True)
class LinkFault:
    """What this node does to its link with a peer on purpose. Milliseconds; percent of what is sent."""

    peer_id: str
    cut: bool = False
    delay_ms: int = 0
    jitter_ms: int = 0
    drop_percent: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """`id` rises by one an event; a subscriber that is too slow sees one event of kind gap with the number lost."""

    id: int
    kind: EventKind
    data: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OffenceView:
    """What somebody is convicted of: the certificate address in that epoch, and the round or height."""

    kind: str
    address: Address
    epoch: int
    position: int


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """A node's own account of itself, for `mpisa node status` and GET /v1/node.

    `authority` is the name that the current epoch's validator set has for it, None without a seat in that.
    """

    name: str
    version: str
    role: str
    peer_id: str
    chain_id: str
    authority: str | None
    authority_index: int | None
    epoch: int
    api_url: str
    peer_url: str
    listen: tuple[str, ...]
    round: int
    commit_index: int
    height: int
    certified_height: int
    mempool: int
    mempool_bytes: int
    caught_up: bool
    syncing: str | None
    """How far it has come while it catches up by certified blocks or a snapshot; None while it doesn't."""
    kept_from: int
    """The lowest height above genesis whose chain block is kept whole."""
    halted: str | None
    sitting_out: str | None
    ready: bool
    not_ready: tuple[str, ...]
    started_ms: int
    blocks_held: int
    bytes_held: int
