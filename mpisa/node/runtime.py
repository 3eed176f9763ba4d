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

from consensus.dag.committee import Authority, Committee
from consensus.dag.vertex import Vertex, decode_vertex
from consensus.engine import Engine
from consensus.events import ProposalRecord, StoredEpoch
from consensus.identity import Seat
from consensus.order.checkpoint import decode_cursor
from consensus.order.epoch import start_behind
from consensus.parameters import Parameters
from mpisa._version import __version__
from mpisa.network.ports import NetworkConfig, PeerAddress, PeerId
from mpisa.node.blobs import BlobStore, LocalBlocks
from mpisa.node.certificates import CertificateKeeper
from mpisa.node.chain_store import ChainStore
from mpisa.node.chain_view import Chain
from mpisa.node.consensus_store import ConsensusStore
from mpisa.node.execution import Execution, SignatureCache
from mpisa.node.forwarding import Forwarding
from mpisa.node.home import Home
from mpisa.node.inbox import Inbox
from mpisa.node.links import Links
from mpisa.node.mempool import Mempool, MempoolLimits
from mpisa.node.ordering import Ordering
from mpisa.node.providers import Providers
from mpisa.node.publishing import MAX_UPLOADS, Publishing
from mpisa.node.reactions import Reactions
from mpisa.node.rebuild import Chain as RebuiltChain
from mpisa.node.rebuild import Rebuild
from mpisa.node.retrieval import Counters as RetrievalCounters
from mpisa.node.retrieval import Environment, Retriever
from mpisa.node.serving import Serving
from mpisa.node.stages import Stages
from mpisa.node.standing import Standing
from mpisa.node.submission import Submissions
from mpisa.primitives.errors import InvalidConfig
from mpisa.primitives.genesis_state import genesis_header, genesis_state
from mpisa.primitives.identifiers import AuthorityIndex, Round
from storage.packs import DiskBlockStore
from storage.pins import PinStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mpisa.config import NodeConfig
    from mpisa.network.ports import BlockSource, Network
    from mpisa.node.clock import Clock
    from mpisa.node.events import EventHub
    from mpisa.node.home import NodeKeys
    from mpisa.primitives.genesis import Genesis
    from storage.blockstore import BlockStore

BLOB_THREADS = 4
MAX_RECOVERED_ROUNDS = 2_048
"""Rounds above the ledger's GC round that the engine is given at the start."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Setup:
    """What was read from a home before anything was opened."""

    home: Home
    config: NodeConfig
    genesis: Genesis
    genesis_text: str
    keys: NodeKeys
    own: AuthorityIndex | None


@dataclass(frozen=True, slots=True)
class Runtime:
    """The parts of a node that has been put together."""

    committee: Committee
    parameters: Parameters
    store: ChainStore
    vertices: ConsensusStore
    blocks: BlockStore
    network: Network
    engine: Engine
    inbox: Inbox
    links: Links
    pool: Mempool
    submissions: Submissions
    execution: Execution
    reactions: Reactions
    certificates: CertificateKeeper
    serving: Serving
    standing: Standing
    forwarding: Forwarding
    ordering: Ordering
    providers: Providers
    publishing: Publishing
    retrieval: RetrievalCounters
    retriever: Retriever
    blobs: BlobStore
    chain: Chain
    stages: Stages


def committee_of(genesis: Genesis) -> Committee:
    """The first epoch's authorities, ascending by address."""
    return Committee(
        [
            Authority(AuthorityIndex(index), item.address, item.power, item.consensus_key, item.name)
            for index, item in enumerate(genesis.validators)
        ]
    )


def own_index(genesis: Genesis, keys: NodeKeys, home: Home) -> AuthorityIndex | None:
    """Which authority these keys are; None for a follower. Raises InvalidConfig for keys the genesis doesn't name."""
    if keys.consensus is None or keys.certificate is None:
        return None
    for index, item in enumerate(genesis.validators):
        if item.address == keys.certificate.public_key.address:
            if item.consensus_key != keys.consensus.public_key.data:
                raise InvalidConfig(
                    f"{home.keys / 'consensus.json'}: its key isn't the one that the genesis names for {item.name}",
                    hint="restore the key file this validator was registered with",
                )
            return AuthorityIndex(index)
    raise InvalidConfig(
        f"{home.keys / 'certificate.json'}: the genesis names no validator with this key",
        hint='set role = "follower" in config.toml, or use the keys this validator was registered with',
    )


def read_setup(path: Path, passphrase: bytes | None = None) -> Setup:
    """Settings, genesis and keys of a home; opens no store. Raises InvalidConfig, NotFound or Denied."""
    place = Home(path)
    config = place.read_config()
    text = place.read_genesis_text()
    genesis = place.read_genesis()
    keys = place.read_keys(config.role, passphrase)
    return Setup(place, config, genesis, text, keys, own_index(genesis, keys, place))


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


def authority_addresses(setup: Setup) -> list[PeerAddress]:
    """Where the authorities are, as far as the settings say; the rest is learnt when they connect."""
    known = {entry.peer_id: entry for entry in setup.config.peer.peers}
    addresses = []
    for item in setup.genesis.validators:
        entry = known.get(item.peer_id)
        addresses.append(
            PeerAddress(PeerId(item.peer_id))
            if entry is None
            else PeerAddress(PeerId(item.peer_id), entry.multiaddrs, entry.peer_url)
        )
    return addresses


def _threads(stack: AsyncExitStack, count: int, name: str) -> ThreadPoolExecutor:
    executor = ThreadPoolExecutor(count, thread_name_prefix=name)
    stack.callback(executor.shutdown, wait=True, cancel_futures=True)
    return executor


def _stored(vertices: ConsensusStore, lowest: int, parameters: Parameters) -> Iterator[Vertex]:
    """What the engine begins with; vertices were verified before they were kept. Where the ledger couldn't be brought
    near the latest of them, something is missing in between: those far above come again from the peers.
    """
    for raw in vertices.all_from(lowest):
        vertex = decode_vertex(raw, parameters)
        if vertex.round > lowest + MAX_RECOVERED_ROUNDS:
            return
        yield vertex


def recover_engine(
    setup: Setup, committee: Committee, parameters: Parameters, store: ChainStore, vertices: ConsensusStore
) -> Engine:
    proposal = vertices.proposal()
    cursor = store.cursor
    lowest = 0 if cursor is None else decode_cursor(cursor).gc_round(parameters.gc_depth)
    seat = None if setup.own is None or setup.keys.consensus is None else Seat(setup.own, setup.keys.consensus)
    stored = StoredEpoch(
        cursor,
        _stored(vertices, lowest, parameters),
        None if proposal is None else ProposalRecord(Round(proposal[0]), proposal[1]),
        lost=setup.home.read_loss(),
    )
    return Engine.recover(parameters, setup.genesis.chain_hash, start_behind(store.header(0), committee), seat, stored)


async def assemble(
    stack: AsyncExitStack,
    setup: Setup,
    make_network: Callable[[NetworkConfig, BlockSource], Network],
    events: EventHub,
    clock: Clock,
    parameters: Parameters,
    stopping: Callable[[], bool],
) -> Runtime:
    """Opens the stores, rebuilds the ledger where it is far behind the vertices, recovers the engine and wires the
    parts; the network isn't started yet.
    """
    genesis, limits = setup.genesis, setup.config.limits
    loop = asyncio.get_running_loop()
    store = await loop.run_in_executor(
        None, ChainStore.open, setup.home.ledger, genesis_header(genesis), genesis_state(genesis), genesis.hash
    )
    stack.callback(store.close)
    vertices = ConsensusStore(setup.home.consensus)
    stack.callback(vertices.close)
    blocks = DiskBlockStore.open(setup.home.blocks, max_bytes=limits.store_bytes or None)
    stack.callback(blocks.close)
    pins = PinStore(setup.home.pins)
    stack.callback(pins.close)
    committee = committee_of(genesis)
    writer = _threads(stack, 1, "writer")
    stages = Stages()
    signatures = SignatureCache(stages=stages)
    key = None if setup.own is None else setup.keys.certificate
    execution = Execution(store, genesis.validator_set.hash, key, writer, signatures, stages)
    rebuild = Rebuild(RebuiltChain(genesis, committee, parameters), store, vertices, execution)
    await loop.run_in_executor(writer, rebuild.run, stopping)
    engine = await loop.run_in_executor(None, recover_engine, setup, committee, parameters, store, vertices)

    network = make_network(network_config(setup), LocalBlocks(blocks, _report_damage))
    verifier = _threads(stack, 1, "verifier")
    blob_threads = _threads(stack, BLOB_THREADS, "blobs")
    uploads = _threads(stack, MAX_UPLOADS, "uploads")

    inbox = Inbox()
    pool = Mempool(
        MempoolLimits(
            limits.mempool_transactions, limits.mempool_bytes, limits.mempool_per_account, limits.mempool_nonce_gap
        )
    )
    submissions = Submissions(
        store,
        pool,
        signatures,
        clock,
        limits.certification_lag,
        limits.mempool_nonce_gap,
        inbox.post_payload_waiting,
        stages,
    )
    peers = [PeerId(item.peer_id) for item in genesis.validators]
    links = Links(network, peers, committee, genesis.chain_hash, parameters, vertices, inbox, verifier, stages)
    certificates = CertificateKeeper(
        network, store, genesis.validator_set, lambda height: reactions.certificate_added(height)
    )
    serving = Serving(network, store, vertices, parameters, _threads(stack, 1, "reader"))
    reactions = Reactions(store, submissions, events, certificates, serving.certified)
    standing = Standing(
        network, committee, setup.own, peers, lambda: store.certified_height, certificates.held_by_others
    )
    forwarding = Forwarding(network, peers, submissions.accept)
    ordering = Ordering(
        engine, inbox, vertices, writer, execution, links, reactions, clock, parameters.max_payload_bytes, stages
    )
    providers = Providers(network, genesis.chain_hash)
    publishing = Publishing(blocks, uploads, limits.upload_bytes)
    counters = RetrievalCounters()
    retriever = Retriever(
        Environment(blocks, network.exchange, providers, blob_threads, limits.retrieval_concurrency, counters)
    )
    blobs = BlobStore(blocks, pins, publishing, retriever, providers, events, blob_threads)
    chain = Chain(store, genesis, setup.genesis_text, submissions)
    return Runtime(
        committee,
        parameters,
        store,
        vertices,
        blocks,
        network,
        engine,
        inbox,
        links,
        pool,
        submissions,
        execution,
        reactions,
        certificates,
        serving,
        standing,
        forwarding,
        ordering,
        providers,
        publishing,
        counters,
        retriever,
        blobs,
        chain,
        stages,
    )


def _report_damage(error: Exception) -> None:
    log.error("a stored block is damaged", error=str(error))
