"""How one node is set up: HOME/config.toml, read into frozen values and checked to the last key.

Every unknown key, wrong type and value out of range raises InvalidConfig, which names the file, the key and what was
expected. Ports of 0 mean a free one at start. Sizes are bytes, times milliseconds. Non-goals: the chain's own
parameters, which live in the genesis document and the state.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpisa.primitives.errors import InvalidConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CONFIG_NAME = "config.toml"
MAX_CONFIG_BYTES = 1 << 20
MAX_PEERS = 256
MAX_ADDRESSES = 16
MAX_HEIGHT_DIGITS = 15
MIN_KEPT_BLOCKS = 64
MIN_SNAPSHOT_BLOCKS = 16
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_HASH = re.compile(r"[0-9a-f]{64}")
_PEER_ID = re.compile(r"[1-9A-HJ-NP-Za-km-z]{10,128}")
_PEER_URL = re.compile(r"https://[A-Za-z0-9.\-\[\]:]{1,255}:[0-9]{1,5}")


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


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """The loopback listener for people."""

    host: str = "127.0.0.1"
    port: int = 0
    allowed_hosts: tuple[str, ...] = ()
    """Host header values accepted besides the loopback names."""


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
    store_bytes: int = 0
    """Most bytes of blocks kept; 0 means as much as the disk holds."""
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


@dataclass(slots=True)
class _Table:
    """One TOML table being read: every key must be taken, and what is left over is an error."""

    file: Path
    prefix: str
    values: dict[str, Any]

    def bad(self, key: str, expected: str) -> InvalidConfig:
        found = self.values.get(key)
        return InvalidConfig(
            f"{self.file}: {self.prefix}{key}: expected {expected}, found {found!r}",
            hint=f"correct {self.prefix}{key} in {self.file}",
        )

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.bad(key, f"an integer from {low} to {high}")
        self.values.pop(key, None)
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.bad(key, "true or false")
        self.values.pop(key, None)
        return value

    def text(self, key: str, default: str | None, expected: str, accepts: Callable[[str], bool]) -> str | None:
        if key not in self.values:
            return default
        value = self.values[key]
        if not isinstance(value, str) or not accepts(value):
            raise self.bad(key, expected)
        del self.values[key]
        return value

    def required(self, key: str, default: str, expected: str, accepts: Callable[[str], bool]) -> str:
        value = self.text(key, default, expected, accepts)
        assert value is not None
        if not accepts(value):
            raise self.bad(key, expected)
        return value

    def texts(self, key: str, limit: int, expected: str, accepts: Callable[[str], bool]) -> tuple[str, ...]:
        values = self.values.get(key, [])
        whole = f"a list of at most {limit} items, each {expected}"
        if not isinstance(values, list) or len(values) > limit:
            raise self.bad(key, whole)
        for value in values:
            if not isinstance(value, str) or not accepts(value):
                raise self.bad(key, whole)
        self.values.pop(key, None)
        return tuple(values)

    def table(self, key: str) -> _Table:
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            raise self.bad(key, "a table")
        self.values.pop(key, None)
        return _Table(self.file, f"{self.prefix}{key}.", dict(value))

    def tables(self, key: str, limit: int) -> list[_Table]:
        values = self.values.get(key, [])
        if not isinstance(values, list) or len(values) > limit or not all(isinstance(item, dict) for item in values):
            raise self.bad(key, f"at most {limit} tables")
        self.values.pop(key, None)
        return [_Table(self.file, f"{self.prefix}{key}[{index}].", dict(item)) for index, item in enumerate(values)]

    def finish(self, known: str) -> None:
        for key in sorted(self.values):
            raise InvalidConfig(
                f"{self.file}: {self.prefix}{key}: unknown key, expected one of {known}",
                hint=f"remove {self.prefix}{key} from {self.file}",
            )


def _is_host(text: str) -> bool:
    if text == "localhost":
        return True
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_host_name(text: str) -> bool:
    return _is_host(text) or re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?", text) is not None


def _is_host_header(text: str) -> bool:
    host, _, port = text.partition(":")
    return _is_host_name(host) and (not port or (port.isdigit() and int(port) < 65536))


def _is_multiaddr(text: str) -> bool:
    return text.startswith("/") and len(text) <= 512 and "/p2p/" not in text and text.isascii()


def _read_peers(tables: list[_Table]) -> tuple[PeerEntry, ...]:
    entries = []
    for table in tables:
        peer_id = table.required("peer_id", "", "a base58 peer id", lambda text: bool(_PEER_ID.fullmatch(text)))
        multiaddrs = table.texts("multiaddrs", MAX_ADDRESSES, "a multiaddr without /p2p/", _is_multiaddr)
        peer_url = table.text("peer_url", None, "https://host:port", lambda text: bool(_PEER_URL.fullmatch(text)))
        table.finish("peer_id, multiaddrs, peer_url")
        entries.append(PeerEntry(peer_id, multiaddrs, peer_url))
    return tuple(entries)


def _read_api(table: _Table) -> ApiConfig:
    default = ApiConfig()
    config = ApiConfig(
        host=table.required("host", default.host, "an IP address or localhost", _is_host),
        port=table.integer("port", default.port, 0, 65535),
        allowed_hosts=table.texts(
            "allowed_hosts", MAX_ADDRESSES, "a host name, with or without a port", _is_host_header
        ),
    )
    table.finish("host, port, allowed_hosts")
    return config


def _read_peer(table: _Table) -> PeerConfig:
    default = PeerConfig()
    config = PeerConfig(
        host=table.required("host", default.host, "an IP address or localhost", _is_host),
        port=table.integer("port", default.port, 0, 65535),
        libp2p_port=table.integer("libp2p_port", default.libp2p_port, 0, 65535),
        announce_host=table.text("announce_host", None, "an IP address or host name", _is_host_name),
        reprovide_interval_ms=table.integer(
            "reprovide_interval_ms", default.reprovide_interval_ms, 60_000, 48 * 3600 * 1000
        ),
        peers=_read_peers(table.tables("peers", MAX_PEERS)),
    )
    table.finish("host, port, libp2p_port, announce_host, reprovide_interval_ms, peers")
    return config


def _read_limits(table: _Table) -> Limits:
    default = Limits()
    config = Limits(
        mempool_transactions=table.integer("mempool_transactions", default.mempool_transactions, 1, 10_000_000),
        mempool_bytes=table.integer("mempool_bytes", default.mempool_bytes, 1 << 16, 1 << 40),
        mempool_per_account=table.integer("mempool_per_account", default.mempool_per_account, 1, 1_000_000),
        mempool_nonce_gap=table.integer("mempool_nonce_gap", default.mempool_nonce_gap, 0, 100_000),
        upload_bytes=table.integer("upload_bytes", default.upload_bytes, 1, 1 << 60),
        store_bytes=table.integer("store_bytes", default.store_bytes, 0, 1 << 60),
        retrieval_window_bytes=table.integer(
            "retrieval_window_bytes", default.retrieval_window_bytes, 4 << 20, 1 << 34
        ),
        retrieval_concurrency=table.integer("retrieval_concurrency", default.retrieval_concurrency, 1, 256),
        event_queue=table.integer("event_queue", default.event_queue, 1, 1_000_000),
        certification_lag=table.integer("certification_lag", default.certification_lag, 2, 1_000_000),
        certification_stall_ms=table.integer(
            "certification_stall_ms", default.certification_stall_ms, 500, 24 * 3600 * 1000
        ),
    )
    table.finish(", ".join(Limits.__dataclass_fields__))
    return config


def parse_trust(text: str) -> tuple[int, bytes]:
    """Height and header hash of HEIGHT:HASH. Raises ValueError."""
    height, _, digest = text.partition(":")
    if not height.isdigit() or len(height) > MAX_HEIGHT_DIGITS or not _HASH.fullmatch(digest):
        raise ValueError(f"expected HEIGHT:HASH, the hash of 64 hex digits, got {text[:100]!r}")
    return int(height), bytes.fromhex(digest)


def _is_trust(text: str) -> bool:
    try:
        parse_trust(text)
    except ValueError:
        return False
    return True


def _read_history(table: _Table) -> HistoryConfig:
    default = HistoryConfig()
    config = HistoryConfig(
        archive=table.flag("archive", default.archive),
        blocks=table.integer("blocks", default.blocks, MIN_KEPT_BLOCKS, 1 << 53),
        snapshot_blocks=table.integer("snapshot_blocks", default.snapshot_blocks, MIN_SNAPSHOT_BLOCKS, 1 << 53),
        trust=table.text("trust", None, "HEIGHT:HASH", _is_trust),
    )
    table.finish("archive, blocks, snapshot_blocks, trust")
    return config


def _read_log(table: _Table) -> LogConfig:
    default = LogConfig()
    levels, formats = [level.value for level in LogLevel], [kind.value for kind in LogFormat]
    config = LogConfig(
        level=LogLevel(
            table.required("level", default.level.value, f"one of {', '.join(levels)}", levels.__contains__)
        ),
        format=LogFormat(
            table.required("format", default.format.value, f"one of {', '.join(formats)}", formats.__contains__)
        ),
        max_bytes=table.integer("max_bytes", default.max_bytes, 1 << 16, 1 << 34),
        files=table.integer("files", default.files, 1, 100),
    )
    table.finish("level, format, max_bytes, files")
    return config


def parse_config(document: Mapping[str, Any], file: Path) -> NodeConfig:
    """The settings in a parsed TOML document; `file` is what errors name."""
    table = _Table(file, "", dict(document))
    default = NodeConfig()
    roles = [role.value for role in Role]
    config = NodeConfig(
        name=table.required(
            "name", default.name, "1 to 63 letters, digits, dots, dashes", lambda text: bool(_NAME.fullmatch(text))
        ),
        role=Role(table.required("role", default.role.value, f"one of {', '.join(roles)}", roles.__contains__)),
        devnet=table.flag("devnet", default.devnet),
        api=_read_api(table.table("api")),
        peer=_read_peer(table.table("peer")),
        limits=_read_limits(table.table("limits")),
        history=_read_history(table.table("history")),
        log=_read_log(table.table("log")),
    )
    table.finish("name, role, devnet, api, peer, limits, history, log")
    return config


def read_config(file: Path) -> NodeConfig:
    """Reads and checks a config file. Raises InvalidConfig, also when it is missing, too long or not TOML."""
    try:
        if file.stat().st_size > MAX_CONFIG_BYTES:
            raise InvalidConfig(f"{file}: expected at most {MAX_CONFIG_BYTES} bytes", hint="is this the right file?")
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidConfig(f"{file}: there is no such file", hint=f"mpisa node init --home {file.parent}") from None
    except OSError as error:
        raise InvalidConfig(f"{file}: can't be read: {error.strerror}", hint="check its permissions") from error
    except UnicodeDecodeError as error:
        raise InvalidConfig(f"{file}: not UTF-8 text at byte {error.start}", hint="is this the right file?") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidConfig(f"{file}: not TOML: {error}", hint="see https://toml.io") from None
    return parse_config(document, file)


def _quoted(text: str) -> str:
    escaped = "".join(
        f"\\u{ord(char):04X}" if ord(char) < 32 or ord(char) == 127 else char
        for char in text.replace("\\", "\\\\").replace('"', '\\"')
    )
    return f'"{escaped}"'


def _toml(value: object) -> str:
    if isinstance(value, Enum):
        return _quoted(str(value.value))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return _quoted(str(value))


def _lines(
    value: ApiConfig | HistoryConfig | Limits | LogConfig | PeerConfig | PeerEntry, skip: tuple[str, ...] = ()
) -> list[str]:
    pairs = ((name, getattr(value, name)) for name in type(value).__dataclass_fields__ if name not in skip)
    return [f"{name} = {_toml(item)}" for name, item in pairs if item is not None]


def write_config(file: Path, config: NodeConfig) -> None:
    """Writes what `read_config` reads back to the same value."""
    lines = [f"name = {_toml(config.name)}", f"role = {_toml(config.role)}"]
    if config.devnet:
        lines.append(f"devnet = {_toml(config.devnet)}")
    lines += ["", "[api]", *_lines(config.api)]
    lines += ["", "[limits]", *_lines(config.limits)]
    lines += ["", "[history]", *_lines(config.history)]
    lines += ["", "[log]", *_lines(config.log)]
    lines += ["", "[peer]", *_lines(config.peer, skip=("peers",))]
    for entry in config.peer.peers:
        lines += ["", "[[peer.peers]]", *_lines(entry)]
    temporary = file.with_name(file.name + ".new")
    temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    temporary.replace(file)
