"""The settings of a node and their defaults.

Ports of 0 mean a free one at start. Sizes are bytes, times milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Role(StrEnum):
    """A validator proposes and signs when the genesis names its keys; a follower only reads along."""

    VALIDATOR = "validator"
    FOLLOWER = "follower"


class LogFormat(StrEnum):
    JSON = "json"
    CONSOLE = "console"


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class PeerEntry:
    """A peer known beforehand. `multiaddrs` without /p2p/ID; `peer_url` is https://host:port of its peer port."""

    peer_id: str
    multiaddrs: tuple[str, ...] = ()
    peer_url: str | None = None


class Gateway(StrEnum):
    """What is served under /ipfs and /ipns."""

    PATH = "path"
    """Files, listings and documents too, for whoever trusts this node."""

    TRUSTLESS = "trustless"
    """Only what a receiver can verify: raw blocks, CARs, IPNS records."""

    OFF = "off"


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """The loopback listener for people."""

    host: str = "127.0.0.1"
    port: int = 0
    allowed_hosts: tuple[str, ...] = ()
    """Host header values accepted besides the loopback names."""

    gateway: Gateway = Gateway.PATH


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """The listeners for other nodes, and whom to meet first."""

    host: str = "127.0.0.1"
    port: int = 0
    libp2p_port: int = 0
    announce_host: str | None = None
    reprovide_interval_ms: int = 12 * 3600 * 1000
    peers: tuple[PeerEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of what this node holds in memory or on disk."""

    mempool_transactions: int = 20_000
    mempool_bytes: int = 64 << 20
    mempool_per_account: int = 1_024
    mempool_nonce_gap: int = 64
    upload_bytes: int = 1 << 40
    answer_bytes: int = 1 << 40
    """One answer of the gateway: a few blocks that link to one another many times can stand for any number of bytes."""

    store_bytes: int = 0
    """Most bytes of blocks kept; 0 means as much as the disk holds."""
    gc_high_water_percent: int = 90
    """Garbage is collected when that much of store_bytes (or of the disk, without it) is used."""
    gc_grace_ms: int = 3600 * 1000
    """Blocks that were written more recently are spared then."""
    retrieval_window_bytes: int = 64 << 20
    retrieval_concurrency: int = 16
    event_queue: int = 1_024
    certification_lag: int = 64
    """Chain blocks ordered but not certified before intake stops (safe halt)."""
    certification_stall_ms: int = 30_000
    """How long nothing may be certified, while something waits for it, before intake stops (safe halt)."""


@dataclass(frozen=True, slots=True)
class HistoryConfig:
    """How much of the past this node keeps, and how it takes over that of others."""

    archive: bool = False
    """Keep every chain block and vertex since genesis."""
    blocks: int = 100_000
    """Otherwise the latest so many chain blocks (with their vertices); older ones are pruned, but for the headers and
    certificates that close epochs. Whoever was away for longer joins by a snapshot."""
    snapshot_blocks: int = 10_000
    """A snapshot of the state is offered at every height that this divides: the same on all nodes is best."""
    trust: str | None = None
    """HEIGHT:HASH of a header known by other means, which the chain must hold."""


@dataclass(frozen=True, slots=True)
class LogConfig:
    level: LogLevel = LogLevel.INFO
    format: LogFormat = LogFormat.JSON
    max_bytes: int = 16 << 20
    files: int = 4


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """All of HOME/config.toml."""

    name: str = "node"
    role: Role = Role.VALIDATOR
    devnet: bool = False
    """Whether whoever holds the node's token may make it break its own links: for devnets alone."""
    api: ApiConfig = field(default_factory=ApiConfig)
    peer: PeerConfig = field(default_factory=PeerConfig)
    limits: Limits = field(default_factory=Limits)
    history: HistoryConfig = field(default_factory=HistoryConfig)
    log: LogConfig = field(default_factory=LogConfig)
