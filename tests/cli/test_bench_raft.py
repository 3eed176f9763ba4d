"""The references of the bench: measured when they are there, left out with a note when they aren't."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpisa.cli.bench import raft


def test_pysyncobj_is_measured_and_an_absent_etcd_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found, notes = raft.references(tmp_path, 0.5)
    assert notes == ["etcd isn't installed: left out (apt install etcd-server)"]
    (reference,) = found
    assert reference.short == "pysyncobj"
    assert reference.name.endswith("3 nodes (crash faults only, no signatures)")
    assert reference.per_second > 0
    assert 0 < reference.p50_ms <= reference.p99_ms
