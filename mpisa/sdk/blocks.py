"""Single blocks from a node, each hashed here, some of them fetched before their turn.

Who reads names what it will need soon (`expect`) and then asks for one block after another (`get`). At most AHEAD
blocks are on their way or wait to be asked for, so memory stays below AHEAD * 2 MiB.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Self

from mpisa.primitives.cid import IDENTITY, Cid
from mpisa.primitives.errors import IntegrityError
from mpisa.sdk.connection import segment

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mpisa.sdk.transport import Transport

AHEAD: Final = 16
MAX_BLOCK_BYTES: Final = 2 << 20
MIN_SILENCE_S: Final = 120.0
"""The node may have to find providers before the first byte."""
RAW_TYPE: Final = "application/vnd.ipld.raw"


class NodeBlocks:
    """See the module. An async context manager: leaving it ends what is on its way."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._coming: dict[Cid, asyncio.Task[bytes]] = {}
        self._expected: dict[Cid, None] = {}
        self.fetched = 0
        """Bytes that came from the node."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *details: object) -> None:
        coming, self._coming = list(self._coming.values()), {}
        self._expected.clear()
        for task in coming:
            task.cancel()
        await asyncio.gather(*coming, return_exceptions=True)

    def expect(self, cids: Iterable[Cid]) -> None:
        """These will be asked for soon, in this order."""
        for cid in cids:
            if cid.digest_code != IDENTITY and cid not in self._coming:
                self._expected[cid] = None
        self._start()

    def _start(self) -> None:
        while self._expected and len(self._coming) < AHEAD:
            cid = next(iter(self._expected))
            del self._expected[cid]
            self._coming[cid] = asyncio.create_task(self._fetch(cid))

    async def get(self, cid: Cid) -> bytes:
        """The block. Raises NotFound, Unreachable, TimedOut, or IntegrityError when it isn't what its CID says."""
        if cid.digest_code == IDENTITY:
            return cid.digest
        self._expected.pop(cid, None)
        task = self._coming.pop(cid, None)
        self._start()
        return await (self._fetch(cid) if task is None else task)

    async def _fetch(self, cid: Cid) -> bytes:
        silence = max(MIN_SILENCE_S, self._transport.timeout)
        received = bytearray()
        async with self._transport.stream(
            "GET", f"/ipfs/{segment(str(cid))}", query={"format": "raw"}, headers={"Accept": RAW_TYPE}, silence=silence
        ) as answer:
            async for part in answer.content.iter_any():
                received += part
                if len(received) > MAX_BLOCK_BYTES:
                    raise IntegrityError(f"block {cid}: the node sends more than {MAX_BLOCK_BYTES} bytes")
        block = bytes(received)
        if not await asyncio.to_thread(cid.matches, block):
            raise IntegrityError(f"block {cid} does not match its CID", hint="the node lies or is damaged: ask another")
        self.fetched += len(block)
        return block
