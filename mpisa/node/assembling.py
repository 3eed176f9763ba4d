"""Putting the parts of one node together: stores, engine, network, tasks, in the order in which they may start.

Everything that must be closed is registered on one AsyncExitStack, so that stopping is the exact reverse of starting:
tasks, network, threads, stores, lock. Here each function makes one part. Non-goals: what the parts do.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog

from consensus.events import CertificateReceived
from mpisa.network.ports import PeerId
from mpisa.node.behind import Shells, Stores, assemble_behind
from mpisa.node.blobs import BlobStore, LocalBlocks
from mpisa.node.certificates import CertificateKeeper
from mpisa.node.chain_view import Chain
from mpisa.node.collecting import Collecting
from mpisa.node.consensus_store import ConsensusStore
from mpisa.node.content import READING_THREADS, Content
from mpisa.node.cosigning import Cosigning
from mpisa.node.evidence import EvidenceKeeper
from mpisa.node.execution import Execution
from mpisa.node.forwarding import Forwarding
from mpisa.node.freshness import Freshness
from mpisa.node.halting import Halts
from mpisa.node.helm import Helm
from mpisa.node.inbox import Inbox
from mpisa.node.inspecting import Inspecting
from mpisa.node.ipns_records import IpnsRecords
from mpisa.node.links import Links
from mpisa.node.mempool import Mempool, MempoolLimits
from mpisa.node.ordering import Ordering
from mpisa.node.providers import Providers
from mpisa.node.providing import Providing
from mpisa.node.publishing import MAX_UPLOADS, Publishing
from mpisa.node.reactions import Reactions
from mpisa.node.rebuild import Rebuild
from mpisa.node.retrieval import Counters as RetrievalCounters
from mpisa.node.retrieval import Environment, Retriever
from mpisa.node.runtime import Runtime, address_of, epochs_of, network_config, open_ledger, validate_keys
from mpisa.node.stages import Stages
from mpisa.node.standing import Standing
from mpisa.node.submission import Submissions
from mpisa.node.transaction_cache import TransactionCache
from mpisa.node.write_behind import WriteBehind
from mpisa.primitives.identifiers import Height
from storage.gc import Collector
from storage.packs import DiskBlockStore
from storage.pins import PinStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AsyncExitStack

    from consensus.parameters import Parameters
    from mpisa.config import Limits
    from mpisa.network.ports import BlockSource, Network, NetworkConfig
    from mpisa.node.behind import Behind
    from mpisa.node.chain_store import ChainStore
    from mpisa.node.clock import Clock
    from mpisa.node.epochs import Epochs
    from mpisa.node.events import EventHub
    from mpisa.node.runtime import Setup
    from mpisa.primitives.header import Certificate

BLOB_THREADS = 4
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Frame:
    """What any part may need, and the stack for what must be closed."""

    stack: AsyncExitStack
    setup: Setup
    parameters: Parameters
    events: EventHub
    clock: Clock
    stages: Stages

    def threads(self, count: int, name: str) -> ThreadPoolExecutor:
        """Threads that end with the node; work that hasn't begun by then is dropped."""
        executor = ThreadPoolExecutor(count, thread_name_prefix=name)
        self.stack.callback(executor.shutdown, wait=True, cancel_futures=True)
        return executor


@dataclass(frozen=True, slots=True)
class Kept:
    """The stores of a home, open, and the one thread that writes ledger and vertices."""

    ledger: ChainStore
    vertices: ConsensusStore
    blocks: DiskBlockStore
    pins: PinStore
    writer: ThreadPoolExecutor


@dataclass(frozen=True, slots=True)
class Recovered:
    """What goes on from where the stores end."""

    epochs: Epochs
    transactions: TransactionCache
    execution: Execution
    halts: Halts
    inbox: Inbox
    helm: Helm


@dataclass(frozen=True, slots=True)
class Moving:
    """What moves bytes in and out."""

    providers: Providers
    publishing: Publishing
    retrieval: RetrievalCounters
    retriever: Retriever
    blobs: BlobStore
    content: Content


async def assemble(
    stack: AsyncExitStack,
    setup: Setup,
    make_network: Callable[[NetworkConfig, BlockSource], Network],
    events: EventHub,
    clock: Clock,
    parameters: Parameters,
    stopping: Callable[[], bool],
) -> Runtime:
    """Opens the stores, rebuilds the ledger where it is far behind the vertices, recovers consensus and wires the
    parts; the network isn't started yet.
    """
    frame = Frame(stack, setup, parameters, events, clock, Stages())
    kept = await _open_stores(frame)
    recovered = await _recover(frame, kept, stopping)
    network = make_network(network_config(setup), LocalBlocks(kept.blocks, _report_damage))
    return _wire(frame, kept, recovered, network)


async def _open_stores(frame: Frame) -> Kept:
    stack, home = frame.stack, frame.setup.home
    ledger = await asyncio.get_running_loop().run_in_executor(None, open_ledger, frame.setup)
    stack.callback(ledger.close)
    vertices = ConsensusStore(home.consensus)
    stack.callback(vertices.close)
    blocks = DiskBlockStore.open(home.blocks, max_bytes=frame.setup.config.limits.store_bytes or None)
    stack.callback(blocks.close)
    pins = PinStore(home.pins)
    stack.callback(pins.close)
    return Kept(ledger, vertices, blocks, pins, frame.threads(1, "writer"))


async def _recover(frame: Frame, kept: Kept, stopping: Callable[[], bool]) -> Recovered:
    """A node that has halted executes nothing, so its ledger isn't rebuilt."""
    setup, parameters, loop = frame.setup, frame.parameters, asyncio.get_running_loop()
    transactions = TransactionCache(stages=frame.stages)
    execution = Execution(kept.ledger, setup.ring.signer_among, kept.writer, transactions, parameters, frame.stages)
    epochs = epochs_of(setup, parameters, kept.ledger, kept.vertices)
    rebuild = Rebuild(epochs, parameters, kept.ledger, kept.vertices, execution)
    halts = Halts(setup.home.path, frame.clock.now_ms)
    if halts.record is None:
        await loop.run_in_executor(kept.writer, rebuild.run, stopping)
    validate_keys(setup, epochs.record(epochs.next_block))
    inbox = Inbox()
    helm = Helm(epochs, await loop.run_in_executor(None, epochs.recover), inbox)
    return Recovered(epochs, transactions, execution, halts, inbox, helm)


def _wire(frame: Frame, kept: Kept, recovered: Recovered, network: Network) -> Runtime:
    setup, parameters, store, helm = frame.setup, frame.parameters, kept.ledger, recovered.helm
    moving = _make_moving(frame, kept, network)
    pool = _make_pool(setup.config.limits)
    submissions = _make_submissions(frame, store, recovered, pool)
    links = _make_links(frame, kept.vertices, recovered.inbox, network)
    forwarding = Forwarding(network, helm, links, submissions.accept, pool)
    cosigning = Cosigning(network, store, [key for key in (setup.ring.keys.post_quantum,) if key is not None])
    reader = frame.threads(1, "reader")
    providing = Providing(network, store, kept.vertices, setup.config.history, parameters, reader)
    freshness = Freshness(lambda height: store.header(height).time_ms, frame.clock.now_ms)
    certified = partial(_certified, store, freshness, providing, cosigning)
    certificates = CertificateKeeper(network, store, lambda *added: _certificate_added(reactions, recovered, *added))
    reactions = Reactions(
        store,
        submissions,
        frame.events,
        certificates,
        providing.executed,
        certified,
        forwarding,
        recovered.halts,
    )
    ordering = _make_ordering(frame, kept, recovered, links, reactions)
    behind = _make_behind(frame, kept, recovered, network, ordering, reactions, providing)
    _open_links(setup, recovered, links)
    return Runtime(
        parameters=parameters,
        store=store,
        vertices=kept.vertices,
        blocks=kept.blocks,
        network=network,
        epochs=recovered.epochs,
        helm=helm,
        inbox=recovered.inbox,
        links=links,
        pool=pool,
        submissions=submissions,
        execution=recovered.execution,
        reactions=reactions,
        certificates=certificates,
        providing=providing,
        cosigning=cosigning,
        standing=_make_standing(setup, store, recovered.epochs, network, certificates),
        forwarding=forwarding,
        ordering=ordering,
        behind=behind,
        providers=moving.providers,
        publishing=moving.publishing,
        retrieval=moving.retrieval,
        retriever=moving.retriever,
        blobs=moving.blobs,
        content=moving.content,
        names=IpnsRecords(setup.home.ipns),
        collecting=_make_collecting(frame, kept, moving.blobs),
        inspecting=Inspecting(kept.blocks, kept.pins, frame.threads(1, "inspector")),
        chain=Chain(store, setup.genesis, setup.genesis_text, submissions),
        stages=frame.stages,
        freshness=freshness,
    )


def _make_moving(frame: Frame, kept: Kept, network: Network) -> Moving:
    limits = frame.setup.config.limits
    threads = frame.threads(BLOB_THREADS, "blobs")
    providers = Providers(network, frame.setup.genesis.chain_hash)
    publishing = Publishing(kept.blocks, frame.threads(MAX_UPLOADS, "uploads"), limits.upload_bytes)
    counters = RetrievalCounters()
    behind = WriteBehind(kept.blocks, threads, limits.retrieval_window_bytes)
    retriever = Retriever(
        Environment(kept.blocks, network.exchange, providers, threads, limits.retrieval_concurrency, counters, behind)
    )
    blobs = BlobStore(kept.blocks, kept.pins, publishing, retriever, providers, frame.events, threads)
    content = Content(kept.blocks, retriever, providers, frame.threads(READING_THREADS, "content"))
    return Moving(providers, publishing, counters, retriever, blobs, content)


def _make_collecting(frame: Frame, kept: Kept, blobs: BlobStore) -> Collecting:
    limits, home = frame.setup.config.limits, frame.setup.home
    collector = Collector(
        kept.blocks,
        kept.pins,
        clock=time.time,  # as files have it
        grace_s=limits.gc_grace_ms / 1000,
        scratch=home.marks,
    )
    executor = frame.threads(1, "collector")
    return Collecting(kept.blocks, collector, executor, home.blocks, limits.gc_high_water_percent, blobs.let_go)


def _make_pool(limits: Limits) -> Mempool:
    return Mempool(
        MempoolLimits(
            limits.mempool_transactions, limits.mempool_bytes, limits.mempool_per_account, limits.mempool_nonce_gap
        )
    )


def _make_submissions(frame: Frame, store: ChainStore, recovered: Recovered, pool: Mempool) -> Submissions:
    limits = frame.setup.config.limits
    return Submissions(
        store,
        pool,
        recovered.transactions,
        frame.clock,
        limits.certification_lag,
        limits.certification_stall_ms,
        limits.mempool_nonce_gap,
        recovered.inbox.post_payload_waiting,
        frame.stages,
        recovered.execution.accounts,
    )


def _make_links(frame: Frame, vertices: ConsensusStore, inbox: Inbox, network: Network) -> Links:
    verifier = frame.threads(1, "verifier")
    where = partial(address_of, frame.setup)
    return Links(network, frame.parameters, vertices, inbox, verifier, where, frame.stages)


def _open_links(setup: Setup, recovered: Recovered, links: Links) -> None:
    """To the validators of every epoch that is open after a restart."""
    for epoch, jurisdiction in recovered.helm.succession.jurisdictions.items():
        named = [PeerId(item.peer_id) for item in recovered.epochs.record(epoch).validators]
        seat = setup.ring.seat_in(jurisdiction.committee)
        links.open(jurisdiction, named, has_seat=seat is not None)


def _make_standing(
    setup: Setup, store: ChainStore, epochs: Epochs, network: Network, certificates: CertificateKeeper
) -> Standing:
    return Standing(
        network,
        lambda: epochs.record(epochs.next_block),
        setup.ring,
        lambda: store.certified_height,
        certificates.held_by_others,
    )


def _make_ordering(frame: Frame, kept: Kept, recovered: Recovered, links: Links, reactions: Reactions) -> Ordering:
    return Ordering(
        recovered.helm,
        recovered.epochs,
        recovered.inbox,
        kept.vertices,
        kept.writer,
        recovered.execution,
        links,
        reactions,
        frame.setup.ring,
        frame.clock,
        frame.parameters.max_payload_bytes,
        EvidenceKeeper(kept.vertices, kept.ledger, frame.parameters),
        frame.stages,
    )


def _make_behind(
    frame: Frame,
    kept: Kept,
    recovered: Recovered,
    network: Network,
    ordering: Ordering,
    reactions: Reactions,
    providing: Providing,
) -> Behind:
    setup = frame.setup
    return assemble_behind(
        setup.home,
        setup.config.history,
        setup.genesis,
        setup.ring,
        Stores(kept.ledger, kept.vertices, recovered.epochs, recovered.execution, kept.writer),
        Shells(network, recovered.helm, recovered.inbox, ordering.durably, reactions, frame.clock),
        frame.parameters,
        providing,
        frame.threads(1, "checker"),
    )


def _certified(
    store: ChainStore, freshness: Freshness, providing: Providing, cosigning: Cosigning, height: int
) -> None:
    freshness.certified(height)
    providing.certified(height)
    if store.header(height).closes_epoch:
        cosigning.look()


def _certificate_added(reactions: Reactions, recovered: Recovered, height: int, certificate: Certificate) -> None:
    reactions.certificate_added(height)
    recovered.inbox.post(CertificateReceived(Height(height), certificate))


def _report_damage(error: Exception) -> None:
    log.error("a stored block is damaged", error=str(error))
