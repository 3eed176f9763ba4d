"""README's five minutes, typed as they stand: every block of commands, in order, by one reader."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.functional.harness import ROOT

BLOCK_TIMEOUT_S = 120
_SECTION = re.compile(r"^## Five minutes\n(.*?)^## ", re.DOTALL | re.MULTILINE)
_STEP = re.compile(r"^\*\*(\d+)\.(.*?)(?=^\*\*\d+\.|\Z)", re.DOTALL | re.MULTILINE)
_STATE = "tour.env"


def steps() -> dict[int, str]:
    """The indented block of each numbered step of the tour."""
    section = _SECTION.search((ROOT / "README.md").read_text())
    assert section is not None
    blocks = {}
    for number, body in _STEP.findall(section.group(1)):
        lines = [line[4:] for line in body.splitlines() if line.startswith("    ")]
        blocks[int(number)] = "\n".join(lines)
    return blocks


@dataclass(frozen=True, slots=True)
class Reader:
    """A person with a fresh home, an empty folder and `mpisa` on PATH."""

    folder: Path

    def environment(self) -> dict[str, str]:
        mine = {name: value for name, value in os.environ.items() if not name.startswith(("MPISA_", "XDG_"))}
        path = f"{self.folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return mine | {"HOME": str(self.folder / "home"), "PATH": path, "PYTHONPATH": str(ROOT)}

    def type(self, block: str) -> str:
        """The output of a block, which must succeed; CID lives on from block to block, as in the reader's shell."""
        script = f"set -eu\n[ ! -f {_STATE} ] || . ./{_STATE}\n{block}\nset | grep '^CID=' > {_STATE} || true\n"
        done = subprocess.run(
            ["sh", "-c", script],
            cwd=self.folder,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=BLOCK_TIMEOUT_S,
            check=False,
        )
        output = done.stdout.decode() + done.stderr.decode()
        assert done.returncode == 0, f"{block}\n\nended with {done.returncode}:\n{output}"
        return output


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    for name in ("home", "bin"):
        (tmp_path / name).mkdir()
    command = tmp_path / "bin" / "mpisa"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mpisa.cli "$@"\n')
    command.chmod(0o755)
    found = Reader(tmp_path)
    try:
        yield found
    finally:
        if (tmp_path / "home" / ".mpisa" / "devnet.json").exists():
            found.type("mpisa devnet down")


def test_the_five_minute_tour(reader: Reader) -> None:
    tour = steps()
    assert sorted(tour) == [1, 2, 3, 4, 5, 6, 7]
    install, path, start = tour[1].splitlines()
    assert install == "make install"
    assert path == 'export PATH="$PWD/.venv/bin:$PATH"'

    assert "4 nodes ready in" in reader.type(start)
    assert "certified  yes" in reader.type(tour[2])
    assert "identical" in reader.type(tour[3]).splitlines()
    checked = reader.type(tour[4])
    assert re.search(r"ok  certificate +height \d+ signed by [34] of 4 validators", checked)
    # On a slow machine the heartbeat closes a block before the publish does.
    assert re.search(r"valid: \d+ headers up to height [12], certificates checked here", checked)
    broken = reader.type(tour[5])
    assert "certified  yes" in broken
    assert "started: node2" in broken
    assert re.search(r"^round +node1 +node2 +node3 +node4 +verdicts$", broken, re.MULTILINE)
    status = json.loads(reader.type("mpisa devnet status --json 2>/dev/null"))
    assert all(node["height"] >= 2 for node in status["nodes"]), "an idle chain goes on"
    assert len({node["state_root"] for node in status["nodes"]}) == 1
    (reader.folder / "snippet.py").write_text(tour[6])
    assert "PutResult(cid='bafy" in reader.type("python snippet.py")
    stopped = reader.type(tour[7])
    assert "stopped: node1, node2, node3, node4" in stopped
    assert not [node["pid"] for node in status["nodes"] if _is_ours(node["pid"])]


def _is_ours(pid: int) -> bool:
    try:
        return b"mpisa" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return False
