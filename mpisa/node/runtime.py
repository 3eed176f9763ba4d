"""What a node is made from, its `Setup`, and what it is made of, its `Runtime`; `assembling` makes one of the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mpisa._version import __version__
from mpisa.network.ports import NetworkConfig, PeerAddress, PeerId
from mpisa.node.chain_store import ChainStore, settle_replacement
from mpisa.node.epochs import Epochs
from mpisa.node.home import Home
from mpisa.node.key_ring import KeyRing
from mpisa.primitives.errors import InvalidConfig
from mpisa.primitives.genesis_state import genesis_header, genesis_state

if TYPE_CHECKING:
    from pathlib import Path

    from consensus.parameters import Parameters
    from mpisa.config import NodeConfig
    from mpisa.network.ports import Network
    from mpisa.node.behind import Behind
    from mpisa.node.blobs import BlobStore
    from mpisa.node.certificates import CertificateKeeper
    from mpisa.node.chain_view import Chain
    from mpisa.node.collecting import Collecting
    from mpisa.node.consensus_store import ConsensusStore
    from mpisa.node.content import Content
    from mpisa.node.cosigning import Cosigning
    from mpisa.node.epoch_record import EpochRecord
    from mpisa.node.execution import Execution
    from mpisa.node.forwarding import Forwarding
    from mpisa.node.freshness import Freshness
    from mpisa.node.helm import Helm
    from mpisa.node.home import NodeKeys
    from mpisa.node.inbox import Inbox
    from mpisa.node.inspecting import Inspecting
    from mpisa.node.ipns_records import IpnsRecords
    from mpisa.node.links import Links
    from mpisa.node.mempool import Mempool
    from mpisa.node.ordering import Ordering
    from mpisa.node.providers import Providers
    from mpisa.node.providing import Providing
    from mpisa.node.publishing import Publishing
    from mpisa.node.reactions import Reactions
    from mpisa.node.retrieval import Counters as RetrievalCounters
    from mpisa.node.retrieval import Retriever
    from mpisa.node.stages import Stages
    from mpisa.node.standing import Standing
    from mpisa.node.submission import Submissions
    from mpisa.primitives.genesis import Genesis
    from storage.blockstore import BlockStore


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
    content: Content
    names: IpnsRecords
    collecting: Collecting
    inspecting: Inspecting
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
