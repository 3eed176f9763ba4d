"""A node that was away asks for the certificates of what it executes late, as soon as it has executed it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mpisa.network.memory import MemoryHub, MemoryNetwork
from mpisa.network.ports import NetworkConfig
from mpisa.node.certificates import SETTLE_S, CertificateKeeper
from mpisa.node.chain_store import ChainStore
from mpisa.primitives.digest import sha256
from mpisa.primitives.header import make_certificate, sign_header
from tests.node.cluster import until, validator_keys
from tests.node.test_chain_store import GENESIS, commit, open_store


class NoBlocks:
    """A BlockSource that holds nothing."""

    def get(self, cid: object) -> None:
        return None

    def size_of(self, cid: object) -> None:
        return None


@asynccontextmanager
async def keeper(hub: MemoryHub, name: str, store: ChainStore) -> AsyncIterator[CertificateKeeper]:
    """A running keeper at a peer of its own."""
    config = NetworkConfig(sha256(name.encode()), GENESIS.chain_hash, "1")
    async with MemoryNetwork(hub, config, NoBlocks()) as network:
        made = CertificateKeeper(network, store, lambda height, certificate: None)
        made.attach()
        task = asyncio.create_task(made.run())
        yield made
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_the_others_had_certified_is_asked_for_once_it_is_executed(tmp_path: Path) -> None:
    here, there = open_store(tmp_path / "here"), open_store(tmp_path / "there")
    key = validator_keys(0).certificate
    assert key is not None
    certificate = make_certificate({0: sign_header(key, commit(there))})
    assert there.add_certificate(1, certificate)
    hub = MemoryHub()
    async with keeper(hub, "here", here) as late, keeper(hub, "there", there):
        late.held_by_others(1)
        commit(here)
        late.executed()
        await until(lambda: here.certificate(1) == certificate, "the certificate", seconds=SETTLE_S)
        assert (here.certified_height, here.complete_height) == (1, 1)
    here.close()
    there.close()


async def test_a_height_that_nobody_certified_is_not_asked_for(tmp_path: Path) -> None:
    here = open_store(tmp_path)
    async with keeper(MemoryHub(), "here", here) as alone:
        alone.held_by_others(0)
        commit(here)
        alone.executed()
        assert not alone._gap.is_set()
    here.close()
