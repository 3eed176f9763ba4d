"""A node's network over a store in memory, and the others, each started once a file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from mpisa.network.service import PeerNetwork
from mpisa.node.blobs import LocalBlocks
from storage.blockstore import MemoryBlockStore
from tests.interop.others import Helia, Kubo
from tests.network.support import config


class Ours:
    """A network and what it serves."""

    def __init__(self, network: PeerNetwork, store: MemoryBlockStore) -> None:
        self.network = network
        self.store = store
        self.dial = f"{network.address.multiaddrs[0]}/p2p/{network.peer_id}"


NUMBERS = count(1)
"""Each test is a new peer: the others remember where they met the last one, and call it."""


@pytest.fixture
async def ours() -> AsyncIterator[Ours]:
    store = MemoryBlockStore()
    async with PeerNetwork(config(next(NUMBERS)), LocalBlocks(store, pytest.fail)) as network:
        yield Ours(network, store)


@pytest.fixture(scope="module")
def kubo(tmp_path_factory: Any) -> Iterator[Kubo]:
    yield from _running(Kubo, tmp_path_factory.mktemp("kubo"))


@pytest.fixture(scope="module")
def helia(tmp_path_factory: Any) -> Iterator[Helia]:
    yield from _running(Helia, tmp_path_factory.mktemp("helia"))


def _running(kind: type[Any], home: Path) -> Iterator[Any]:
    other = kind(home)
    yield other
    other.stop()
