"""Reading the nodes' logs, once or as they grow."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from devnet import state
from devnet.launch import LOGS, last_lines
from mpisa.primitives.errors import NotFound

_POLL_S = 0.2
_TAIL_BYTES = 8 << 20


def read(home: Path, name: str | None, lines: int, *, follow: bool) -> Iterator[tuple[str, str]]:
    """(node, line) pairs: the last `lines` of each log, then, with `follow`, whatever is added. Raises NotFound."""
    manifest = state.require_manifest(home)
    nodes = {node.name: node.home for node in manifest.nodes}
    if name is not None and name not in nodes:
        raise NotFound(f"the devnet in {home} has no node named {name!r}", hint=f"its nodes: {', '.join(nodes)}")
    chosen = {name: nodes[name]} if name is not None else nodes
    positions = {(node, path / log): _size(path / log) for node, path in chosen.items() for log in LOGS}
    for node, path in chosen.items():
        for line in last_lines(path, lines, max_bytes=_TAIL_BYTES):
            yield node, line
    while follow:
        time.sleep(_POLL_S)
        for (node, file), position in positions.items():
            added, positions[node, file] = _read_from(file, position)
            for line in added:
                yield node, line


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _read_from(file: Path, position: int) -> tuple[list[str], int]:
    """Whole lines after `position`, and where to go on; a file that shrank (it was rotated) is read from its start."""
    if _size(file) < position:
        position = 0
    try:
        with file.open("rb") as stream:
            stream.seek(position)
            data = stream.read(_TAIL_BYTES)
    except FileNotFoundError:
        return [], 0
    end = data.rfind(b"\n") + 1
    return data[:end].decode(errors="replace").splitlines(), position + end
