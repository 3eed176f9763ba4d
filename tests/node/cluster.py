"""Real nodes in one process: real stores in a temporary directory, real engines and ledger, the in-memory network."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mpisa.config import Limits, NodeConfig, Role
from mpisa.network.memory import MemoryHub, MemoryNetwork
from mpisa.network.peer_id import peer_id_of
from mpisa.node.home import NodeKeys, init_home
from mpisa.node.node import Node
from mpisa.primitives.digest import sha256
from mpisa.primitives.genesis import ChainParameters, Genesis, GenesisAccount
from mpisa.primitives.identifiers import Address
from mpisa.primitives.keys import KeyKind, PrivateKey, private_key
from mpisa.primitives.operations import Operation, Transfer
from mpisa.primitives.staking_parameters import StakingParameters
from mpisa.primitives.transaction import Transaction, sign_transaction
from mpisa.primitives.validator_record import ValidatorRecord

DEADLINE_S = 30.0
BALANCE = 1_000_000
CHAIN_ID = "node-tests"
GENESIS_MS = 1_700_000_000_000
ORDINARY = StakingParameters()


def key_of(name: str, kind: KeyKind = KeyKind.ED25519) -> PrivateKey:
    """A key that a name determines."""
    return private_key(kind, sha256(name.encode()))


async def until(condition: Callable[[], bool], what: str, seconds: float = DEADLINE_S) -> None:
    """Returns once the condition holds; looks at each turn of nodes' events, and fails with `what` at the deadline."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not condition():
        assert loop.time() < deadline, f"not within {seconds} s: {what}"
        turn = loop.create_future()
        loop.call_later(0.005, turn.set_result, None)
        await turn


def validator_keys(number: int) -> NodeKeys:
    return NodeKeys(
        key_of(f"node {number}"),
        key_of(f"consensus {number}"),
        key_of(f"certificate {number}", KeyKind.SECP256K1),
    )


def make_genesis(
    keys: list[NodeKeys],
    accounts: list[PrivateKey],
    time_ms: int = GENESIS_MS,
    staking: StakingParameters = ORDINARY,
) -> Genesis:
    validators = []
    for number, item in enumerate(keys):
        assert item.consensus is not None
        assert item.certificate is not None
        validators.append(
            ValidatorRecord(
                f"node{number + 1}",
                item.certificate.public_key.address,
                1,
                item.consensus.public_key.data,
                peer_id_of(item.node.public_key.data),
                post_quantum_key=b"" if item.post_quantum is None else item.post_quantum.public_key.data,
            )
        )
    funded = [GenesisAccount(key.public_key.address, BALANCE, key.public_key) for key in accounts]
    return Genesis(
        CHAIN_ID,
        time_ms,
        ChainParameters(faucet_limit=1000, staking=staking),
        tuple(validators),
        tuple(sorted(funded, key=lambda item: item.address)),
    )


@dataclass
class Cluster:
    """Nodes by number, from 0; those that were stopped keep their home."""

    path: Path
    hub: MemoryHub
    genesis: Genesis
    nodes: dict[int, Node] = field(default_factory=dict)

    def home(self, number: int) -> Path:
        return self.path / f"node{number + 1}"

    def open(self, number: int, home: Path | None = None) -> Node:
        return Node.open(
            home or self.home(number),
            make_network=lambda config, source: MemoryNetwork(self.hub, config, source),
            log_to_home=False,
        )

    async def start(self, *numbers: int) -> None:
        for number in numbers:
            self.nodes[number] = self.open(number)
        await asyncio.gather(*(self.nodes[number].start() for number in numbers))

    async def stop(self, *numbers: int) -> None:
        await asyncio.gather(*(self.nodes.pop(number).stop() for number in numbers))

    async def ready(self, *numbers: int) -> None:
        for number in numbers or tuple(self.nodes):
            node = self.nodes[number]
            await until(lambda node=node: node.ready()[0], f"node {number} ready")  # type: ignore[misc]

    async def level(self, height: int) -> bytes:
        """Waits until every node has certified this height; their one state root there."""
        for number, node in self.nodes.items():
            await until(
                lambda node=node: node.chain.head().height >= height,  # type: ignore[misc]
                f"node {number} at height {height}",
            )
        roots = {node.chain.header(height).state_root for node in self.nodes.values()}
        hashes = {node.chain.block(height).hash for node in self.nodes.values()}
        assert len(roots) == len(hashes) == 1
        return roots.pop()

    def snapshot(self, number: int, name: str) -> Path:
        """The home as a crash at this moment would leave it."""
        copy = self.path / name
        shutil.copytree(self.home(number), copy, ignore=shutil.ignore_patterns("LOCK", "node.lock"))
        return copy

    def transfer(self, key: PrivateKey, nonce: int, to: Address | None = None, amount: int = 1) -> bytes:
        return self.sign(key, nonce, Transfer(to or key_of("receiver").public_key.address, amount))

    def sign(
        self, key: PrivateKey, nonce: int, *operations: Operation, expires_ms: int = 1 << 45, fee: int = 0
    ) -> bytes:
        transaction = Transaction(
            self.genesis.chain_hash,
            key.public_key.address,
            nonce,
            expires_ms,
            operations,
            fee=fee,
            public_key=key.public_key,
        )
        return sign_transaction(transaction, key).raw


def make_cluster(
    path: Path,
    count: int = 4,
    accounts: int = 4,
    limits: Limits | None = None,
    *,
    time_ms: int = GENESIS_MS,
    staking: StakingParameters = ORDINARY,
) -> Cluster:
    """Homes of `count` validators; accounts are key_of("account 0") and so on."""
    keys = [validator_keys(number) for number in range(count)]
    keys.sort(key=lambda item: item.certificate.public_key.address if item.certificate else b"")
    genesis = make_genesis(keys, [key_of(f"account {number}") for number in range(accounts)], time_ms, staking)
    cluster = Cluster(path, MemoryHub(), genesis)
    for number, item in enumerate(keys):
        config = NodeConfig(name=f"node{number + 1}", limits=limits or Limits())
        init_home(cluster.home(number), config, genesis_text=genesis.to_json(), keys=item)
    return cluster


def add_follower(cluster: Cluster, number: int) -> None:
    """The home of a node that only reads along."""
    init_home(
        cluster.home(number),
        NodeConfig(name="follower", role=Role.FOLLOWER),
        genesis_text=cluster.genesis.to_json(),
        keys=NodeKeys(key_of("follower")),
    )


@asynccontextmanager
async def running(
    path: Path, count: int = 4, accounts: int = 4, limits: Limits | None = None
) -> AsyncIterator[Cluster]:
    """A cluster whose nodes are ready."""
    cluster = make_cluster(path, count, accounts, limits)
    try:
        await cluster.start(*range(count))
        await cluster.ready()
        yield cluster
    finally:
        await asyncio.gather(*(node.stop() for node in cluster.nodes.values()))
