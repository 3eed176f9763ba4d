"""What goes into consensus and what comes out (docs/protocol.md, section 9).

A shell hands events in one at a time, with the time, and performs the effects it gets back strictly in order: a
`Persist` is durable (to the operating system, or to the disk when `sync`) before the next effect is begun. One timer
a kind: a `SetTimer` replaces the earlier one. All times are milliseconds of the shell's clock, which must never run
backwards.

Where a `VertexReceived`, an authority index or a round stands, `epoch` says whose: a node may serve one epoch while it
takes part in the next.

One long file on purpose: it declares the whole contract between consensus and its shells and does nothing. Requests
and their answers refer to each other across the border of in and out, and whoever writes a shell reads it end to end.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from consensus.dag.committee import Committee
from consensus.dag.evidence import EvidenceKind
from consensus.dag.judging import NO_ERAS, EarlierEras
from consensus.dag.vertex import FIRST_EPOCH, ExecutionSignature, Vertex, VertexRef
from mpisa.primitives.errors import Rejection
from mpisa.primitives.header import Certificate, Header
from mpisa.primitives.identifiers import AuthorityIndex, Epoch, Height, Round


class TimerKind(StrEnum):
    """What a timer is for."""

    ROUND = "round"
    FETCH = "fetch"
    HELD = "held"
    RESEND = "resend"
    INQUIRY = "inquiry"


# Events: in.


@dataclass(frozen=True, slots=True)
class VertexReceived:
    """A vertex that `verify_vertex` passed, from whoever sent it (its author or an answer to a request)."""

    sender: AuthorityIndex
    vertex: Vertex


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The timer of this kind is due. An early or repeated one does no harm."""

    kind: TimerKind
    epoch: Epoch = FIRST_EPOCH


@dataclass(frozen=True, slots=True)
class PayloadWaiting:
    """The pool became non-empty. It holds until a `PayloadProvided` brings no bytes."""


@dataclass(frozen=True, slots=True)
class PayloadProvided:
    """The answer to `RequestPayload(round)`: empty when the pool is. It travels in the next own vertex, which may be
    of a later round when the network went on meanwhile.
    """

    round: Round
    payload: bytes
    epoch: Epoch = FIRST_EPOCH


@dataclass(frozen=True, slots=True)
class Executed:
    """The block at this height is executed and durable; signature is this authority's (64 bytes), empty for a follower.

    After a restart the shell hands in again the heights that it holds no certificate for, in ascending order. A closing
    header comes with the committee that it names.
    """

    height: Height
    header_hash: bytes
    signature: bytes
    header: Header
    next_committee: Committee | None = None


@dataclass(frozen=True, slots=True)
class ExecutionSignatureReceived:
    """A pushed execution signature. One for another authority than the sender is ignored."""

    sender: AuthorityIndex
    signature: ExecutionSignature
    epoch: Epoch = FIRST_EPOCH


@dataclass(frozen=True, slots=True)
class AncestorsUnavailable:
    """The peer answered that it doesn't hold these, or couldn't be reached: the next source is asked at once."""

    refs: tuple[VertexRef, ...]
    sender: AuthorityIndex
    epoch: Epoch = FIRST_EPOCH


@dataclass(frozen=True, slots=True)
class RangeEnded:
    """The peer's answer to a `RequestRange` is complete; its vertices were handed in before. Optional: it saves a
    timeout.
    """

    sender: AuthorityIndex
    epoch: Epoch = FIRST_EPOCH


@dataclass(frozen=True, slots=True)
class CertificateReceived:
    """A certificate of a header that this node executed came from elsewhere; the shell has verified it."""

    height: Height
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class EpochAhead:
    """Somebody speaks of a later epoch than any here: the rest of ours is asked for. A lie costs one request."""


@dataclass(frozen=True, slots=True)
class EvidenceOffered:
    """Evidence that the shell has verified, of whatever admissible epoch: to be carried unless another vertex does."""

    evidence: bytes


@dataclass(frozen=True, slots=True)
class StoredEpoch:
    """What the shell's stores hold of an epoch.

    The cursor of its last executed block (None before the first); its vertices, of which those at or below the
    cursor's GC round aren't needed; the last own proposal; its closing header, once executed. `lost` says what the
    stores are known to have lost: an authority that can't know what it signed sits the epoch out. `earlier` are the
    epochs before it of which its vertices may carry evidence.
    """

    cursor: bytes | None = None
    vertices: Iterable[Vertex] = ()
    proposal: "ProposalRecord | None" = None
    closing: Header | None = None
    lost: str | None = None
    earlier: EarlierEras = NO_ERAS


@dataclass(frozen=True, slots=True)
class EpochRecalled:
    """The answer to `RecallEpoch`."""

    epoch: Epoch
    stored: StoredEpoch


Event: TypeAlias = (
    VertexReceived
    | TimerFired
    | PayloadWaiting
    | PayloadProvided
    | Executed
    | ExecutionSignatureReceived
    | AncestorsUnavailable
    | RangeEnded
    | CertificateReceived
    | EpochAhead
    | EvidenceOffered
    | EpochRecalled
)


# Effects: out.


@dataclass(frozen=True, slots=True)
class VertexRecord:
    """An accepted vertex to store under its ref."""

    round: Round
    author: AuthorityIndex
    id: bytes
    raw: bytes
    epoch: Epoch = FIRST_EPOCH


@dataclass(frozen=True, slots=True)
class ProposalRecord:
    """The last own proposal: one record an epoch, overwritten. A `StoredEpoch` needs it."""

    round: Round
    raw: bytes
    epoch: Epoch = FIRST_EPOCH


@dataclass(frozen=True, slots=True)
class Persist:
    """One batch. With sync, on the disk before anything after it happens."""

    records: tuple[VertexRecord | ProposalRecord, ...]
    sync: bool


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Send these bytes of an own vertex to every authority."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class BroadcastSignature:
    """Push an own execution signature to every authority; it is repeated in the next vertex, so losing it is
    harmless.
    """

    signature: ExecutionSignature
    epoch: Epoch = FIRST_EPOCH


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Hand in TimerFired(kind) at this time, in place of the kind's earlier timer."""

    kind: TimerKind
    at_ms: int
    epoch: Epoch = FIRST_EPOCH


@dataclass(frozen=True, slots=True)
class RequestPayload:
    """A vertex is about to be made: answer with PayloadProvided, at most `max_payload_bytes`."""

    round: Round
    epoch: Epoch = FIRST_EPOCH


@dataclass(frozen=True, slots=True)
class RequestAncestors:
    """Ask this authority for these vertices; each comes in as VertexReceived.

    `have` is the highest round held of each author: the answer may bring recent ancestors that are newer
    (`dag/pushing.py`), which come in the same way.
    """

    to: AuthorityIndex
    refs: tuple[VertexRef, ...]
    epoch: Epoch = FIRST_EPOCH
    have: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestRange:
    """We are far behind: ask for every vertex from this round on, in ascending (round, author, id), `range_rounds`
    rounds at most an answer. The engine asks again while it is behind.
    """

    to: AuthorityIndex
    from_round: Round
    epoch: Epoch = FIRST_EPOCH


@dataclass(frozen=True, slots=True)
class BlockBoundary:
    """The commit closes a chain block over the commits first_commit..this one, at this height."""

    first_commit: int
    height: Height


@dataclass(frozen=True, slots=True)
class CommittedSubDag:
    """A commit: the vertices newly ordered by a leader, in order.

    time_ms and digest are as the header needs them. content is what its block executes: those vertices with a payload
    or evidence of this commit and of the ones folded into its block, in order. content, window_root (32 bytes) and
    cursor are empty where folded (block is None); the executor stores the cursor in the same batch as the block that it
    belongs to.
    """

    index: int
    leader: VertexRef
    vertices: tuple[Vertex, ...]
    time_ms: int
    digest: bytes
    window_root: bytes
    epoch: Epoch
    block: BlockBoundary | None
    cursor: bytes
    content: tuple[Vertex, ...] = ()


def content_of(vertices: Iterable[Vertex]) -> tuple[Vertex, ...]:
    """Those that carry something."""
    return tuple([vertex for vertex in vertices if vertex.payload or vertex.evidence])


@dataclass(frozen=True, slots=True)
class Commit:
    """Ordered. Commits come in ascending index without gaps, after a restart from the one behind the cursor on."""

    commit: CommittedSubDag


@dataclass(frozen=True, slots=True)
class Certified:
    """A quorum signed the header at this height."""

    height: Height
    header_hash: bytes
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class EvidenceFound:
    """An authority broke a rule in a way that can be proved; the bytes also travel in the next own vertex.

    position is a round for a double vertex, else a height.
    """

    kind: EvidenceKind
    author: AuthorityIndex
    position: int
    evidence: bytes
    epoch: Epoch = FIRST_EPOCH


@dataclass(frozen=True, slots=True)
class PayloadLapsed:
    """An own vertex will never be committed: what it carried belongs back into the pool."""

    round: Round
    payload: bytes


@dataclass(frozen=True, slots=True)
class PeerFault:
    """A vertex broke a rule that needs the DAG to see; blame its author, not its sender."""

    author: AuthorityIndex
    rejection: Rejection
    epoch: Epoch = FIRST_EPOCH


@dataclass(frozen=True, slots=True)
class Halt:
    """A quorum assumption is broken or the key is used elsewhere: nothing more will be proposed or committed.

    evidence is the canonical encoding of the vertices that show it; store it.
    """

    reason: str
    evidence: bytes


@dataclass(frozen=True, slots=True)
class RequestCertificate:
    """Ask this authority for the certificate of the closing header; it comes in as CertificateReceived."""

    to: AuthorityIndex
    height: Height
    epoch: Epoch


@dataclass(frozen=True, slots=True)
class RecallEpoch:
    """An epoch is about to open: answer with EpochRecalled, what the stores hold of it. Whatever was signed in it
    before is known then, however this node came here.
    """

    epoch: Epoch


@dataclass(frozen=True, slots=True)
class EpochOpened:
    """From now on this node takes part in the epoch: as authority `own`, or as a follower (None). Comes at the start
    too, for each epoch that is open then.
    """

    epoch: Epoch
    committee: Committee
    own: AuthorityIndex | None


@dataclass(frozen=True, slots=True)
class EpochDropped:
    """A header of the next epoch is certified: this one isn't served any more."""

    epoch: Epoch


Effect: TypeAlias = (
    Persist
    | Broadcast
    | BroadcastSignature
    | SetTimer
    | RequestPayload
    | RequestAncestors
    | RequestRange
    | Commit
    | Certified
    | EvidenceFound
    | PayloadLapsed
    | PeerFault
    | Halt
    | RequestCertificate
    | RecallEpoch
    | EpochOpened
    | EpochDropped
)

__all__ = [
    "AncestorsUnavailable",
    "BlockBoundary",
    "Broadcast",
    "BroadcastSignature",
    "CertificateReceived",
    "Certified",
    "Commit",
    "CommittedSubDag",
    "Effect",
    "EpochAhead",
    "EpochDropped",
    "EpochOpened",
    "EpochRecalled",
    "Event",
    "EvidenceFound",
    "EvidenceOffered",
    "Executed",
    "ExecutionSignature",
    "ExecutionSignatureReceived",
    "Halt",
    "PayloadLapsed",
    "PayloadProvided",
    "PayloadWaiting",
    "PeerFault",
    "Persist",
    "ProposalRecord",
    "RangeEnded",
    "RecallEpoch",
    "RequestAncestors",
    "RequestCertificate",
    "RequestPayload",
    "RequestRange",
    "SetTimer",
    "StoredEpoch",
    "TimerFired",
    "TimerKind",
    "VertexReceived",
    "VertexRecord",
]
