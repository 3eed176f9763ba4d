"""What the network room's tests share: blocks in a dict, configs, waiting on a condition with a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from mpisa.network.ports import NetworkConfig, NetworkLimits, PeerId
from mpisa.primitives.cid import Cid

CHAIN = b"c" * 32
DEADLINE = 20.0


class DictBlocks:
    """A BlockSource over a dict."""

    def __init__(self) -> None:
        self.held: dict[Cid, bytes] = {}

    def add(self, data: bytes) -> Cid:
        cid = Cid.of(data)
        self.held[cid] = data
        return cid

    def get(self, cid: Cid) -> bytes | None:
        return self.held.get(cid)

    def size_of(self, cid: Cid) -> int | None:
        return len(self.held[cid]) if cid in self.held else None


def config(number: int, **changes: object) -> NetworkConfig:
    base = NetworkConfig(identity_seed=bytes([number]) * 32, chain_hash=CHAIN, version="test/1")
    return replace(base, **changes)  # type: ignore[arg-type]


def limits(**changes: object) -> NetworkLimits:
    return replace(NetworkLimits(), **changes)  # type: ignore[arg-type]


class Changes:
    """Something to wait on: tests call `notify`, and wait until a condition holds."""

    def __init__(self) -> None:
        self._condition = asyncio.Condition()

    async def notify(self) -> None:
        async with self._condition:
            self._condition.notify_all()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE), self._condition:
            await self._condition.wait_for(holds)


class Frames:
    """A frame handler that keeps what it got and lets tests wait for it."""

    def __init__(self) -> None:
        self.got: list[tuple[PeerId, bytes]] = []
        self._changes = Changes()

    async def __call__(self, peer: PeerId, frame: bytes) -> None:
        self.got.append((peer, frame))
        await self._changes.notify()

    async def until(self, count: int) -> list[tuple[PeerId, bytes]]:
        await self._changes.until(lambda: len(self.got) >= count)
        return self.got


async def eventually(holds: Callable[[], bool]) -> None:
    """Yields to the loop until the condition holds; for state that nothing announces. Fails after the deadline."""
    async with asyncio.timeout(DEADLINE):
        while not holds():
            turn = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_later(0.005, turn.set_result, None)
            await turn
