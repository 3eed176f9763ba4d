"""How one node is set up: HOME/config.toml, read into frozen values and checked to the last key.

`settings` has the values and their defaults, `reading` and `writing` the file, `table` the strictness: every unknown
key, wrong type and value out of range raises InvalidConfig, which names the file, the key and what was expected.
Non-goals: the chain's own parameters, which live in the genesis document and the state.
"""

from mpisa.config.reading import MAX_CONFIG_BYTES, parse_config, parse_trust, read_config
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
from mpisa.config.writing import write_config

CONFIG_NAME = "config.toml"

__all__ = [
    "CONFIG_NAME",
    "MAX_CONFIG_BYTES",
    "ApiConfig",
    "Gateway",
    "HistoryConfig",
    "Limits",
    "LogConfig",
    "LogFormat",
    "LogLevel",
    "NodeConfig",
    "PeerConfig",
    "PeerEntry",
    "Role",
    "parse_config",
    "parse_trust",
    "read_config",
    "write_config",
]
