"""Authority links over libp2p streams: the fallback when a peer port can't be reached. One stream a direction,
messages of packed frames, the same bytes as on the WebSocket.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from mpisa.network.libp2p_host.streams import read_message, write_message
from mpisa.network.ports import PeerId
from mpisa.primitives.errors import Unreachable

if TYPE_CHECKING:
    from mpisa.network.libp2p_host.options import HostEvents
    from mpisa.network.libp2p_host.portal import Portal

AUTHORITY_PROTOCOL = "/mpisa/authority/1"
MAX_MESSAGE_BYTES = 8 << 20
SEND_SECONDS = 10.0


class Libp2pFrames:
    """A FrameStream over an open libp2p stream; used in the asyncio loop, works in the trio thread."""

    carrier = "libp2p"

    def __init__(self, portal: Portal, stream: Any, closed: asyncio.Event) -> None:
        self._portal = portal
        self._stream = stream
        self._closed = closed

    async def send(self, message: bytes) -> None:
        if self._closed.is_set():
            raise Unreachable("the peer is gone")
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._portal.call(write_message, self._stream, message)
        except TimeoutError as error:
            raise Unreachable(f"the peer took nothing for {SEND_SECONDS} s") from error

    async def wait_closed(self) -> None:
        await self._closed.wait()

    async def close(self) -> None:
        with suppress(Unreachable):
            await self._portal.call(self._stream.reset)


async def receive_frames(portal: Portal, events: HostEvents, peer: PeerId, stream: Any) -> None:
    """In trio: hands each message on and waits until it was taken, so that a slow reader slows the sender."""
    while (message := await read_message(stream, MAX_MESSAGE_BYTES)) is not None:
        await portal.ask(events.frames, peer, message)
