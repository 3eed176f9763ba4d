"""A node reduced to its stores, a network and syncing: what happens to it is syncing's doing alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from consensus.identity import FOLLOWER
from consensus.parameters import Parameters
from mpisa.network.memory import MemoryNetwork
from mpisa.network.ports import NetworkConfig
from mpisa.node.applying import Applying
from mpisa.node.blobs import LocalBlocks
from mpisa.node.chain_store import ChainStore
from mpisa.node.consensus_store import ConsensusStore
from mpisa.node.epoch_walk import EpochWalk
from mpisa.node.epochs import Epochs
from mpisa.node.execution import Execution, Outcome, signs_nothing
from mpisa.node.ranging import Ranging, Stand
from mpisa.node.sources import Sources
from mpisa.node.syncing import Syncing, find_stand
from mpisa.node.transaction_cache import TransactionCache
from mpisa.primitives.genesis_state import genesis_header, genesis_state
from storage.packs import DiskBlockStore
from tests.node.cluster import Cluster, key_of


@dataclass
class Heard:
    """What the rest of a node would have been told."""

    outcomes: list[Outcome] = field(default_factory=list)
    certified: list[int] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def executed(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def certificate_added(self, height: int) -> None:
        self.certified.append(height)

    def diverged(self, reason: str) -> None:
        self.reasons.append(reason)


@dataclass
class Syncer:
    """The parts, for tests to look into."""

    store: ChainStore
    vertices: ConsensusStore
    network: MemoryNetwork
    sources: Sources
    ranging: Ranging
    find: Callable[[], Stand]
    syncing: Syncing
    applying: Applying
    heard: Heard
    home: Path


async def at_once(attempt: Callable[[], Awaitable[object]]) -> object:
    """A disk that is never full."""
    return await attempt()


@asynccontextmanager
async def syncer(cluster: Cluster, name: str = "syncer", *, span_blocks: int = 8) -> AsyncIterator[Syncer]:
    """The parts of a node with this name, whose home survives from one call to the next."""
    genesis, home = cluster.genesis, cluster.path / name
    parameters = Parameters().with_agreed(dict(genesis.parameters.consensus))
    store = ChainStore.open(home / "ledger", genesis_header(genesis), genesis_state(genesis), genesis.hash)
    vertices = ConsensusStore(home / "consensus")
    blocks = DiskBlockStore.open(home / "blocks")
    epochs = Epochs(store, vertices, parameters, FOLLOWER, None)
    network = MemoryNetwork(
        cluster.hub, NetworkConfig(key_of(name).seed, genesis.chain_hash, "test"), LocalBlocks(blocks, lambda _: None)
    )
    heard = Heard()
    with ThreadPoolExecutor(1) as writer, ThreadPoolExecutor(1) as checker:
        execution = Execution(store, signs_nothing, writer, TransactionCache(), parameters)
        sources = Sources(network, checker)
        applying = Applying(store, vertices, execution, writer, heard, home)
        ranging = Ranging(sources, parameters, span_blocks=span_blocks)

        def find() -> Stand:
            return find_stand(store, vertices, parameters, epochs.start_of(epochs.next_block))

        syncing = Syncing(
            sources,
            ranging,
            applying,
            store,
            find,
            at_once,
            lambda: epochs.record(epochs.next_block),
            EpochWalk(sources, genesis.chain_hash),
        )
        try:
            async with network:
                try:
                    yield Syncer(store, vertices, network, sources, ranging, find, syncing, applying, heard, home)
                finally:
                    await ranging.close()
        finally:
            writer.shutdown(wait=True)  # what was cancelled may still write
            checker.shutdown(wait=True)
            store.close()
            vertices.close()
            blocks.close()
