"""A node in memory behind the facade's Protocols: the real ledger, the real importer, real certificates, no network.

Several fake nodes may share one `FakeLedger`; each has its own pool, and a block executes what all pools hold, so that
nonce conflicts happen as they do between real nodes.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from consensus.order.committer import Verdict
from consensus.survey import MAX_ROUNDS, Part, SeenRound, SeenSlot, SeenVertex, Survey
from mpisa.config import ApiConfig, Limits, NodeConfig
from mpisa.ledger.rules import BlockContext
from mpisa.ledger.standing import StakeStanding, StakingStanding, read_stake, read_staking
from mpisa.ledger.submission import validate_for_submission
from mpisa.ledger.transition import execute_block
from mpisa.network.memory import MemoryHub, MemoryNetwork
from mpisa.network.ports import NetworkConfig
from mpisa.node.blob_check import Check, check_slice
from mpisa.node.blobs import LocalBlocks
from mpisa.node.car_upload import CarBlocks, is_whole, missing_of, take_car
from mpisa.node.collecting import CollectionState
from mpisa.node.content import Content
from mpisa.node.dag import Walk
from mpisa.node.diagnosis import Facts
from mpisa.node.epoch_proof import Entry as ProvenEntry
from mpisa.node.events import EventHub
from mpisa.node.flow import Batch, Flow
from mpisa.node.inspecting import Verification
from mpisa.node.ipns_records import IpnsRecords
from mpisa.node.link_faults import rules_of
from mpisa.node.pipe import BytePipe
from mpisa.node.providers import Providers
from mpisa.node.retrieval import Counters, Environment, Retriever
from mpisa.node.views import (
    AccountView,
    CarView,
    ChainBlock,
    CheckView,
    DagView,
    EventKind,
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
    TransactionState,
    TransactionStatus,
    VertexView,
    WaitFor,
)
from mpisa.node.waiting import Entry, Listener, Waiting
from mpisa.node.write_behind import WriteBehind
from mpisa.primitives import merkle
from mpisa.primitives.account import Account
from mpisa.primitives.cid import Cid
from mpisa.primitives.cosignature import Cosignature
from mpisa.primitives.digest import sha256, tagged
from mpisa.primitives.errors import MpisaError, NotFound, Rejection, RejectionReason, TimedOut
from mpisa.primitives.genesis import ChainParameters, Genesis, GenesisAccount
from mpisa.primitives.genesis_state import genesis_header, genesis_state
from mpisa.primitives.header import (
    Certificate,
    Header,
    Validator,
    ValidatorSet,
    make_certificate,
    sign_header,
)
from mpisa.primitives.identifiers import Address, ArtefactName, Epoch
from mpisa.primitives.keys import KeyKind, PrivateKey, private_key
from mpisa.primitives.light import next_set
from mpisa.primitives.receipt import Receipt, ReceiptStatus
from mpisa.primitives.record import StoredRecord
from mpisa.primitives.staking_parameters import MAX_SPAN_MS, StakingParameters
from mpisa.primitives.state_keys import RECORD_SPACE, account_key, name_key, record_prefix
from mpisa.primitives.transaction import decode_transaction
from mpisa.primitives.validator_record import ValidatorRecord
from storage.blockstore import MemoryBlockStore, VerifyReport
from storage.car import export_car
from storage.gc import GcReport
from storage.importer import ImportResult, import_stream, import_tar
from storage.profiles import DEFAULT_PROFILE, profile_by_name
from storage.reader import DagReader

CHAIN_ID = "test-chain"
GENESIS_TIME_MS = 1_700_000_000_000
SEAL_S = 0.003
MAX_POOL_GAP = 64


def key_of(name: str, kind: KeyKind = KeyKind.ED25519) -> PrivateKey:
    """A key that a name determines."""
    return private_key(kind, sha256(name.encode()))


def survey_of(rounds: int) -> Survey:
    """Three rounds of four authorities: node3 makes no vertex, node4 two in round 2; a skip, a commit, an open slot."""
    seen = []
    for number, authors, verdict in (
        (1, (0, 1, 3), Verdict.SKIP),
        (2, (0, 1, 3, 3), Verdict.COMMIT),
        (3, (0, 1), Verdict.UNDECIDED),
    ):
        vertices = tuple(
            SeenVertex(
                sha256(b"%d %d" % (number, place)), number, author, GENESIS_TIME_MS, (), 1_536 * author, 1, number == 1
            )
            for place, author in enumerate(authors)
        )
        leader = {1: 2, 2: 1, 3: 0}[number]
        chosen = vertices[1].id if verdict is Verdict.COMMIT else None
        slot = SeenSlot(0, leader, verdict, verdict is not Verdict.UNDECIDED, chosen)
        seen.append(SeenRound(number, vertices, (slot,)))
    parts = tuple(
        Part(
            author,
            1,
            3 if author < 2 else 0,
            GENESIS_TIME_MS if author < 2 else None,
            3,
            4,
            3,
            1,
            1,
            0,
            2,
            9,
            True,
            False,
        )
        for author in range(4)
    )
    return Survey(Epoch(0), 0, 7, tuple(seen[-rounds:]), parts)


def make_genesis(validators: int = 4) -> tuple[Genesis, dict[bytes, PrivateKey]]:
    """A genesis with funded accounts alice and bob, and the validators' certificate keys by address."""
    keys = {}
    members = []
    for number in range(validators):
        certificate = key_of(f"certificate {number}", KeyKind.SECP256K1)
        keys[bytes(certificate.address)] = certificate
        members.append(
            ValidatorRecord(
                name=f"node{number + 1}",
                address=certificate.address,
                power=1,
                consensus_key=key_of(f"consensus {number}").public_key.data,
                peer_id=f"12D3KooWFakePeer{number}",
            )
        )
    accounts = [GenesisAccount(key_of(name).address, 10**12, key_of(name).public_key) for name in ("alice", "bob")]
    genesis = Genesis(
        chain_id=CHAIN_ID,
        time_ms=GENESIS_TIME_MS,
        # Fake chains have one epoch: what asks for another set waits for ever.
        parameters=ChainParameters(faucet_limit=10**9, staking=StakingParameters(min_epoch_ms=MAX_SPAN_MS)),
        validators=tuple(sorted(members, key=lambda item: item.address)),
        accounts=tuple(sorted(accounts, key=lambda item: item.address)),
    )
    return genesis, keys


@dataclass
class FakeLedger:
    """The chain that fake nodes share."""

    genesis: Genesis
    keys: dict[bytes, PrivateKey]
    entries: dict[bytes, bytes] = field(default_factory=dict)
    blocks: list[ChainBlock] = field(default_factory=list)
    nodes: list[FakeNode] = field(default_factory=list)
    places: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    scheduled: bool = False
    sets: list[ValidatorSet] = field(default_factory=list)
    proven: tuple[ProvenEntry, ...] = ()
    cosigned: dict[int, tuple[tuple[Cosignature, ...], tuple[ProvenEntry, ...]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sets = [self.genesis.validator_set]
        self.entries = dict(genesis_state(self.genesis))
        header = genesis_header(self.genesis)
        self.blocks.append(ChainBlock(header.hash, header, None, (), ()))

    def get(self, key: bytes) -> bytes | None:
        return self.entries.get(key)

    @property
    def validators(self) -> ValidatorSet:
        """The running epoch's."""
        return self.sets[-1]

    def set_at(self, height: int) -> ValidatorSet:
        """The set that certifies a height."""
        return self.sets[self.blocks[height].header.epoch]

    def close_epoch(self, keys: list[PrivateKey]) -> ChainBlock:
        """One more block, the epoch's last, which hands over to validators with these certificate keys."""
        following = ValidatorSet.of(Validator(key.address, 1) for key in keys)
        block = self.append([], following.hash)
        self.keys |= {bytes(key.address): key for key in keys}
        self.sets.append(following)
        return block

    def context(self) -> BlockContext:
        last = self.blocks[-1].header
        time_ms = max(last.time_ms + 1, int(time.time() * 1000))
        return BlockContext(last.chain_hash, last.height + 1, time_ms, next_set(last)[0])

    def schedule(self) -> None:
        if not self.scheduled:
            self.scheduled = True
            asyncio.get_running_loop().call_later(SEAL_S, self.seal)

    def seal(self) -> None:
        """One block of everything that waits, a transaction of each node in turn."""
        self.scheduled = False
        pools = [list(node.pool.values()) for node in self.nodes]
        raws = [pool[turn] for turn in range(max(map(len, pools), default=0)) for pool in pools if turn < len(pool)]
        for node in self.nodes:
            node.pool.clear()
        block = self.append(raws)
        for node in self.nodes:
            node.executed(block)

    def is_final(self, transaction_hash: bytes) -> bool:
        """Whether a receipt with the nonce used is known; a hash has at most one."""
        place = self.places.get(transaction_hash)
        return place is not None and self.blocks[place[0]].receipts[place[1]].nonce_used

    def append(self, raws: list[bytes], next_validators_hash: bytes = bytes(32)) -> ChainBlock:
        context = self.context()
        result = execute_block(self, raws, context)
        for key, value in result.changes:
            if value is None:
                self.entries.pop(key, None)
            else:
                self.entries[key] = value
        last = self.blocks[-1].header
        header = Header(
            chain_hash=last.chain_hash,
            height=context.height,  # type: ignore[arg-type]
            time_ms=context.time_ms,
            epoch=context.epoch,
            first_commit=last.last_commit + 1,
            last_commit=last.last_commit + 1,
            previous=last.hash,
            commit_digest=tagged("fake-commit", context.height.to_bytes(8, "big")),
            window_root=bytes(32),
            tx_root=merkle.list_root(list(raws)),
            receipts_root=merkle.list_root([item.encode() for item in result.receipts]),
            state_root=merkle.map_root(self.entries),
            validators_hash=self.validators.hash,
            next_validators_hash=next_validators_hash,
        )
        block = ChainBlock(header.hash, header, self.certify(header), tuple(raws), result.receipts)
        for index, receipt in enumerate(result.receipts):
            if receipt.nonce_used or not self.is_final(receipt.tx_hash):
                self.places[receipt.tx_hash] = (header.height, index)
        self.blocks.append(block)
        return block

    def certify(self, header: Header, signers: int = 3) -> Certificate:
        """A certificate by the first `signers` validators."""
        validators = self.sets[min(header.epoch, len(self.sets) - 1)]
        chosen = list(enumerate(validators.validators))[:signers]
        return make_certificate({index: sign_header(self.keys[item.address], header) for index, item in chosen})


class FakeChain:
    """See `mpisa.node.facade.ChainView`."""

    def __init__(self, node: FakeNode) -> None:
        self._node = node
        self._ledger = node.ledger

    @property
    def genesis(self) -> Genesis:
        return self._ledger.genesis

    def head(self) -> Head:
        block = self._ledger.blocks[-1]
        header = block.header
        return Head(
            chain_id=self.genesis.chain_id,
            height=header.height,
            hash=block.hash,
            state_root=header.state_root,
            epoch=header.epoch,
            time_ms=header.time_ms,
            ordered_height=header.height,
            certified=header.height > 0,
        )

    def _at(self, height: int) -> ChainBlock:
        if not 0 <= height < len(self._ledger.blocks):
            raise NotFound(f"no chain block at height {height}")
        return self._ledger.blocks[height]

    def header(self, height: int) -> Header:
        return self._at(height).header

    def certificate(self, height: int) -> Certificate | None:
        return self._at(height).certificate

    def block(self, which: int | bytes) -> ChainBlock:
        if isinstance(which, int):
            return self._at(which)
        for block in self._ledger.blocks:
            if block.hash == which:
                return block
        raise NotFound(f"no chain block {which.hex()}")

    def headers(self, first: int, limit: int) -> tuple[HeaderBundle, ...]:
        chosen = self._ledger.blocks[first : first + limit]
        return tuple(self._bundle(block) for block in chosen)

    def epochs(self, first: int, limit: int) -> tuple[HeaderBundle, ...]:
        closing = [block for block in self._ledger.blocks if block.header.closes_epoch]
        return tuple(self._bundle(block) for block in closing[first : first + limit])

    def cosignatures(self, epoch: int) -> tuple[tuple[Cosignature, ...], tuple[ProvenEntry, ...]]:
        if epoch not in self._ledger.cosigned:
            raise NotFound(f"epoch {epoch} hasn't ended")
        return self._ledger.cosigned[epoch]

    def _bundle(self, block: ChainBlock) -> HeaderBundle:
        return HeaderBundle(block.header, block.certificate, self._ledger.set_at(block.header.height))

    def transaction(self, transaction_hash: bytes) -> TransactionStatus:
        return self._node.transaction(transaction_hash)

    def account(self, address: Address) -> AccountView:
        value = self._ledger.get(account_key(address))
        pending = self._node.pending_nonce(address)
        if value is None:
            return AccountView(address, False, None, 0, 0, pending)
        account = Account.decode(address, value)
        return AccountView(address, True, account.public_key, account.nonce, account.balance, pending)

    def validators(self, height: int | None = None) -> ValidatorSet:
        return self._ledger.validators if height is None else self._ledger.set_at(self._at(height).header.height)

    def staking(self) -> tuple[int, StakingStanding]:
        return len(self._ledger.blocks) - 1, read_staking(self._ledger)

    def stake(self, operator: Address) -> tuple[int, StakeStanding]:
        return len(self._ledger.blocks) - 1, read_stake(self._ledger, operator)

    def validator_names(self, height: int | None = None) -> dict[Address, str]:
        return {item.address: item.name for item in self._ledger.genesis.validators}

    def state(self, key: bytes, height: int | None = None) -> bytes | None:
        if height is not None and height != len(self._ledger.blocks) - 1:
            raise NotFound(f"the state of height {height} is no longer kept")
        return self._ledger.get(key)

    def prove(self, key: bytes, height: int | None = None) -> StateProof:
        value = self.state(key, height)
        block = self._ledger.blocks[-1]
        tree = merkle.build(self._ledger.entries)
        proof = merkle.prove(tree, key)
        validators = self._ledger.set_at(block.header.height)
        return StateProof(block.header, block.certificate, validators, key, value, proof)

    def _records(self) -> list[RecordView]:
        found = []
        for key, value in sorted(self._ledger.entries.items()):
            if key.startswith(RECORD_SPACE):
                stored = StoredRecord.decode(value)
                found.append(RecordView(stored.record.subject, key, stored))
        return found

    def records(self, cursor: bytes | None = None, limit: int = 100) -> RecordPage:
        after = [view for view in self._records() if cursor is None or view.key > cursor]
        page = tuple(after[:limit])
        return RecordPage(page, page[-1].key if len(after) > limit else None)

    def records_of(self, cid: Cid) -> tuple[RecordView, ...]:
        return tuple(view for view in self._records() if view.key.startswith(record_prefix(cid)))

    def derived_from(self, cid: Cid, limit: int = 1000) -> tuple[RecordView, ...]:
        using = [view for view in self._records() if any(item.cid == cid for item in view.stored.record.inputs)]
        return tuple(using[:limit])

    def resolve(self, name: ArtefactName) -> Cid | None:
        value = self._ledger.get(name_key(name))
        return None if value is None else Cid.from_bytes(value)


class FakeBlobs:
    """See `mpisa.node.facade.Blobs`; `tamper` may change the bytes of a CAR, `uploads_broken` counts cut uploads."""

    def __init__(self) -> None:
        self.store = MemoryBlockStore()
        self.pinned: dict[Cid, PinView] = {}
        self.tamper: Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]] | None = None
        self.gate: asyncio.Event | None = None
        self.entered = asyncio.Event()
        self.uploads_open = 0
        self.full_at = 0
        self.full = asyncio.Event()
        self.uploads_broken = 0
        self.upload_ended = asyncio.Event()
        self.cars: list[CarBlocks] = []

    async def _collect(self, reader: AsyncIterator[bytes]) -> io.BytesIO:
        self.entered.set()
        self.uploads_open += 1
        if self.uploads_open == self.full_at:
            self.full.set()
        if self.gate is not None:
            await self.gate.wait()
        body = io.BytesIO()
        try:
            async for chunk in reader:
                body.write(chunk)
        except BaseException:
            self.uploads_broken += 1
            raise
        finally:
            self.uploads_open -= 1
            self.upload_ended.set()
        body.seek(0)
        return body

    async def put_stream(self, reader: AsyncIterator[bytes], *, profile: str | None = None) -> ImportResult:
        chosen = DEFAULT_PROFILE if profile is None else profile_by_name(profile)
        result = import_stream(self.store, await self._collect(reader), chosen)
        self.pinned[result.cid] = PinView(result.cid, "recursive", "")
        return result

    async def put_tar(self, reader: AsyncIterator[bytes], *, profile: str | None = None) -> ImportResult:
        chosen = DEFAULT_PROFILE if profile is None else profile_by_name(profile)
        result = import_tar(self.store, await self._collect(reader), chosen)
        self.pinned[result.cid] = PinView(result.cid, "recursive", "")
        return result

    async def put_car(self, reader: AsyncIterator[bytes]) -> CarView:
        body = await self._collect(reader)
        pipe = BytePipe(asyncio.get_running_loop(), 1 << 40)
        await pipe.feed(body.getvalue())
        pipe.finish()
        taken = take_car(self.store, pipe)
        pinned = tuple(root for root in dict.fromkeys(taken.roots) if is_whole(self.store, root))
        for root in pinned:
            self.pinned[root] = PinView(root, "recursive", "", "publish")
        self.cars.append(taken)
        return CarView(taken.roots, taken.blocks, taken.size, pinned)

    async def missing(self, cids: Sequence[Cid]) -> tuple[int, ...]:
        return missing_of(self.store, cids)

    async def check(self, cid: Cid) -> CheckView:
        found = Check(Walk([cid]))
        while not found.over:
            check_slice(self.store, found)
        named = (tuple(found.damaged_names), tuple(found.missing_names))
        return CheckView(cid, found.blocks, found.size, found.damaged, found.missing, *named)

    async def ensure(self, cid: Cid, *, progress: Callable[[int, int], None] | None = None) -> Retrieved:
        self.store.get(cid)
        return Retrieved(cid, 1, 0, 0, 0, ())

    async def block(self, cid: Cid) -> bytes:
        return self.store.get(cid)

    async def _car(self, cid: Cid) -> AsyncIterator[bytes]:
        self.store.get(cid)
        for part in export_car(self.store, cid):
            yield part

    def car(self, cid: Cid) -> AsyncIterator[bytes]:
        parts = self._car(cid)
        return parts if self.tamper is None else self.tamper(parts)

    async def stat(self, cid: Cid) -> StatView:
        found = DagReader(self.store.get).stat(cid)
        mtime_ns = found.mtime and found.mtime.seconds * 10**9 + (found.mtime.nanoseconds or 0)
        return StatView(cid, str(found.kind), found.size, found.size, 0, True, found.target, found.mode, mtime_ns)

    async def pin(self, cid: Cid, *, recursive: bool = True, name: str = "") -> PinView:
        self.store.get(cid)
        self.pinned[cid] = PinView(cid, "recursive" if recursive else "direct", name)
        return self.pinned[cid]

    async def unpin(self, cid: Cid, *, reason: str | None = None) -> None:
        if self.pinned.pop(cid, None) is None:
            raise NotFound(f"{cid} isn't pinned")

    def pins(self) -> tuple[PinView, ...]:
        return tuple(self.pinned.values())

    def local(self, cid: Cid) -> bytes | None:
        return self.store.get(cid) if self.store.has(cid) else None


def content_of(store: MemoryBlockStore) -> Content:
    """The real thing over blocks in memory; no peers are there to be asked."""
    network = MemoryNetwork(MemoryHub(), NetworkConfig(bytes(32), bytes(32), "fake"), LocalBlocks(store, print))
    executor = ThreadPoolExecutor(4, thread_name_prefix="content")
    providers = Providers(network, bytes(32))
    behind = WriteBehind(store, executor, 1 << 20)
    environment = Environment(store, network.exchange, providers, executor, 4, Counters(), behind)
    return Content(store, Retriever(environment), providers, executor)


WELL = Facts(
    home="/home",
    halted=None,
    not_ready=(),
    disk_error=None,
    disk_free=1 << 40,
    disk_total=2 << 40,
    store_used=0,
    store_max=None,
    open_files=100,
    max_files=1024,
    connected=3,
    expected_peers=3,
    reprovide_lag=0.0,
    reprovide_interval=43_200.0,
    damaged=None,
    first_damage="",
    pins=1,
    pins_checked=1,
    incomplete=(),
)
"""Of a node that has nothing to complain of."""


class FakeNode:
    """See `mpisa.node.facade.NodeFacade`."""

    def __init__(self, home: Path, ledger: FakeLedger, *, limits: Limits | None = None, hosts: tuple[str, ...] = ()):
        self.home = home
        self.ledger = ledger
        self.config = NodeConfig(
            name=home.name, api=ApiConfig(allowed_hosts=hosts), limits=limits if limits is not None else Limits()
        )
        self.pool: dict[int, bytes] = {}
        self.waiters: dict[bytes, list[asyncio.Future[TransactionStatus]]] = {}
        self.waiting = Waiting()
        self.window = 16
        self.events = EventHub()
        self.blobs = FakeBlobs()
        self.content = content_of(self.blobs.store)
        self.names = IpnsRecords(home / "ipns")
        self.chain = FakeChain(self)
        self.reasons: list[str] = []
        self.faults: tuple[LinkFault, ...] = ()
        self.collected: GcReport | None = None
        self.verified: VerifyReport | None = None
        self.known_facts = WELL
        self.peer_id = f"12D3KooW{home.name}"
        self.fault: Exception | None = None
        self.refusal: MpisaError | None = None
        self.refused = 0
        home.mkdir(parents=True, exist_ok=True)
        (home / "genesis.json").write_text(ledger.genesis.to_json())
        ledger.nodes.append(self)

    def ready(self) -> tuple[bool, list[str]]:
        return (not self.reasons, self.reasons)

    def status(self) -> NodeStatus:
        if self.fault is not None:
            raise self.fault
        height = self.ledger.blocks[-1].header.height
        return NodeStatus(
            name=self.config.name,
            version="0",
            role="validator",
            peer_id=self.peer_id,
            chain_id=CHAIN_ID,
            authority="node1",
            authority_index=0,
            epoch=0,
            api_url="",
            peer_url="",
            listen=(),
            round=height,
            commit_index=height,
            height=height,
            certified_height=height,
            mempool=len(self.pool),
            mempool_bytes=0,
            caught_up=True,
            halted=None,
            sitting_out=None,
            syncing=None,
            kept_from=1,
            ready=True,
            not_ready=(),
            started_ms=GENESIS_TIME_MS,
            blocks_held=0,
            bytes_held=0,
        )

    def peers(self) -> tuple[PeerView, ...]:
        return (PeerView("12D3KooWOther", ("/ip4/127.0.0.1/tcp/1",), 1, True, True),)

    def dag(self, rounds: int) -> DagView:
        validators = self.ledger.genesis.validators
        return DagView(
            survey_of(rounds), tuple(item.name for item in validators), tuple(item.address for item in validators), 0
        )

    def vertex(self, prefix: bytes) -> VertexView:
        for item in (vertex for number in survey_of(MAX_ROUNDS).rounds for vertex in number.vertices):
            if item.id.startswith(prefix):
                return VertexView(0, item, f"node{item.author + 1}", 300, 1, 0)
        raise NotFound("no such vertex")

    def link_faults(self) -> tuple[LinkFault, ...]:
        return self.faults

    async def set_link_faults(self, faults: Sequence[LinkFault]) -> None:
        rules_of(faults)
        self.faults = tuple(faults)

    async def collect(self, *, dry_run: bool = False) -> GcReport:
        self.collected = GcReport(5, 2, 300, 0, 1, 0 if dry_run else 300, 0, 1.5, 0.25, False, (), 0, dry_run)
        return self.collected

    async def verify(self) -> VerifyReport:
        self.verified = self.blobs.store.verify()
        return self.verified

    def verification(self) -> Verification:
        return Verification(False, 0, 0, self.verified)

    async def facts(self) -> Facts:
        return self.known_facts

    def collection(self) -> CollectionState:
        return CollectionState(False, "", 0, 0, self.collected)

    def metrics(self) -> dict[str, float]:
        return {"height": float(self.ledger.blocks[-1].header.height), "uploads_total": 3.0}

    def pending_nonce(self, address: Address) -> int:
        value = self.ledger.get(account_key(address))
        nonce = 0 if value is None else Account.decode(address, value).nonce
        taken = {
            signed.nonce
            for signed in (decode_transaction(raw).transaction for raw in self.pool.values())
            if signed.sender == address
        }
        while nonce in taken:
            nonce += 1
        return nonce

    async def report(self, headers: Sequence[tuple[Header, Certificate]]) -> tuple[OffenceView, ...]:
        if self.refusal is not None:
            self.refused += 1
            raise self.refusal
        return tuple(
            OffenceView("double-header", self.ledger.genesis.validators[index].address, header.epoch, header.height)
            for header, certificate in headers[:1]
            for index in certificate.signers()
        )

    async def submit(self, raw: bytes, wait: WaitFor | str = "accepted", timeout_s: float = 30.0) -> TransactionStatus:
        if self.refusal is not None:
            self.refused += 1
            raise self.refusal
        signed = decode_transaction(raw)
        if self.ledger.is_final(signed.hash):
            return self.transaction(signed.hash)
        waiting = [held for held in self.pool.values() if decode_transaction(held).hash == signed.hash]
        if not waiting:
            self._admit(raw, signed.transaction.sender, signed.transaction.nonce)
        if WaitFor(wait) is WaitFor.ACCEPTED:
            return TransactionStatus(signed.hash, TransactionState.ACCEPTED, raw=raw)
        future: asyncio.Future[TransactionStatus] = asyncio.get_running_loop().create_future()
        self.waiters.setdefault(signed.hash, []).append(future)
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            raise TimedOut(f"transaction {signed.hash.hex()} is not certified after {timeout_s:g} s") from None

    async def submit_many(
        self, raws: Sequence[bytes], wait: WaitFor | str = "accepted", timeout_s: float = 30.0
    ) -> list[TransactionStatus | MpisaError]:
        batch = Batch(self, len(raws), WaitFor(wait))
        await batch.run(list(raws), timeout_s)
        return [result or TimedOut(f"no answer in {timeout_s:g} s") for result in batch.results]

    @contextmanager
    def open_stream(self, wait: WaitFor | str) -> Iterator[Flow]:
        if self.fault is not None:
            raise self.fault
        flow = Flow(self, WaitFor(wait), window=self.window)
        try:
            yield flow
        finally:
            flow.close()

    async def hand_in(
        self, raw: bytes, until: WaitFor, listener: Listener, token: int
    ) -> tuple[TransactionStatus, Entry | None]:
        status = await self.submit(raw)
        if until is WaitFor.ACCEPTED or status.height is not None:
            return status, None
        return status, self.waiting.add(status.hash, until, listener, token, None)

    def forget(self, entry: Entry) -> None:
        self.waiting.forget(entry)

    def _admit(self, raw: bytes, sender: Address, nonce: int) -> None:
        pending = self.pending_nonce(sender)
        if nonce < pending:
            raise Rejection(RejectionReason.REPLAYED, f"nonce {nonce} is taken, the next free one is {pending}")
        if nonce > pending + MAX_POOL_GAP:
            raise Rejection(RejectionReason.NONCE_GAP, f"nonce {nonce} is too far ahead of {pending}")
        validate_for_submission(self.ledger, raw, self.ledger.context(), pending_nonce=max(pending, nonce))
        self.pool[len(self.pool)] = raw
        self.ledger.schedule()

    def executed(self, block: ChainBlock) -> None:
        self.events.publish(EventKind.BLOCK, {"height": block.header.height})
        self.events.publish(EventKind.CERTIFIED, {"height": block.header.height})
        for receipt in block.receipts:
            for future in self.waiters.pop(receipt.tx_hash, ()):
                if not future.done():
                    future.set_result(self.transaction(receipt.tx_hash))
            if self.waiting.is_waited_for(receipt.tx_hash):
                status = self.transaction(receipt.tx_hash)
                if status.status is TransactionState.CERTIFIED:
                    status = replace(status, status=TransactionState.ORDERED)
                self.waiting.ordered(status)
        self.waiting.certified(block.header.height)

    def transaction(self, transaction_hash: bytes) -> TransactionStatus:
        place = self.ledger.places.get(transaction_hash)
        if place is None:
            for raw in self.pool.values():
                if decode_transaction(raw).hash == transaction_hash:
                    return TransactionStatus(transaction_hash, TransactionState.ACCEPTED, raw=raw)
            raise NotFound(f"transaction {transaction_hash.hex()} is neither on the chain nor waiting here")
        height, index = place
        block = self.ledger.blocks[height]
        receipt: Receipt = block.receipts[index]
        rejected = receipt.status is ReceiptStatus.REJECTED
        state = TransactionState.REJECTED if rejected else TransactionState.CERTIFIED
        return TransactionStatus(transaction_hash, state, height, index, receipt, block.transactions[index])
