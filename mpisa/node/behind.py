"""Putting together what brings a node forward when it is behind: see syncing, joining, keeping_up and pruning."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mpisa.config import parse_trust
from mpisa.node.applying import Applying
from mpisa.node.epoch_walk import EpochWalk
from mpisa.node.joining import Joining
from mpisa.node.keeping_up import KeepingUp
from mpisa.node.own_past import OwnPast
from mpisa.node.pruning import Pruning
from mpisa.node.ranging import Ranging
from mpisa.node.sources import Sources
from mpisa.node.syncing import Syncing, find_stand

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from consensus.identity import Seats
    from consensus.parameters import Parameters
    from mpisa.config import HistoryConfig
    from mpisa.network.ports import Network
    from mpisa.node.applying import Heard
    from mpisa.node.chain_store import ChainStore
    from mpisa.node.clock import Clock
    from mpisa.node.consensus_store import ConsensusStore
    from mpisa.node.epoch_record import EpochRecord
    from mpisa.node.epochs import Epochs
    from mpisa.node.execution import Execution
    from mpisa.node.helm import Helm
    from mpisa.node.home import Home
    from mpisa.node.inbox import Inbox
    from mpisa.node.providing import Providing
    from mpisa.primitives.genesis import Genesis


@dataclass(frozen=True, slots=True)
class Stores:
    """What is kept, and the one thread that writes it."""

    ledger: ChainStore
    vertices: ConsensusStore
    epochs: Epochs
    execution: Execution
    writer: Executor


@dataclass(frozen=True, slots=True)
class Shells:
    """What runs around it. `durably` tries again while the disk is full."""

    network: Network
    helm: Helm
    inbox: Inbox
    durably: Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]
    heard: Heard
    clock: Clock


@dataclass(frozen=True, slots=True)
class Behind:
    """The parts."""

    sources: Sources
    ranging: Ranging
    applying: Applying
    joining: Joining
    syncing: Syncing
    keeping_up: KeepingUp
    pruning: Pruning


def assemble_behind(
    home: Home,
    history: HistoryConfig,
    genesis: Genesis,
    identity: Seats,
    stores: Stores,
    shells: Shells,
    parameters: Parameters,
    providing: Providing,
    checker: Executor,
) -> Behind:
    """`checker` is one thread in which what peers sent is checked."""
    ledger, vertices, epochs, writer = stores.ledger, stores.vertices, stores.epochs, stores.writer
    trust = None if history.trust is None else parse_trust(history.trust)
    sources = Sources(shells.network, checker)
    ranging = Ranging(sources, parameters, trust=trust)
    applying = Applying(ledger, vertices, stores.execution, writer, shells.heard, home.path)
    walk = EpochWalk(sources, genesis.chain_hash)
    joining = Joining(sources, walk, ranging, applying, ledger, genesis, home.snapshot, writer, trust)
    own_past = OwnPast(home, epochs, vertices, identity, shells.clock)

    async def join() -> bool:
        is_joined = await joining.join()
        if is_joined:
            own_past.joined()
            providing.begin()
        return is_joined

    def known() -> EpochRecord:
        return epochs.record(epochs.next_block)

    syncing = Syncing(
        sources,
        ranging,
        applying,
        ledger,
        lambda: find_stand(ledger, vertices, parameters, epochs.start_of(epochs.next_block)),
        shells.durably,
        known,
        walk,
        None if history.archive else join,
        own_past.look_through,
    )
    keeping_up = KeepingUp(
        shells.helm,
        shells.inbox,
        syncing,
        identity,
        lambda: ledger.height,
        own_past.is_blank,
        lambda: known().committee,
    )
    pruning = Pruning(history, ledger, vertices, parameters, writer, providing.snapshots.needed_from)
    return Behind(sources, ranging, applying, joining, syncing, keeping_up, pruning)
