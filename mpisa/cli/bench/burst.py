"""A hundred publishes at once through four nodes: none lost, none twice, the same state root everywhere."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpisa.sdk.async_client import AsyncClient

SETTLE_TIMEOUT_S = 30.0
PUBLISH_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Burst:
    """What came of it: `lost` publishes have no record, `twice` were applied more than once."""

    seconds: float
    publishes: int
    lost: int
    twice: int
    same_state_root: bool


async def _publish(client: AsyncClient, path: Path, account: Path) -> str:
    return (await client.publish(path, key=account, kind="dataset", timeout=PUBLISH_TIMEOUT_S)).cid


async def run(apis: list[str], accounts: list[Path], home: Path, workspace: Path, count: int) -> Burst:
    """Publish `count` different small files at once, spread over nodes and accounts, then look at every node."""
    paths = []
    for number in range(count):
        path = workspace / f"burst-{number}"
        path.write_text(f"publish {number} of {count} at {time.time_ns()}\n")
        paths.append(path)
    clients = [AsyncClient(api, home=home, timeout=PUBLISH_TIMEOUT_S) for api in apis]
    try:
        first = (await clients[0].head()).height
        begun = time.perf_counter()
        cids = await asyncio.gather(
            *(
                _publish(clients[at % len(clients)], path, accounts[at // len(clients) % len(accounts)])
                for at, path in enumerate(paths)
            )
        )
        seconds = time.perf_counter() - begun
        height = await _settled(clients)
        applied = await _applied(clients[-1], first + 1, height, set(cids))
        roots = {(await client.block(height)).state_root for client in clients}
        records = [len((await client.artefact(cid)).records) for client in clients for cid in cids]
    finally:
        for client in clients:
            await client.close()
    lost = len(set(paths)) - len(set(cids)) + sum(1 for cid in cids if applied.get(cid, 0) == 0)
    lost += sum(1 for number in records if number == 0)
    twice = sum(1 for number in applied.values() if number > 1) + sum(1 for number in records if number > 1)
    return Burst(seconds, count, lost, twice, len(roots) == 1)


async def _settled(clients: list[AsyncClient]) -> int:
    """A height that every node has certified, not lower than any node's when asked."""
    height = max([(await client.head()).height for client in clients])
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while min([(await client.head()).height for client in clients]) < height:
        if time.monotonic() > deadline:
            raise TimeoutError(f"not every node reached height {height}")
        await asyncio.sleep(0.1)
    return height


async def _applied(client: AsyncClient, first: int, last: int, cids: set[str]) -> dict[str, int]:
    """How often the chain's blocks published each CID, counting applied transactions only."""
    found: dict[str, int] = {}
    for height in range(first, last + 1):
        block = await client.block(height)
        for raw, receipt in zip(block.transactions, block.receipts, strict=True):
            if receipt.status == "applied":
                for cid in _published(raw):
                    if cid in cids:
                        found[cid] = found.get(cid, 0) + 1
    return found


def _published(raw: str) -> list[str]:
    from mpisa.primitives.operations import Publish
    from mpisa.primitives.transaction import decode_transaction

    operations: Any = decode_transaction(bytes.fromhex(raw)).transaction.operations
    return [str(operation.record.subject) for operation in operations if isinstance(operation, Publish)]
