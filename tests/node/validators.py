"""A cluster whose validators come and go: each node's operator is an account of its own, keys follow from a name."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from consensus.dag.vertex import decode_vertex
from consensus.parameters import Parameters
from mpisa.config import NodeConfig
from mpisa.network.peer_id import peer_id_of
from mpisa.node.consensus_store import ConsensusStore
from mpisa.node.home import Home, NodeKeys, init_home
from mpisa.node.views import TransactionState, TransactionStatus
from mpisa.primitives.header import header_hash, verify_certificate
from mpisa.primitives.keys import PrivateKey
from mpisa.primitives.operations import Operation
from mpisa.primitives.receipt import ReceiptStatus
from mpisa.primitives.staking_parameters import StakingParameters
from mpisa.primitives.validator_operations import LeaveValidator, ValidatorKeys, change_validator, join_validator
from tests.node.cluster import GENESIS_MS, Cluster, key_of, make_cluster, until, validator_keys

AT_ONCE = StakingParameters(min_epoch_ms=0)
"""Every change of validators closes its epoch with the block it is in."""


@dataclass
class Town:
    """The cluster, and what its validators do."""

    cluster: Cluster

    def add(self, number: int) -> NodeKeys:
        """The home of a node that is no validator yet."""
        keys = validator_keys(100 + number)
        config = NodeConfig(name=f"node{number + 1}")
        init_home(self.cluster.home(number), config, genesis_text=self.cluster.genesis.to_json(), keys=keys)
        return keys

    def keys(self, number: int) -> NodeKeys:
        home = Home(self.cluster.home(number))
        return home.read_keys(home.read_config().role)

    def operator(self, number: int) -> PrivateKey:
        """A genesis validator's is its certificate key, another one's an account with a balance."""
        certificate = self.keys(number).certificate
        assert certificate is not None
        genesis = {item.address for item in self.cluster.genesis.validators}
        return certificate if certificate.public_key.address in genesis else key_of(f"account {number}")

    def join(self, number: int, stake: int = 1) -> bytes:
        keys, operator, nonce = self.keys(number), self.operator(number), self.nonce(number)
        operation = join_validator(
            ValidatorKeys(keys.consensus, keys.certificate),
            self.cluster.genesis.chain_hash,
            operator.public_key.address,
            nonce,
            name=f"node{number + 1}",
            peer_id=peer_id_of(keys.node.public_key.data),
            stake=stake,
        )
        return self.sign(number, nonce, operation)

    def leave(self, number: int) -> bytes:
        return self.sign(number, self.nonce(number), LeaveValidator())

    async def hand_over(self, leaving: range, joining: range) -> int:
        """All of these in one block, which therefore closes its epoch; its height."""
        raws = [self.join(number) for number in joining] + [self.leave(number) for number in leaving]
        through = self.cluster.nodes[min(self.cluster.nodes)]
        found = await through.submit_many(raws, "certified", 60.0)
        heights = {item.height for item in found if isinstance(item, TransactionStatus)}
        assert [item.status for item in found if isinstance(item, TransactionStatus)] == (
            [TransactionState.CERTIFIED] * len(raws)
        )
        (height,) = heights
        assert height is not None
        assert through.chain.block(height).header.closes_epoch
        return height

    def rotate(self, number: int) -> bytes:
        """To the next keys of the node's home."""
        keys, operator, nonce = self.keys(number), self.operator(number), self.nonce(number)
        following = ValidatorKeys(keys.next_consensus, keys.next_certificate)
        operation = change_validator(following, self.cluster.genesis.chain_hash, operator.public_key.address, nonce)
        return self.sign(number, nonce, operation)

    def sign(self, number: int, nonce: int, operation: Operation) -> bytes:
        return self.cluster.sign(self.operator(number), nonce, operation)

    def nonce(self, number: int) -> int:
        node = next(iter(self.cluster.nodes.values()))
        return node.pending_nonce(self.operator(number).public_key.address)

    async def submit(self, raw: bytes, through: int = 0) -> TransactionStatus:
        """Certified, and not rejected."""
        status = await self.cluster.nodes[through].submit(raw, "certified", 60.0)
        assert status.status is TransactionState.CERTIFIED, status.receipt
        return status

    async def in_epoch(self, epoch: int, *numbers: int) -> None:
        """These nodes are in the epoch, and have a certified header of it."""
        for number in numbers or tuple(self.cluster.nodes):
            node = self.cluster.nodes[number]
            await until(
                lambda node=node: node.chain.head().epoch >= epoch and node.status().epoch >= epoch,  # type: ignore[misc]
                f"node {number} in epoch {epoch}",
                60.0,
            )

    async def level(self) -> int:
        """Everybody has certified what the highest has now; the chain is one and verifies from genesis on."""
        height = max(node.status().height for node in self.cluster.nodes.values())
        await self.cluster.level(height)
        for node in self.cluster.nodes.values():
            await until(
                lambda node=node: node._running.store.complete_height >= height,  # type: ignore[misc]
                "all certificates",
                60.0,
            )
            bundles = node.chain.headers(0, height + 1)
            for before, bundle in itertools.pairwise(bundles):
                header = bundle.header
                assert header.previous == header_hash(before.header)
                assert header.first_commit == before.header.last_commit + 1
                assert header.epoch == before.header.epoch + before.header.closes_epoch
                named = before.header.next_validators_hash
                expected = named if before.header.closes_epoch else before.header.validators_hash
                assert header.validators_hash == expected
                assert bundle.certificate is not None
                verify_certificate(header, bundle.certificate, bundle.validators)
        return height

    def applied(self, number: int) -> list[bytes]:
        """The hash of every transaction that took effect, in order."""
        chain = self.cluster.nodes[number].chain
        return [
            receipt.tx_hash
            for height in range(1, chain.head().height + 1)
            for receipt in chain.block(height).receipts
            if receipt.status is ReceiptStatus.APPLIED
        ]

    def assert_no_double_signature(self) -> None:
        """All vertices that any stopped node has stored: one a round and author in each epoch."""
        seen: dict[tuple[int, int, int], set[bytes]] = {}
        for number in range(20):
            place = self.cluster.home(number) / "consensus"
            if not place.exists() or number in self.cluster.nodes:
                continue
            store = ConsensusStore(place)
            try:
                for epoch in range(store.highest_epoch() + 1):
                    for raw in store.all_from(epoch, 0):
                        vertex = decode_vertex(raw, Parameters())
                        seen.setdefault((epoch, vertex.round, vertex.author), set()).add(vertex.id)
            finally:
                store.close()
        assert seen
        assert all(len(ids) == 1 for ids in seen.values())


@asynccontextmanager
async def town(
    path: Path,
    count: int = 4,
    extra: int = 0,
    *,
    time_ms: int = GENESIS_MS,
    staking: StakingParameters = AT_ONCE,
) -> AsyncIterator[Town]:
    """`count` validators and `extra` nodes beside them, all ready."""
    cluster = make_cluster(path, count, count + extra, time_ms=time_ms, staking=staking)
    made = Town(cluster)
    for number in range(count, count + extra):
        made.add(number)
    try:
        await cluster.start(*range(count + extra))
        await cluster.ready()
        yield made
    finally:
        await asyncio.gather(*(node.stop() for node in cluster.nodes.values()))
