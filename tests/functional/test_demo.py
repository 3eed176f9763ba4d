"""The demo itself: every step holds, and nothing stays behind, also when it is interrupted."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from devnet import process, state
from tests.functional.harness import ROOT, until


def start(tmp_path: Path) -> subprocess.Popen[bytes]:
    mine = {name: value for name, value in os.environ.items() if not name.startswith("MPISA_")}
    return subprocess.Popen(
        [sys.executable, "-m", "mpisa.cli", "demo", "--json"],
        env=mine | {"TMPDIR": str(tmp_path), "MPISA_RUNTIME_DIR": str(tmp_path / "run"), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_all_steps_hold_and_nothing_stays(tmp_path: Path) -> None:
    out, err = start(tmp_path).communicate(timeout=180), b""
    answer: Any = json.loads(out[0])
    assert len(answer["passed"]) > 15, err
    assert list(tmp_path.glob("mpisa-demo-*")) == []


def _homes(tmp_path: Path) -> Path | None:
    return next((path.parent for path in tmp_path.glob("mpisa-demo-*/devnet/run.json")), None)


def _any_node(tmp_path: Path, manifest: bool) -> dict[str, process.ProcessIdentity] | None:
    home = _homes(tmp_path)
    if home is None:
        return None
    found = state.read_processes(home)
    nodes = json.loads((home / "devnet.json").read_text())["nodes"] if manifest and found else []
    if manifest and not any(node["pid"] for node in nodes):
        return None
    return found or None


@pytest.mark.parametrize("all_ready", [False, True])
def test_ctrl_c_leaves_nothing_running(tmp_path: Path, all_ready: bool) -> None:
    demo = start(tmp_path)
    try:
        found = until(lambda: _any_node(tmp_path, all_ready))
        demo.send_signal(signal.SIGINT)
        _, err = demo.communicate(timeout=60)
        assert demo.returncode == 130, err
        home = _homes(tmp_path)
        assert home is not None
        identities = [*found.values(), *state.read_processes(home).values()]
        assert not any(process.is_alive(identity) for identity in identities)
        assert json.loads(err)["error"]["code"] == "interrupted"
    finally:
        demo.kill()
        demo.wait()
