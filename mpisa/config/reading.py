"""From config.toml to settings: one function a table, each with the range of every value."""

from __future__ import annotations

import ipaddress
import re
import tomllib
from typing import TYPE_CHECKING, Any

from mpisa.config.settings import (
    ApiConfig,
    Gateway,
    HistoryConfig,
    Limits,
    LogConfig,
    LogFormat,
    LogLevel,
    NodeConfig,
    PeerConfig,
    PeerEntry,
    Role,
)
from mpisa.config.table import Table
from mpisa.primitives.errors import InvalidConfig

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

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


def _read_peers(tables: list[Table]) -> tuple[PeerEntry, ...]:
    entries = []
    for table in tables:
        peer_id = table.required("peer_id", "", "a base58 peer id", lambda text: bool(_PEER_ID.fullmatch(text)))
        multiaddrs = table.texts("multiaddrs", MAX_ADDRESSES, "a multiaddr without /p2p/", _is_multiaddr)
        peer_url = table.text("peer_url", None, "https://host:port", lambda text: bool(_PEER_URL.fullmatch(text)))
        table.finish("peer_id, multiaddrs, peer_url")
        entries.append(PeerEntry(peer_id, multiaddrs, peer_url))
    return tuple(entries)


def _read_api(table: Table) -> ApiConfig:
    default = ApiConfig()
    served = [kind.value for kind in Gateway]
    config = ApiConfig(
        host=table.required("host", default.host, "an IP address or localhost", _is_host),
        port=table.integer("port", default.port, 0, 65535),
        allowed_hosts=table.texts(
            "allowed_hosts", MAX_ADDRESSES, "a host name, with or without a port", _is_host_header
        ),
        gateway=Gateway(
            table.required("gateway", default.gateway.value, f"one of {', '.join(served)}", served.__contains__)
        ),
    )
    table.finish("host, port, allowed_hosts, gateway")
    return config


def _read_peer(table: Table) -> PeerConfig:
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


def _read_limits(table: Table) -> Limits:
    default = Limits()
    config = Limits(
        mempool_transactions=table.integer("mempool_transactions", default.mempool_transactions, 1, 10_000_000),
        mempool_bytes=table.integer("mempool_bytes", default.mempool_bytes, 1 << 16, 1 << 40),
        mempool_per_account=table.integer("mempool_per_account", default.mempool_per_account, 1, 1_000_000),
        mempool_nonce_gap=table.integer("mempool_nonce_gap", default.mempool_nonce_gap, 0, 100_000),
        upload_bytes=table.integer("upload_bytes", default.upload_bytes, 1, 1 << 60),
        answer_bytes=table.integer("answer_bytes", default.answer_bytes, 1 << 20, 1 << 60),
        store_bytes=table.integer("store_bytes", default.store_bytes, 0, 1 << 60),
        gc_high_water_percent=table.integer("gc_high_water_percent", default.gc_high_water_percent, 10, 100),
        gc_grace_ms=table.integer("gc_grace_ms", default.gc_grace_ms, 0, 30 * 24 * 3600 * 1000),
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


def _read_history(table: Table) -> HistoryConfig:
    default = HistoryConfig()
    config = HistoryConfig(
        archive=table.flag("archive", default.archive),
        blocks=table.integer("blocks", default.blocks, MIN_KEPT_BLOCKS, 1 << 53),
        snapshot_blocks=table.integer("snapshot_blocks", default.snapshot_blocks, MIN_SNAPSHOT_BLOCKS, 1 << 53),
        trust=table.text("trust", None, "HEIGHT:HASH", _is_trust),
    )
    table.finish("archive, blocks, snapshot_blocks, trust")
    return config


def _read_log(table: Table) -> LogConfig:
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
    table = Table(file, "", dict(document))
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
