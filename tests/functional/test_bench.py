"""`mpisa bench consensus` for a short while: what was sent to real processes is certified and accounted for."""

from __future__ import annotations

import json
import subprocess
import sys

TIMEOUT_S = 240


def test_a_short_run_accounts_for_every_transaction() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "mpisa.cli", "bench", "consensus", "--rate", "40", "--seconds", "2", "--json"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    found = json.loads(run.stdout)
    assert found["bench"] == "consensus"
    figures = {item["name"]: item for item in found["results"]}
    references = {name for name in figures if name.startswith("reference_")}
    assert set(figures) - references == {
        "certified_tps",
        "ordered_p50_ms",
        "certified_p50_ms",
        "certified_p99_ms",
    }
    whole = figures["certified_tps"]
    assert (whole["offered_tps"], whole["refused"], whole["unfinished"]) == (40.0, {}, 0)
    assert whole["payload_bytes"] == 200
    assert set(whole["nodes_us_by_stage"]) == {
        "chain_store",
        "engine",
        "execution",
        "header",
        "other",
        "signatures",
        "state_map",
        "submission",
        "vertex_checks",
        "vertex_store",
    }
    assert all(whole["nodes_us_by_stage"][stage] > 0 for stage in ("chain_store", "engine", "execution"))
    assert all("crash faults only" in figures[name]["what"] for name in references)
