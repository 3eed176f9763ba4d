"""Commands typed at a devnet, and waiting for what they show."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mpisa.cli.main import run

ROOT = Path(__file__).parents[2]
COMMAND_TIMEOUT_S = 120
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one command ended."""

    code: int
    out: bytes
    err: str

    @property
    def json(self) -> Any:
        """What it printed on stdout."""
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        """The error object it printed on stderr."""
        return json.loads(self.err)["error"]


@dataclass(frozen=True, slots=True)
class Devnet:
    """A devnet's home, and the commands a person would type at it."""

    home: Path
    runtime: Path

    def environment(self) -> dict[str, str]:
        """Ours, with this devnet as the only target."""
        mine = {name: value for name, value in os.environ.items() if not name.startswith("MPISA_")}
        return mine | {"MPISA_HOME": str(self.home), "MPISA_RUNTIME_DIR": str(self.runtime), "PYTHONPATH": str(ROOT)}

    def run(self, *arguments: str | Path, node: int | None = None, stdin: bytes = b"") -> Outcome:
        """Run `mpisa ARGUMENTS`, at node 1..4 when asked, and let it end as it will.

        Only `devnet up` is a process of its own, since it forks; the others run here, which saves importing anew.
        """
        at = ("--endpoint", self.nodes()[node - 1]["api"]) if node else ()
        words = [*map(str, arguments), *at]
        if words[:2] == ["devnet", "up"]:
            return self.spawn(*words)
        if "--home" not in words:
            words += ["--home", str(self.home)]
        out, err = io.BytesIO(), io.StringIO()
        saved = sys.stdin
        sys.stdin = io.TextIOWrapper(io.BytesIO(stdin))
        try:
            with contextlib.redirect_stdout(io.TextIOWrapper(out)) as text, contextlib.redirect_stderr(err):
                code = run(words)
                text.flush()
        finally:
            sys.stdin = saved
        return Outcome(code, out.getvalue(), err.getvalue())

    def spawn(self, *arguments: str | Path) -> Outcome:
        """Run `mpisa ARGUMENTS` as a process of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "mpisa.cli", *map(str, arguments)],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr.decode())

    def json(self, *arguments: str | Path, node: int | None = None) -> Any:
        """The same with --json; it must succeed."""
        outcome = self.run(*arguments, "--json", node=node)
        assert outcome.code == 0, outcome.err
        return outcome.json

    def manifest(self) -> Any:
        """devnet.json."""
        return json.loads((self.home / "devnet.json").read_text())

    def nodes(self) -> list[dict[str, Any]]:
        """The nodes in devnet.json."""
        found: list[dict[str, Any]] = self.manifest()["nodes"]
        return found

    def status(self) -> list[dict[str, Any]]:
        """The nodes as `devnet status` sees them."""
        found: list[dict[str, Any]] = self.json("devnet", "status")["nodes"]
        return found

    def equal_heads(self) -> tuple[int, str] | None:
        """Height and state root when all four agree on them."""
        heads = {(node["height"], node["state_root"]) for node in self.status()}
        if len(heads) != 1:
            return None
        height, root = heads.pop()
        return (height, root) if height is not None else None


_NEVER = threading.Event()


def until(probe: Callable[[], T | None], timeout_s: float = 60) -> T:
    """Ask, twenty times a second at most, until there is an answer; fails the test after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while (answer := probe()) is None:
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        _NEVER.wait(0.05)
    return answer
