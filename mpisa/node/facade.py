"""The seam that the API, the command line and the devnet code against: Protocols that `mpisa.node.node.Node` fulfils.

Everything is asyncio; synchronous methods answer from memory or one LevelDB read. Errors are those of
`mpisa.primitives.errors`: NotFound, Rejection, TimedOut, Unreachable, DiskFull, StoreDamaged, NotReady.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from mpisa.config import NodeConfig
    from mpisa.ledger.standing import StakeStanding, StakingStanding
    from mpisa.node.collecting import CollectionState
    from mpisa.node.content import EntryPage, NamePage
    from mpisa.node.diagnosis import Facts
    from mpisa.node.epoch_proof import Entry
    from mpisa.node.events import EventGroup
    from mpisa.node.inspecting import Verification
    from mpisa.node.views import (
        AccountView,
        CarView,
        ChainBlock,
        CheckView,
        DagView,
        Event,
        Head,
        HeaderBundle,
        LinkFault,
        NodeStatus,
        OffenceView,
        PeerView,
        PinView,
        RecordPage,
        RecordView,
        Retrieved,
        StateProof,
        StatView,
        StreamAnswer,
        TransactionStatus,
        VertexView,
        WaitFor,
    )
    from mpisa.primitives.cid import Cid
    from mpisa.primitives.cosignature import Cosignature
    from mpisa.primitives.errors import MpisaError
    from mpisa.primitives.genesis import Genesis
    from mpisa.primitives.header import Certificate, Header, ValidatorSet
    from mpisa.primitives.identifiers import Address, ArtefactName
    from mpisa.primitives.ipns import IpnsRecord
    from mpisa.primitives.selection import Selection
    from storage.blockstore import VerifyReport
    from storage.gc import GcReport
    from storage.importer import ImportResult
    from storage.paths import Resolved
    from storage.reader import Stat


class ChainView(Protocol):
    """What this node knows of the chain. Unknown heights and hashes raise NotFound."""

    @property
    def genesis(self) -> Genesis: ...
    def head(self) -> Head: ...
    def header(self, height: int) -> Header: ...
    def certificate(self, height: int) -> Certificate | None: ...
    def block(self, which: int | bytes) -> ChainBlock: ...
    def headers(self, first: int, limit: int) -> tuple[HeaderBundle, ...]: ...
    def epochs(self, first: int, limit: int) -> tuple[HeaderBundle, ...]: ...
    def cosignatures(self, epoch: int) -> tuple[tuple[Cosignature, ...], tuple[Entry, ...]]: ...
    def transaction(self, transaction_hash: bytes) -> TransactionStatus: ...
    def account(self, address: Address) -> AccountView: ...
    def validators(self, height: int | None = None) -> ValidatorSet: ...
    def validator_names(self, height: int | None = None) -> dict[Address, str]: ...
    def staking(self) -> tuple[int, StakingStanding]:
        """How validators stand, at the latest certified height, which comes first."""
        ...

    def stake(self, operator: Address) -> tuple[int, StakeStanding]:
        """How one operator stands, at the latest certified height, which comes first."""
        ...

    def state(self, key: bytes, height: int | None = None) -> bytes | None: ...
    def prove(self, key: bytes, height: int | None = None) -> StateProof: ...
    def records(self, cursor: bytes | None = None, limit: int = 100) -> RecordPage: ...
    def records_of(self, cid: Cid) -> tuple[RecordView, ...]: ...
    def derived_from(self, cid: Cid, limit: int = 1000) -> tuple[RecordView, ...]: ...
    def resolve(self, name: ArtefactName) -> Cid | None: ...


class Blobs(Protocol):
    """Bytes by CID. A put returns once every block is durable and the root is pinned."""

    async def put_stream(self, reader: AsyncIterator[bytes], *, profile: str | None = None) -> ImportResult: ...
    async def put_tar(self, reader: AsyncIterator[bytes], *, profile: str | None = None) -> ImportResult: ...
    async def put_car(self, reader: AsyncIterator[bytes]) -> CarView:
        """Blocks of a CAR, durable on return; roots whose whole DAG is here are pinned."""
        ...

    async def missing(self, cids: Sequence[Cid]) -> tuple[int, ...]:
        """Which of these blocks aren't here, by their places; what is here stays for an hour at least."""
        ...

    async def check(self, cid: Cid) -> CheckView:
        """Hash all local blocks of a DAG again; fetches nothing, changes nothing."""
        ...

    async def ensure(self, cid: Cid, *, progress: Callable[[int, int], None] | None = None) -> Retrieved:
        """Make the whole DAG local, from peers where needed. progress(blocks, bytes). NotFound says what was tried."""
        ...

    async def block(self, cid: Cid) -> bytes:
        """One block, fetched and stored when it isn't local."""
        ...

    def car(self, cid: Cid) -> AsyncIterator[bytes]:
        """A CARv1 of the whole DAG, depth first; missing blocks are fetched, hashed and stored on the way."""
        ...

    async def stat(self, cid: Cid) -> StatView: ...
    async def pin(self, cid: Cid, *, recursive: bool = True, name: str = "") -> PinView: ...
    async def unpin(self, cid: Cid, *, reason: str | None = None) -> None:
        """Drop the pins of one reason; without one those of users and of publishing, never those of custody."""
        ...

    def pins(self) -> tuple[PinView, ...]: ...
    def local(self, cid: Cid) -> bytes | None:
        """The block when this node holds it; the peer port serves from here."""
        ...


class Content(Protocol):
    """What lies behind a CID and a path: see `mpisa.node.content`. What is missing is fetched, unless `local_only`."""

    async def resolve(self, root: Cid, parts: Sequence[str], *, local_only: bool = False) -> Resolved: ...
    async def stat(self, cid: Cid, *, local_only: bool = False) -> Stat: ...
    async def block(self, cid: Cid, *, local_only: bool = False) -> bytes: ...
    async def has(self, cid: Cid) -> bool: ...
    def file(
        self, cid: Cid, first: int = 0, length: int | None = None, *, local_only: bool = False
    ) -> AsyncIterator[bytes]: ...
    def car(
        self, resolved: Resolved, selection: Selection, *, local_only: bool = False, max_bytes: int | None = None
    ) -> AsyncIterator[bytes]: ...
    def tar(
        self, cid: Cid, name: str, *, local_only: bool = False, max_bytes: int | None = None
    ) -> AsyncIterator[bytes]: ...
    async def entries(
        self, cid: Cid, limit: int, after: str | None = None, *, local_only: bool = False
    ) -> EntryPage: ...
    async def names(self, cid: Cid, limit: int, after: str | None = None, *, local_only: bool = False) -> NamePage: ...


class Names(Protocol):
    """IPNS records that this node keeps: see `mpisa.node.ipns_records`."""

    async def get(self, name: Cid) -> IpnsRecord:
        """The record, valid now. Raises NotFound and Rejection."""
        ...

    async def put(self, name: Cid, raw: bytes) -> IpnsRecord:
        """Keep a record, durably on return. Raises Rejection, DiskFull."""
        ...


class Subscription(Protocol):
    """One subscriber's events, in order; a gap is an event of its own."""

    def __aiter__(self) -> AsyncIterator[Event]: ...
    async def take(self) -> EventGroup | None:
        """The oldest group that is queued; None at the end."""
        ...

    async def aclose(self) -> None: ...


class Events(Protocol):
    """Each subscriber has its own bounded queue."""

    def subscribe(self) -> Subscription: ...


class TransactionStream(Protocol):
    """Transactions of one client, answered as they get on; see mpisa.node.flow."""

    async def offer(self, raw: bytes) -> None:
        """The next one; waits while too many are unanswered."""
        ...

    def finish(self) -> None: ...
    async def answers(self, patience_s: float) -> list[StreamAnswer] | None:
        """What happened since the last call; None at the end."""
        ...


class NodeFacade(Protocol):
    """A running node."""

    @property
    def home(self) -> Path: ...
    @property
    def config(self) -> NodeConfig: ...
    @property
    def chain(self) -> ChainView: ...
    @property
    def blobs(self) -> Blobs: ...
    @property
    def content(self) -> Content: ...
    @property
    def names(self) -> Names: ...
    @property
    def events(self) -> Events: ...
    @property
    def peer_id(self) -> str: ...
    def ready(self) -> tuple[bool, list[str]]:
        """(True, []) or (False, reasons a person can read)."""
        ...

    def status(self) -> NodeStatus: ...
    def peers(self) -> tuple[PeerView, ...]: ...
    def dag(self, rounds: int) -> DagView:
        """The last rounds of the current epoch's DAG, with verdicts. Raises NotReady."""
        ...

    def vertex(self, prefix: bytes) -> VertexView:
        """A vertex of the recent DAG by the first bytes of its id. Raises NotFound and UsageError."""
        ...

    def link_faults(self) -> tuple[LinkFault, ...]:
        """The faults that this node applies to its own links, by ascending peer id. Raises NotReady."""
        ...

    async def set_link_faults(self, faults: Sequence[LinkFault]) -> None:
        """These and no others until the next call or the end of the process. Raises Denied unless the settings make
        it a devnet's node, UsageError for a value out of bounds.
        """
        ...

    def metrics(self) -> dict[str, float]:
        """Plain counters and gauges, names in snake_case with the unit last."""
        ...

    async def collect(self, *, dry_run: bool = False) -> GcReport:
        """Give back the space of what no pin keeps. Raises StoreDamaged, DiskFull, NotReady."""
        ...

    async def verify(self) -> VerifyReport:
        """Hash every block again, beside everything else. Raises NotReady while another verification runs."""
        ...

    def verification(self) -> Verification:
        """Whether a verification runs, how far it is, and the report of the last one."""
        ...

    async def facts(self) -> Facts:
        """What a diagnosis goes by; looks through pins for a few seconds at most."""
        ...

    def collection(self) -> CollectionState:
        """Whether a collection runs, how far it is, and the report of the last one."""
        ...

    async def submit(self, raw: bytes, wait: WaitFor | str = "accepted", timeout_s: float = 30.0) -> TransactionStatus:
        """Validate, pool, and wait. Rejection when refused at the door; TimedOut says what is known by then.

        A transaction that was ordered but failed comes back with status rejected and its receipt.
        """
        ...

    async def submit_many(
        self, raws: Sequence[bytes], wait: WaitFor | str = "accepted", timeout_s: float = 30.0
    ) -> list[TransactionStatus | MpisaError]:
        """What `submit` would return or raise for each, in their order."""
        ...

    def open_stream(self, wait: WaitFor | str) -> AbstractContextManager[TransactionStream]:
        """A stream of transactions, closed on leaving. NotReady when too many are open."""
        ...

    async def report(self, headers: Sequence[tuple[Header, Certificate]]) -> tuple[OffenceView, ...]:
        """What certified headers prove of their signers; Rejection where they prove nothing."""
        ...

    def transaction(self, transaction_hash: bytes) -> TransactionStatus:
        """From the chain or from this node's pool; NotFound otherwise."""
        ...

    def pending_nonce(self, address: Address) -> int: ...
