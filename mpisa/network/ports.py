"""What the node may ask of the network, as small Protocols over frozen values.

Participants: this node, its peers (named by the peer id of their Ed25519 host key), and the authorities among them.
Rules: everything a peer says is a hint until checked (a provider counts once its block has hashed right); every queue
behind these Protocols is bounded by `NetworkLimits`; gossip may lose messages and must never be relied on; authority
frames may be dropped (newest wins) and are asked for again by `request`. Non-goals: what the bytes mean.

All coroutines belong to one asyncio loop. Handlers run in that loop and must not block it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import NewType, Protocol, Self

from mpisa.primitives.cid import Cid

PeerId = NewType("PeerId", str)
"""Base58 text of a libp2p peer id of an Ed25519 key: `12D3Koo...`."""

FrameHandler = Callable[[PeerId, bytes], Awaitable[None]]
"""Called for each authority frame, in the order received from one peer; a raised Rejection disconnects the peer."""

RequestHandler = Callable[[PeerId, bytes], Awaitable[bytes]]
"""Answers one request. NotFound and Rejection travel back to the asker; anything else is an internal error there."""

PeerObserver = Callable[["PeerInfo"], None]
"""Called in the loop when a peer connects (`connected` True) or is gone (False). Must return at once."""


@dataclass(frozen=True, slots=True)
class PeerAddress:
    """Where a peer is reached: libp2p multiaddrs (without `/p2p/ID`), and its peer port as `https://host:port`."""

    peer_id: PeerId
    multiaddrs: tuple[str, ...] = ()
    peer_url: str | None = None


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """A peer as this node sees it now. `authority_link` is None, "tls" or "libp2p"."""

    peer_id: PeerId
    address: PeerAddress
    connected: bool
    version: str = ""
    authority_link: str | None = None


@dataclass(frozen=True, slots=True)
class LinkRule:
    """What this node does to its link with one peer on purpose: see `mpisa.network.gate`."""

    cut: bool = False
    delay_ms: int = 0
    jitter_ms: int = 0
    drop_percent: int = 0


@dataclass(frozen=True, slots=True)
class GossipMessage:
    """A message and the peer that signed it as its origin."""

    peer: PeerId
    topic: str
    data: bytes


@dataclass(frozen=True, slots=True)
class NetworkLimits:
    """Named bounds of everything a peer can make this node hold. Sizes in bytes, times in seconds."""

    max_peers: int = 256
    max_gossip_bytes: int = 64 * 1024
    gossip_queue: int = 1024
    gossip_rate: float = 200.0
    gossip_burst: int = 1000
    max_frame_bytes: int = 4 << 20
    authority_queue_frames: int = 1024
    authority_queue_bytes: int = 32 << 20
    max_request_bytes: int = 1 << 20
    max_answer_bytes: int = 32 << 20
    max_block_bytes: int = 2 << 20
    max_batch_blocks: int = 64
    connections_per_peer: int = 24
    requests_per_second: float = 2000.0
    request_burst: int = 4000
    inflight_bytes_per_peer: int = 64 << 20
    bitswap_peers: int = 256
    bitswap_wants_per_peer: int = 1024
    bitswap_bytes_per_peer: int = 8 << 20
    bitswap_bytes: int = 64 << 20
    inflight_bytes: int = 256 << 20
    answers_at_once: int = 8
    max_providers: int = 20
    max_stored_peers: int = 1024
    connect_timeout: float = 5.0
    block_timeout: float = 20.0
    ping_interval: float = 5.0
    reconnect_first: float = 0.1
    reconnect_cap: float = 5.0


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """How one node joins. Ports of 0 mean free ones; `host` is what both listeners bind to, `announce_host` what
    peers hear.

    `bootstrap` are multiaddrs ending in `/p2p/ID`. Every provided CID is announced again within `reprovide_interval`
    seconds.
    """

    identity_seed: bytes = field(repr=False)
    chain_hash: bytes
    version: str
    host: str = "127.0.0.1"
    libp2p_port: int = 0
    peer_port: int = 0
    announce_host: str | None = None
    bootstrap: tuple[str, ...] = ()
    peer_store: Path | None = None
    pre_shared_key: bytes | None = field(default=None, repr=False)
    reprovide_interval: float = 12 * 3600.0
    limits: NetworkLimits = NetworkLimits()

    def __post_init__(self) -> None:
        assert len(self.identity_seed) == 32, "identity_seed is 32 bytes"
        assert len(self.chain_hash) == 32, "chain_hash is 32 bytes"


@dataclass(slots=True)
class NetworkStats:
    """Counters since the start; plain ints, written by the loop's thread only. `*_lag_seconds` is a gauge."""

    connections_opened: int = 0
    connections_refused: int = 0
    peers_wrong_chain: int = 0
    peers_disconnected_garbage: int = 0
    gossip_published: int = 0
    gossip_received: int = 0
    gossip_dropped_queue: int = 0
    gossip_dropped_rate: int = 0
    gossip_refused_size: int = 0
    gossip_oversized: int = 0
    streams_refused: int = 0
    frames_sent: int = 0
    frames_received: int = 0
    frames_dropped: int = 0
    frame_bytes_sent: int = 0
    frame_bytes_received: int = 0
    authority_reconnects: int = 0
    requests_sent: int = 0
    requests_served: int = 0
    requests_refused: int = 0
    blocks_served: int = 0
    block_bytes_served: int = 0
    blocks_fetched: int = 0
    block_bytes_fetched: int = 0
    blocks_mismatched: int = 0
    blocks_stolen: int = 0
    providers_demoted: int = 0
    provides: int = 0
    provides_failed: int = 0
    provider_lookups: int = 0
    reprovide_lag_seconds: int = 0
    bitswap_blocks_served: int = 0
    bitswap_bytes_served: int = 0
    bitswap_wants_refused: int = 0
    bitswap_unasked_bytes: int = 0
    bitswap_peers_muted: int = 0
    bitswap_messages_refused: int = 0


class BlockSource(Protocol):
    """Local blocks, for serving. Thread-safe and synchronous: it is called in worker threads."""

    def get(self, cid: Cid) -> bytes | None:
        """The block's bytes, or None when it isn't here."""
        ...

    def size_of(self, cid: Cid) -> int | None:
        """The block's length in bytes, or None when it isn't here."""
        ...


class GossipSubscription(Protocol):
    """A bounded queue of one topic's messages, for `async for`. The oldest are dropped when it is full."""

    dropped: int

    def __aiter__(self) -> AsyncIterator[GossipMessage]: ...

    async def __anext__(self) -> GossipMessage: ...

    async def close(self) -> None:
        """Ends the iteration; the topic is left once nobody subscribes to it."""
        ...


class Gossip(Protocol):
    """Small announcements to everybody; at most tens a second; may be lost."""

    async def publish(self, topic: str, data: bytes) -> None:
        """Sends to all subscribers but ourselves. Raises Rejection(TOO_LARGE) above `max_gossip_bytes`."""
        ...

    async def subscribe(self, topic: str) -> GossipSubscription:
        """Joins the topic; messages that arrive from now on are queued."""
        ...


class Discovery(Protocol):
    """Who holds a CID: the DHT's provider records, which are hints."""

    async def provide(self, cid: Cid) -> None:
        """Announces the CID now, and again each `reprovide_interval` until `unprovide`. With no peers it is only
        remembered, and announced once there are some.
        """
        ...

    async def provide_many(self, cids: Iterable[Cid]) -> None:
        """Remembers the CIDs; they are announced in batches spread over the interval."""
        ...

    async def unprovide(self, cid: Cid) -> None:
        """Stops announcing; the records of others run out by themselves."""
        ...

    async def find_providers(self, cid: Cid, *, limit: int = 8, timeout: float = 10.0) -> list[PeerAddress]:
        """Distinct peers (never ourselves) that claim to hold the CID, with `peer_url` where known. May be empty."""
        ...


class AuthorityLinks(Protocol):
    """One long-lived, ordered, authenticated link to each other authority, and request/response to any peer."""

    def set_handler(self, handler: FrameHandler) -> None:
        """Who receives frames. Frames of peers that are not authorities are refused before the handler sees them."""
        ...

    def set_authorities(self, addresses: Iterable[PeerAddress]) -> None:
        """The peers to keep a link to (ourselves is ignored); links to peers no longer named are closed. Addresses may
        lack a `peer_url`: it is learnt from hello messages when the peer connects.
        """
        ...

    def linked(self) -> frozenset[PeerId]:
        """Authorities with a link that is up now."""
        ...

    def set_link_observer(self, observer: Callable[[PeerId], None]) -> None:
        """Who hears in the loop of each link that has come up. Must return at once; may call `send` in a task."""
        ...

    async def send(self, peer: PeerId, frame: bytes) -> bool:
        """Queues a frame, never waits for the peer. A full queue drops its oldest frame and counts it. False when no
        link is up (the frame is then dropped). Raises Rejection(TOO_LARGE) above `max_frame_bytes`.
        """
        ...

    async def broadcast(self, frame: bytes) -> int:
        """Sends to every authority; returns how many links took it."""
        ...

    def set_request_handler(self, kind: str, handler: RequestHandler) -> None:
        """Who answers requests of this kind (lower-case letters, digits and dashes)."""
        ...

    async def request(self, peer: PeerId, kind: str, body: bytes, *, timeout: float = 5.0) -> bytes:
        """Asks a peer. Raises Unreachable, TimedOut, NotFound, or the Rejection with which the peer answered."""
        ...


class ProviderFeed(Protocol):
    """Peers that may hold the blocks of one DAG, more of them as they become known; at most `max_providers`."""

    def known(self) -> Sequence[PeerAddress]:
        """Distinct peers to ask, best first, as far as they are known now."""
        ...

    def is_named(self, peer: PeerId) -> bool:
        """Whether somebody said that this peer holds the DAG."""
        ...

    async def more(self, seen: Set[PeerId]) -> bool:
        """Waits until a peer is known that isn't among `seen`; False when none will be."""
        ...


class Exchange(Protocol):
    """Blocks by CID from given providers. Nothing is returned that doesn't hash to its CID."""

    async def fetch(
        self, cid: Cid, providers: Sequence[PeerAddress] | ProviderFeed, *, timeout: float | None = None
    ) -> bytes:
        """One block. Raises NotFound when no provider has it, Unreachable, TimedOut, or IntegrityError when all that
        answered lied.
        """
        ...

    def fetch_many(
        self, cids: Iterable[Cid], providers: Sequence[PeerAddress] | ProviderFeed, *, concurrency: int = 8
    ) -> AsyncIterator[tuple[Cid, bytes]]:
        """Each distinct block once, in the order of arrival; reads `cids` lazily, at most `concurrency` blocks are in
        flight or waiting for the consumer. Raises as `fetch` for the first block nobody can deliver; start again with
        what is missing.
        """
        ...


class Network(Protocol):
    """Everything above under one start and stop. `start` opens sockets and threads, so it is called after any fork."""

    @property
    def discovery(self) -> Discovery: ...

    @property
    def gossip(self) -> Gossip: ...

    @property
    def authorities(self) -> AuthorityLinks: ...

    @property
    def exchange(self) -> Exchange: ...

    @property
    def peer_id(self) -> PeerId: ...

    def snapshot(self) -> NetworkStats:
        """The counters as they are now."""
        ...

    def failure(self) -> str | None:
        """Why the network has ended by itself, if it has: the node isn't ready then, and should stop."""
        ...

    @property
    def address(self) -> PeerAddress:
        """Our own addresses, with the real ports once started."""
        ...

    async def start(self) -> None: ...

    async def stop(self) -> None:
        """Closes everything within two seconds; safe to call twice."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc: object) -> None: ...

    def set_peer_observer(self, observer: PeerObserver) -> None: ...

    def link_rules(self) -> Mapping[PeerId, LinkRule]:
        """The faults in force on our links."""
        ...

    async def set_link_rules(self, rules: Mapping[PeerId, LinkRule]) -> None:
        """These and no other faults from now on, until the next call or the end of the process. Connections with
        peers that are cut are closed on return.
        """
        ...

    def peers(self) -> list[PeerInfo]:
        """Peers that are connected now, sorted by peer id."""
        ...

    async def connect(self, address: PeerAddress) -> PeerInfo:
        """Connects and exchanges hello. Raises Unreachable, TimedOut, or Rejection(WRONG_CHAIN)."""
        ...

    async def provide(self, cid: Cid) -> None: ...

    async def find_providers(self, cid: Cid, *, limit: int = 8, timeout: float = 10.0) -> list[PeerAddress]: ...

    async def publish(self, topic: str, data: bytes) -> None: ...

    async def subscribe(self, topic: str) -> GossipSubscription: ...
