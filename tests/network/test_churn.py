"""A thousand real peers come and go, each with an identity of its own: memory, tasks, files and slots are as before."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
import trio

from mpisa.network.service import PeerNetwork
from tests.network.support import DictBlocks, config

WARM_UP = 100
PEERS = 1000
MAX_GROWTH_MIB = 8.0
"""The library keeps a few hundred bytes each of the last 1,000 peers; what grows without end grows faster than this."""


@pytest.fixture
def passers_by():
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.network.passers_by"],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def bring(address: str, count: int, cid: object, first: int) -> int:
        process.stdin.write(json.dumps([address, count, str(cid), first]) + "\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    assert process.stdout.readline() == "ready\n"
    yield bring
    process.stdin.close()
    process.wait(10)
    process.stdout.close()


@dataclass(frozen=True)
class Held:
    """What this process and its network hold, apart from memory."""

    files: int
    asyncio_tasks: int
    trio_tasks: int
    connections: int
    inbound_slots: int
    managed: int
    streams: int
    linked: int
    peers: int
    answering: int
    bitswap: int


async def held(network: PeerNetwork) -> Held:
    host, bitswap = network._host, network.bitswap
    engine = host._engine
    swarm, streams = engine._network, engine._bitswap

    async def living() -> int:
        return trio.lowlevel.current_statistics().tasks_living

    return Held(
        files=sum(1 for _ in Path("/proc/self/fd").iterdir()),
        asyncio_tasks=len(asyncio.all_tasks()),
        trio_tasks=await host._portal.call(living),
        connections=sum(map(len, swarm.connections.values())),
        inbound_slots=swarm._inbound_limiter.borrowed_tokens,
        managed=swarm._resource_manager._current_connections,
        streams=swarm._resource_manager._current_streams,
        linked=len(engine._connected) + len(network._peering._linked),
        peers=len(network.peers()) + len(network._peering._greeting),
        answering=len(engine._answering) + len(streams._inbound) + len(streams._outbound) + len(streams._held),
        bitswap=len(bitswap.ledger) + len(bitswap.wants) + len(bitswap._serving) + len(bitswap._unasked),
    )


async def settled(network: PeerNetwork) -> Held:
    """What is held once the last connections have ended and nothing has changed for half a second; or after ten."""
    found, calm = await held(network), 0
    for _ in range(100):
        await asyncio.sleep(0.1)
        last, found = found, await held(network)
        calm = calm + 1 if found == last and not found.linked and not found.connections else 0
        if calm == 5:
            break
    return found


def resident_mib() -> float:
    gc.collect()
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


async def test_a_thousand_peers_that_come_and_go_leave_nothing(passers_by):
    blocks = DictBlocks()
    cid = blocks.add(os.urandom(5000))
    async with PeerNetwork(config(1), blocks) as network:
        address = f"{network.address.multiaddrs[0]}/p2p/{network.peer_id}"
        assert await asyncio.to_thread(passers_by, address, WARM_UP, cid, 1) == WARM_UP
        before, memory = await settled(network), resident_mib()
        assert (before.connections, before.inbound_slots, before.linked, before.peers) == (0, 0, 0, 0)
        assert await asyncio.to_thread(passers_by, address, PEERS, cid, 1 + WARM_UP) == PEERS
        assert asdict(await settled(network)) == asdict(before)
        grown = resident_mib() - memory
        print(f"memory grew by {grown:.1f} MiB from {memory:.1f} MiB")
        assert grown < MAX_GROWTH_MIB
        assert network.stats.bitswap_blocks_served == (WARM_UP + PEERS) // 4
