"""The asyncio side of the libp2p host: what the rest of the network room calls. Imports the library when it starts,
not before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mpisa.network.libp2p_host import load
from mpisa.network.libp2p_host.version import check_version
from mpisa.network.ports import PeerId
from mpisa.primitives.errors import TimedOut, Unreachable

if TYPE_CHECKING:
    from mpisa.network.libp2p_host.authority_libp2p import Libp2pFrames
    from mpisa.network.libp2p_host.engine import Engine
    from mpisa.network.libp2p_host.options import HostCounters, HostEvents, HostOptions
    from mpisa.network.libp2p_host.portal import Portal


class Libp2pHost:
    """A libp2p host in its own thread. All methods are called in one asyncio loop; `start` once, after any fork."""

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._portal: Portal | None = None
        self._watchers: set[asyncio.Task[None]] = set()
        self.addresses: tuple[str, ...] = ()
        self._refused: frozenset[PeerId] = frozenset()

    @property
    def counters(self) -> HostCounters | None:
        return None if self._engine is None else self._engine.counters

    @property
    def failure(self) -> str | None:
        """What ended the libp2p thread, if it ended unasked."""
        failure = None if self._portal is None else self._portal.failure
        return None if failure is None else f"libp2p ended: {failure or type(failure).__name__}"

    async def start(self, options: HostOptions, events: HostEvents) -> None:
        """Listens; `addresses` are known then. Raises NotReady for a library the cures don't fit, OSError when the
        port is taken.
        """
        check_version()
        await asyncio.to_thread(load)
        from mpisa.network.libp2p_host import cures
        from mpisa.network.libp2p_host.engine import Engine
        from mpisa.network.libp2p_host.portal import Portal

        cures.install()

        async def main(portal: Portal) -> None:
            self._engine = Engine(options, events, portal)
            self._engine.refused = self._refused
            await self._engine.run()

        self._portal = Portal(asyncio.get_running_loop(), main)
        await self._portal.start()
        assert self._engine is not None
        self.addresses = self._engine.addresses

    async def stop(self) -> None:
        if self._portal is not None:
            for watcher in list(self._watchers):
                watcher.cancel()
            await asyncio.gather(*self._watchers, return_exceptions=True)
            await self._portal.stop()
            self._portal = None

    async def connect(self, peer: PeerId, addresses: Sequence[str], *, timeout: float) -> None:
        """Raises Unreachable or TimedOut."""
        try:
            async with asyncio.timeout(timeout):
                await self._call("connect", peer, tuple(addresses))
        except TimeoutError as error:
            raise TimedOut(f"{peer} couldn't be connected to within {timeout} s") from error

    async def disconnect(self, peer: PeerId) -> None:
        await self._call("disconnect", peer)

    async def refuse(self, peers: frozenset[PeerId]) -> None:
        """Keeps no connection with these peers, and with no others than these."""
        self._refused = peers
        if self._engine is not None:
            self._engine.refused = peers
            for peer in peers:
                await self.disconnect(peer)

    async def ask(self, peer: PeerId, protocol: str, question: bytes, *, max_bytes: int, timeout: float) -> bytes:
        """Raises Unreachable or TimedOut."""
        answer: bytes = await self._call("ask", peer, protocol, question, max_bytes, timeout)
        return answer

    async def open_frames(self, peer: PeerId) -> Libp2pFrames:
        """A stream of authority frames to a connected peer. Raises Unreachable."""
        from mpisa.network.libp2p_host.authority_libp2p import Libp2pFrames

        stream = await self._call("open_frames", peer)
        assert self._portal is not None
        closed = asyncio.Event()
        watcher = asyncio.create_task(self._watch(stream, closed))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)
        return Libp2pFrames(self._portal, stream, closed)

    async def send_bitswap(self, peer: PeerId, message: bytes) -> None:
        """Raises Unreachable when the peer isn't connected, speaks no bitswap, or its stream broke."""
        await self._call("send_bitswap", peer, message)

    async def join(self, topic: str) -> None:
        await self._call("join", topic)

    async def leave(self, topic: str) -> None:
        await self._call("leave", topic)

    async def publish(self, topic: str, data: bytes) -> None:
        await self._call("publish", topic, data)

    async def provide(self, key: bytes) -> bool:
        return bool(await self._call("provide", key))

    async def unprovide(self, key: bytes) -> None:
        await self._call("unprovide", key)

    async def find_providers(self, key: bytes, *, limit: int, timeout: float) -> list[tuple[PeerId, tuple[str, ...]]]:
        found: list[tuple[PeerId, tuple[str, ...]]] = await self._call("find_providers", key, limit, timeout)
        return found

    async def learn(self, peer: PeerId, addresses: Sequence[str]) -> None:
        await self._call("learn", peer, tuple(addresses))

    async def find_neighbours(self) -> list[tuple[PeerId, tuple[str, ...]]]:
        found: list[tuple[PeerId, tuple[str, ...]]] = await self._call("find_neighbours")
        return found

    async def _watch(self, stream: Any, closed: asyncio.Event) -> None:
        try:
            await self._call("watch", stream)
        except Unreachable:
            pass  # the host has ended, and the stream with it
        finally:
            closed.set()

    async def _call(self, method: str, *args: Any) -> Any:
        if self._portal is None or self._engine is None:
            raise Unreachable("the network is stopped")
        return await self._portal.call(getattr(self._engine, method), *args)
