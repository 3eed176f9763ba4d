"""Fifty processes killed at random moments of put, get, import, collection and compaction; `make campaign-storage` for
a thousand. A process of its own runs it, for it forks.
"""

import json
import subprocess
import sys
from pathlib import Path

from tests.functional.harness import ROOT, Devnet

KILLS = 50
TIMEOUT_S = 300


def test_fifty_kills_lose_nothing_acknowledged(net: Devnet, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.storage.campaign", "--kills", str(KILLS)]
    summary = tmp_path / "summary.json"
    done = subprocess.run(
        [*command, "--summary", str(summary), "--node", str(net.home), net.nodes()[0]["api"]],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = json.loads(summary.read_text())
    assert sum(run["kills"].values()) == KILLS
    assert set(run["kills"]) == {"put", "import CAR", "collect and compact", "get command", "put command"}
    assert run["findings"] == []
    assert run["acknowledged"] > KILLS
    assert run["packs_retired"] > 0
    assert 0 < run["peak_mib"] <= 256
