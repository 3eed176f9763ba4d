"""What the host is given and what it tells: values and a Protocol that need no libp2p to be imported."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from mpisa.network.ports import NetworkLimits, PeerId


@dataclass(frozen=True, slots=True)
class HostOptions:
    """How the host runs. `protocols` maps each exchange protocol to the most bytes a question may have."""

    seed: bytes = field(repr=False)
    host: str
    port: int
    announce_host: str | None
    pre_shared_key: bytes | None = field(repr=False)
    limits: NetworkLimits
    protocols: tuple[tuple[str, int], ...]


@dataclass(slots=True)
class HostCounters:
    """Plain ints, written by the trio thread."""

    gossip_dropped_rate: int = 0
    gossip_oversized: int = 0
    streams_refused: int = 0
    connections_opened: int = 0
    bitswap_messages_refused: int = 0


class HostEvents(Protocol):
    """Where the host tells what happened; called in the asyncio loop."""

    def peer_connected(self, peer: PeerId, outbound: bool) -> None: ...

    def peer_disconnected(self, peer: PeerId) -> None: ...

    def gossip(self, topic: str, peer: PeerId, data: bytes) -> None: ...

    async def answer(self, peer: PeerId, protocol: str, question: bytes) -> bytes: ...

    async def frames(self, peer: PeerId, message: bytes) -> None: ...

    async def bitswap(self, peer: PeerId, message: bytes) -> None: ...
