"""Certificates that this node lacks, asked for from peers.

A certificate is written without a sync and made from signatures that are sent once: after a power cut, a repair or a
long catch-up some heights may lack theirs: those below the latest certified one, and after a start all that were
executed before it. A node that was away executes heights whose signatures it never saw: those that the others had
certified by then are asked for at once. Whoever has one answers the request `certificates`; each is verified against
our own header and the validators of its epoch before it is kept. This task sleeps until there is something to do.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from mpisa.primitives import codec
from mpisa.primitives.errors import MpisaError
from mpisa.primitives.header import Certificate, verify_certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mpisa.network.ports import Network, PeerId
    from mpisa.node.chain_store import ChainStore

CERTIFICATES = "certificates"
MAX_HEIGHTS = 256
MAX_CERTIFICATE_BYTES = 32 << 10
REQUEST_TIMEOUT_S = 5.0
SETTLE_S = 1.0
"""How long signatures on their way are waited for before anybody is asked."""

RETRY_S = 5.0

log = structlog.get_logger(__name__)


class CertificateKeeper:
    """See the module. Belongs to the loop."""

    def __init__(self, network: Network, store: ChainStore, on_added: Callable[[int, Certificate], None]) -> None:
        self._network = network
        self._store = store
        self._on_added = on_added
        self._asked: asyncio.Task[None] | None = None
        self._gap = asyncio.Event()
        self._hurry = asyncio.Event()
        self._through = 0
        self._held_by_others = 0

    def attach(self) -> None:
        """Answers peers from now on."""
        self._network.authorities.set_request_handler(CERTIFICATES, self._answer)

    def look(self) -> None:
        """Call when something was certified: wakes the task when heights below lack certificates."""
        if self._store.complete_height < max(self._store.certified_height, self._last_to_ask()):
            self._gap.set()

    def held_by_others(self, height: int) -> None:
        """Others were heard to hold certificates through this height."""
        self._held_by_others = max(self._held_by_others, height)
        self.executed()

    def executed(self) -> None:
        """Call when a chain block was executed: asks at once when that made this node level but for certificates."""
        if self._store.complete_height < self._held_by_others <= self._store.height:
            self._gap.set()
            self._hurry.set()

    def _last_to_ask(self) -> int:
        """The highest executed height that others may hold a certificate of, apart from those below a certified one."""
        return max(self._through, min(self._held_by_others, self._store.height))

    def request(self, peer: PeerId, height: int) -> None:
        """Asks this peer for one certificate, unless such a question is open."""
        if self._asked is None or self._asked.done():
            self._asked = asyncio.create_task(self._ask_one(peer, height), name=f"certificate {height}")

    async def _ask_one(self, peer: PeerId, height: int) -> None:
        try:
            await self._ask(peer, [height])
        except MpisaError as error:
            log.info("no certificate", peer=peer, height=height, error=str(error))

    async def close(self) -> None:
        """Gives up the question that is open."""
        if self._asked is not None:
            self._asked.cancel()
            await asyncio.wait((self._asked,))

    async def _answer(self, peer: PeerId, body: bytes) -> bytes:
        heights = _read_heights(body)
        found = [(height, self._store.certificate(height)) for height in heights]
        return codec.encode(
            tuple((height, certificate.encode()) for height, certificate in found if certificate is not None)
        )

    async def run(self) -> None:
        """Fills gaps until cancelled."""
        self._through = self._store.height
        self.look()
        while True:
            await self._gap.wait()
            await self._pause(SETTLE_S)
            self._gap.clear()
            if await self._fill():
                continue
            await self._pause(RETRY_S)
            self.look()

    async def _pause(self, seconds: float) -> None:
        """Waits, unless there is a reason to hurry meanwhile."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        self._hurry.clear()

    async def _fill(self) -> bool:
        """Whether no gap is left."""
        for info in self._network.peers():
            while missing := self._store.missing_certificates(MAX_HEIGHTS, self._last_to_ask()):
                try:
                    added = await self._ask(info.peer_id, missing)
                except MpisaError as error:
                    log.info("no certificates", peer=info.peer_id, error=str(error))
                    break
                if not added:
                    break
        return not self._store.missing_certificates(1, self._last_to_ask())

    async def _ask(self, peer: PeerId, heights: Sequence[int]) -> int:
        """How many certificates it had."""
        added = 0
        answer = await self._network.authorities.request(
            peer, CERTIFICATES, codec.encode(tuple(heights)), timeout=REQUEST_TIMEOUT_S
        )
        value = codec.decode(answer, max_bytes=MAX_HEIGHTS * MAX_CERTIFICATE_BYTES, max_depth=2)
        for item in codec.expect_tuple(value, "certificates", MAX_HEIGHTS):
            fields = codec.expect_tuple(item, "certificate", length=2)
            height = codec.expect_int(fields[0], "height", 1, (1 << 53) - 1)
            if height in heights:
                certificate = Certificate.decode(
                    codec.expect_bytes(fields[1], "certificate", max_length=MAX_CERTIFICATE_BYTES)
                )
                header = self._store.header(height)
                verify_certificate(header, certificate, self._store.epoch(header.epoch).validator_set)
                if self._store.add_certificate(height, certificate):
                    added += 1
                    self._on_added(height, certificate)
        return added


def _read_heights(body: bytes) -> list[int]:
    value = codec.decode(body, max_bytes=16 * MAX_HEIGHTS, max_depth=1)
    items = codec.expect_tuple(value, "heights", MAX_HEIGHTS)
    return [codec.expect_int(item, "height", 1, (1 << 53) - 1) for item in items]
