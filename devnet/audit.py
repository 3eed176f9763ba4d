"""The checker behind a chaos run: what every node holds, block by block, against what was acknowledged.

It asks each node for each chain block over its API and believes nothing else: an acknowledged transaction must be
applied exactly once on every node, headers and state roots must be equal height by height, no node may have halted, and
all must be in one epoch (`astray`).
"""

from __future__ import annotations

import http.client
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from devnet.state import DevnetNode
from mpisa.primitives.errors import NotReady

TIMEOUT_S = 30.0


@dataclass(slots=True)
class Chain:
    """What one node holds: header hash and state root by height, how often each transaction was applied or rejected,
    and the nonces spent by account.
    """

    name: str
    headers: dict[int, tuple[str, str]] = field(default_factory=dict)
    applied: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    halted: str | None = None
    epochs: int = 0
    """The epoch of its newest block."""


@dataclass(frozen=True, slots=True)
class Findings:
    """All empty when everything held. Each item is a sentence or a transaction hash with the node's name."""

    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    forks: tuple[str, ...]
    halted: tuple[str, ...]
    heights: Mapping[str, int]

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found."""
        return not (self.lost or self.doubled or self.forks or self.halted)


def read_chain(node: DevnetNode, up_to: int) -> Chain:
    """Every block from 1 to `up_to`. Raises NotReady for a node that doesn't hold or tell them."""
    address = urlsplit(node.api)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=TIMEOUT_S)
    chain = Chain(node.name)
    try:
        chain.halted = _get(connection, node, "/v1/node").get("halted")
        for height in range(1, up_to + 1):
            block = _get(connection, node, f"/v1/chain/blocks/{height}")
            chain.headers[height] = block["hash"], block["state_root"]
            chain.epochs = block["epoch"]
            for receipt in block["receipts"]:
                counted = chain.applied if receipt["status"] == "applied" else chain.rejected
                counted[receipt["tx"]] += 1
    finally:
        connection.close()
    return chain


def _get(connection: http.client.HTTPConnection, node: DevnetNode, path: str) -> dict[str, Any]:
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body: dict[str, Any] = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NotReady(f"{node.name} doesn't tell {path}: {error!r}") from error
    if answer.status != 200:
        raise NotReady(f"{node.name} doesn't tell {path}: {answer.status} {body}")
    return body


def astray(epochs: Mapping[str, int | None]) -> tuple[str, ...]:
    """Which nodes are in another epoch than the furthest one; None is the epoch of a node that doesn't say."""
    furthest = max((epoch for epoch in epochs.values() if epoch is not None), default=0)
    return tuple(
        f"{name}: in epoch {epoch}, another node in {furthest}" for name, epoch in epochs.items() if epoch != furthest
    )


def compare(chains: Sequence[Chain], acknowledged: Iterable[str]) -> Findings:
    """See the module."""
    lost, doubled, forks = [], [], []
    names = list(acknowledged)
    for chain in chains:
        lost += [f"{chain.name}: {name}" for name in names if chain.applied[name] == 0]
        doubled += [f"{chain.name}: {name}" for name, count in chain.applied.items() if count > 1]
    first = chains[0]
    for chain in chains[1:]:
        forks += [
            f"height {height}: {first.name} {first.headers[height]}, {chain.name} {chain.headers.get(height)}"
            for height in first.headers
            if chain.headers.get(height) != first.headers[height]
        ]
    halted = [f"{chain.name}: {chain.halted}" for chain in chains if chain.halted]
    return Findings(
        tuple(lost), tuple(doubled), tuple(forks), tuple(halted), {chain.name: len(chain.headers) for chain in chains}
    )
