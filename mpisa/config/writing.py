"""From settings to config.toml, so that reading gives the same settings again."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from mpisa.config.settings import (
        ApiConfig,
        HistoryConfig,
        Limits,
        LogConfig,
        NodeConfig,
        PeerConfig,
        PeerEntry,
    )


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
