"""Putting the parts of one node together: stores, engine, network, tasks, in the order in which they may start.

Everything that must be closed is registered on one AsyncExitStack, so that stopping is the exact reverse of starting:
tasks, network, threads, stores, lock. Non-goals: what the parts do.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from consensus.events import CertificateReceived
from consensus.parameters import Parameters
from mpisa._version import __version__
from mpisa.network.ports import NetworkConfig, PeerAddress, PeerId
from mpisa.node.behind import Behind, Shells, Stores, assemble_behind
from mpisa.node.blobs import BlobStore, LocalBlocks
from mpisa.node.certificates import CertificateKeeper
from mpisa.node.chain_store import ChainStore, settle_replacement
from mpisa.node.chain_view import Chain
from mpisa.node.consensus_store import ConsensusStore
from mpisa.node.cosigning import Cosigning
from mpisa.node.epochs import Epochs
from mpisa.node.evidence import EvidenceKeeper
from mpisa.node.execution import Execution
from mpisa.node.forwarding import Forwarding
from mpisa.node.freshness import Freshness
from mpisa.node.halting import Halts
from mpisa.node.helm import Helm
from mpisa.node.home import Home
from mpisa.node.inbox import Inbox
from mpisa.node.key_ring import KeyRing
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
from mpisa.node.stages import Stages
from mpisa.node.standing import Standing
from mpisa.node.submission import Submissions
from mpisa.node.transaction_cache import TransactionCache
from mpisa.primitives.errors import InvalidConfig
from mpisa.primitives.genesis_state import genesis_header, genesis_state
from mpisa.primitives.identifiers import Height
from storage.packs import DiskBlockStore
from storage.pins import PinStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mpisa.config import NodeConfig
    from mpisa.network.ports import BlockSource, Network
    from mpisa.node.clock import Clock
    from mpisa.node.epoch_record import EpochRecord
    from mpisa.node.events import EventHub
    from mpisa.node.home import NodeKeys
    from mpisa.primitives.genesis import Genesis
    from mpisa.primitives.header import Certificate
    from storage.blockstore import BlockStore

BLOB_THREADS = 4
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Setup:
    """What was read from a home before anything was opened."""

    home: Home
    config: NodeConfig
    genesis: Genesis
    genesis_text: str
    ring: KeyRing

    @property
    def keys(self) -> NodeKeys:
        """What is held now."""
        return self.ring.keys


@dataclass(frozen=True, slots=True)
class Runtime:
    """The parts of a node that has been put together."""

    parameters: Parameters
    store: ChainStore
    vertices: ConsensusStore
    blocks: BlockStore
    network: Network
    epochs: Epochs
    helm: Helm
    inbox: Inbox
    links: Links
    pool: Mempool
    submissions: Submissions
    execution: Execution
    reactions: Reactions
    certificates: CertificateKeeper
    providing: Providing
    cosigning: Cosigning
    standing: Standing
    forwarding: Forwarding
    ordering: Ordering
    behind: Behind
    providers: Providers
    publishing: Publishing
    retrieval: RetrievalCounters
    retriever: Retriever
    blobs: BlobStore
    chain: Chain
    stages: Stages
    freshness: Freshness


def read_setup(path: Path, passphrase: bytes | None = None) -> Setup:
    """Settings, genesis and keys of a home; opens no store. Raises InvalidConfig, NotFound or Denied."""
    place = Home(path)
    config = place.read_config()
    text = place.read_genesis_text()
    genesis = place.read_genesis()
    ring = KeyRing(place, place.read_keys(config.role, passphrase), passphrase)
    return Setup(place, config, genesis, text, ring)


def network_config(setup: Setup) -> NetworkConfig:
    """What the network needs to know of this node."""
    peer = setup.config.peer
    bootstrap = [f"{address}/p2p/{entry.peer_id}" for entry in peer.peers for address in entry.multiaddrs]
    return NetworkConfig(
        identity_seed=setup.keys.node.seed,
        chain_hash=setup.genesis.chain_hash,
        version=__version__,
        host=peer.host,
        libp2p_port=peer.libp2p_port,
        peer_port=peer.port,
        announce_host=peer.announce_host,
        bootstrap=tuple(bootstrap),
        peer_store=setup.home.peer_store,
        reprovide_interval=peer.reprovide_interval_ms / 1000,
    )


def address_of(setup: Setup, peer: PeerId) -> PeerAddress:
    """Where a peer is, as far as the settings say; the rest is learnt when it connects."""
    for entry in setup.config.peer.peers:
        if entry.peer_id == peer:
            return PeerAddress(peer, entry.multiaddrs, entry.peer_url)
    return PeerAddress(peer)


def _threads(stack: AsyncExitStack, count: int, name: str) -> ThreadPoolExecutor:
    executor = ThreadPoolExecutor(count, thread_name_prefix=name)
    stack.callback(executor.shutdown, wait=True, cancel_futures=True)
    return executor


def validate_keys(setup: Setup, record: EpochRecord) -> None:
    """Raises InvalidConfig where the present validators name this node's certificate key with a vertex key that it
    lacks. A node whose keys they don't name at all runs along until they do.
    """
    keys = setup.keys
    held = [key.public_key.data for key in (keys.consensus, keys.next_consensus) if key is not None]
    for item in record.validators:
        if item.address in keys.identity.addresses and item.consensus_key not in held:
            raise InvalidConfig(
                f"{setup.home.keys / 'consensus.json'}: its key isn't the one that epoch {record.epoch} names for "
                f"{item.name}",
                hint="restore the key file this validator was registered with, or keep the new one as "
                "next-consensus.json beside it",
            )


def open_ledger(setup: Setup) -> ChainStore:
    """Raises what ChainStore.open does."""
    genesis = setup.genesis
    settle_replacement(setup.home.ledger, setup.home.snapshot)
    return ChainStore.open(setup.home.ledger, genesis_header(genesis), genesis_state(genesis), genesis.hash)


def epochs_of(setup: Setup, parameters: Parameters, store: ChainStore, vertices: ConsensusStore) -> Epochs:
    """The epochs of a home's stores, seen with its keys."""
    return Epochs(store, vertices, parameters, setup.ring, setup.home.read_loss())


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
    genesis, limits = setup.genesis, setup.config.limits
    loop = asyncio.get_running_loop()
    store = await loop.run_in_executor(None, open_ledger, setup)
    stack.callback(store.close)
    vertices = ConsensusStore(setup.home.consensus)
    stack.callback(vertices.close)
    blocks = DiskBlockStore.open(setup.home.blocks, max_bytes=limits.store_bytes or None)
    stack.callback(blocks.close)
    pins = PinStore(setup.home.pins)
    stack.callback(pins.close)
    writer = _threads(stack, 1, "writer")
    stages = Stages()
    transactions = TransactionCache(stages=stages)
    execution = Execution(store, setup.ring.signer_among, writer, transactions, parameters, stages)
    epochs = epochs_of(setup, parameters, store, vertices)
    rebuild = Rebuild(epochs, parameters, store, vertices, execution)
    halts = Halts(setup.home.path, clock.now_ms)
    if halts.record is None:
        await loop.run_in_executor(writer, rebuild.run, stopping)
    validate_keys(setup, epochs.record(epochs.next_block))
    inbox = Inbox()
    helm = Helm(epochs, await loop.run_in_executor(None, epochs.recover), inbox)

    network = make_network(network_config(setup), LocalBlocks(blocks, _report_damage))
    verifier = _threads(stack, 1, "verifier")
    blob_threads = _threads(stack, BLOB_THREADS, "blobs")
    uploads = _threads(stack, MAX_UPLOADS, "uploads")

    pool = Mempool(
        MempoolLimits(
            limits.mempool_transactions, limits.mempool_bytes, limits.mempool_per_account, limits.mempool_nonce_gap
        )
    )
    submissions = Submissions(
        store,
        pool,
        transactions,
        clock,
        limits.certification_lag,
        limits.certification_stall_ms,
        limits.mempool_nonce_gap,
        inbox.post_payload_waiting,
        stages,
        execution.accounts,
    )
    links = Links(network, parameters, vertices, inbox, verifier, lambda peer: address_of(setup, peer), stages)
    forwarding = Forwarding(network, helm, links, submissions.accept, pool)
    certificates = CertificateKeeper(network, store, lambda *added: _certificate_added(reactions, inbox, *added))
    cosigning = Cosigning(network, store, [key for key in (setup.ring.keys.post_quantum,) if key is not None])
    providing = Providing(network, store, vertices, setup.config.history, parameters, _threads(stack, 1, "reader"))

    freshness = Freshness(lambda height: store.header(height).time_ms, clock.now_ms)

    def on_certified(height: int) -> None:
        freshness.certified(height)
        providing.certified(height)
        if store.header(height).closes_epoch:
            cosigning.look()

    reactions = Reactions(store, submissions, events, certificates, providing.executed, on_certified, forwarding, halts)
    standing = Standing(
        network,
        lambda: epochs.record(epochs.next_block),
        setup.ring,
        lambda: store.certified_height,
        certificates.held_by_others,
    )
    ordering = Ordering(
        helm,
        epochs,
        inbox,
        vertices,
        writer,
        execution,
        links,
        reactions,
        setup.ring,
        clock,
        parameters.max_payload_bytes,
        EvidenceKeeper(vertices, store, parameters),
        stages,
    )
    behind = assemble_behind(
        setup.home,
        setup.config.history,
        genesis,
        setup.ring,
        Stores(store, vertices, epochs, execution, writer),
        Shells(network, helm, inbox, ordering.durably, reactions, clock),
        parameters,
        providing,
        _threads(stack, 1, "checker"),
    )
    for epoch, jurisdiction in helm.succession.jurisdictions.items():
        named = [PeerId(item.peer_id) for item in epochs.record(epoch).validators]
        seat = setup.ring.seat_in(jurisdiction.committee)
        links.open(jurisdiction, named, has_seat=seat is not None)
    providers = Providers(network, genesis.chain_hash)
    publishing = Publishing(blocks, uploads, limits.upload_bytes)
    counters = RetrievalCounters()
    retriever = Retriever(
        Environment(blocks, network.exchange, providers, blob_threads, limits.retrieval_concurrency, counters)
    )
    blobs = BlobStore(blocks, pins, publishing, retriever, providers, events, blob_threads)
    chain = Chain(store, genesis, setup.genesis_text, submissions)
    return Runtime(
        parameters,
        store,
        vertices,
        blocks,
        network,
        epochs,
        helm,
        inbox,
        links,
        pool,
        submissions,
        execution,
        reactions,
        certificates,
        providing,
        cosigning,
        standing,
        forwarding,
        ordering,
        behind,
        providers,
        publishing,
        counters,
        retriever,
        blobs,
        chain,
        stages,
        freshness,
    )


def _report_damage(error: Exception) -> None:
    log.error("a stored block is damaged", error=str(error))


def _certificate_added(reactions: Reactions, inbox: Inbox, height: int, certificate: Certificate) -> None:
    reactions.certificate_added(height)
    inbox.post(CertificateReceived(Height(height), certificate))
