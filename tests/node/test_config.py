"""Settings: what is written is read back, and every mistake is named with its file and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpisa.config import (
    MAX_CONFIG_BYTES,
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
    read_config,
    write_config,
)
from mpisa.primitives.errors import InvalidConfig

PEER = "12D3KooWBsQ2xNSzP5CWRvdDKX7sJWJF1n9S72MYNjkNETPxtNGW"

WHOLE = NodeConfig(
    name="node-7",
    role=Role.FOLLOWER,
    api=ApiConfig("::1", 8480, ("example.org", "localhost:8480"), Gateway.TRUSTLESS),
    peer=PeerConfig(
        "0.0.0.0",
        9000,
        9001,
        "node7.example.org",
        60_000,
        (
            PeerEntry(PEER, ("/ip4/127.0.0.1/tcp/4001", "/dns4/a.example.org/tcp/4001"), "https://127.0.0.1:9000"),
            PeerEntry(PEER),
        ),
    ),
    limits=Limits(mempool_transactions=5, certification_lag=2),
    history=HistoryConfig(archive=True, blocks=300, snapshot_blocks=64, trust=f"12:{'ab' * 32}"),
    log=LogConfig(LogLevel.DEBUG, LogFormat.CONSOLE, 1 << 20, 2),
)


@pytest.mark.parametrize("config", [NodeConfig(), WHOLE])
def test_what_is_written_is_read_back(tmp_path: Path, config: NodeConfig) -> None:
    file = tmp_path / "config.toml"
    write_config(file, config)
    assert read_config(file) == config


def test_an_empty_file_means_all_defaults(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("")
    assert read_config(file) == NodeConfig()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('colour = "x"', "colour: unknown key, expected one of name, role, devnet, api, peer, limits, history, log"),
        ("name = 3", "name: expected 1 to 63 letters, digits, dots, dashes, found 3"),
        ('name = "-x"', "name: expected 1 to 63 letters, digits, dots, dashes, found '-x'"),
        ('role = "king"', "role: expected one of validator, follower, found 'king'"),
        ("api = 1", "api: expected a table, found 1"),
        ("[api]\nport = 65536", "api.port: expected an integer from 0 to 65535, found 65536"),
        ("[api]\nport = true", "api.port: expected an integer from 0 to 65535, found True"),
        ('[api]\nhost = "example.org"', "api.host: expected an IP address or localhost, found 'example.org'"),
        (
            '[api]\nallowed_hosts = ["a b"]',
            "api.allowed_hosts: expected a list of at most 16 items, each a host name, with or without a port, "
            "found ['a b']",
        ),
        ("[[peer.peers]]\n", "peer.peers[0].peer_id: expected a base58 peer id, found None"),
        ('[[peer.peers]]\npeer_id = "no!"', "peer.peers[0].peer_id: expected a base58 peer id, found 'no!'"),
        (
            f'[[peer.peers]]\npeer_id = "{PEER}"\npeer_url = "http://x:1"',
            "peer.peers[0].peer_url: expected https://host:port, found 'http://x:1'",
        ),
        (
            f'[[peer.peers]]\npeer_id = "{PEER}"\nmultiaddrs = ["/ip4/1.2.3.4/p2p/X"]',
            "peer.peers[0].multiaddrs: expected a list of at most 16 items, each a multiaddr without /p2p/, "
            "found ['/ip4/1.2.3.4/p2p/X']",
        ),
        (
            "[limits]\nmempool_bytes = 1.5",
            "limits.mempool_bytes: expected an integer from 65536 to 1099511627776, found 1.5",
        ),
        ('[log]\nlevel = "loud"', "log.level: expected one of debug, info, warning, error, found 'loud'"),
    ],
)
def test_a_mistake_is_named_with_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)
    with pytest.raises(InvalidConfig) as caught:
        read_config(file)
    assert str(caught.value) == f"{file}: {message}"
    assert caught.value.hint is not None


def test_what_is_no_toml_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('name = "x"\nrole = \n')
    with pytest.raises(InvalidConfig, match=r"config\.toml: not TOML: .*line 2"):
        read_config(file)


def test_a_missing_binary_or_huge_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    with pytest.raises(InvalidConfig, match="there is no such file"):
        read_config(file)
    file.write_bytes(b'name = "\xff"')
    with pytest.raises(InvalidConfig, match="not UTF-8 text at byte 8"):
        read_config(file)
    file.write_bytes(b"#" * (MAX_CONFIG_BYTES + 1))
    with pytest.raises(InvalidConfig, match=f"expected at most {MAX_CONFIG_BYTES} bytes"):
        read_config(file)
