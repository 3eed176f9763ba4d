"""The storage bench with small sizes: what it measures is real, and what isn't here is left out and said."""

import sys
from pathlib import Path

import pytest

from mpisa.cli.bench import kubo, storage
from mpisa.cli.bench.asked import Asked
from mpisa.cli.bench.result import Figure
from mpisa.cli.bench.storage_size import Size, compared, write_random

SMALL = Size(runs=1, large_bytes=3 << 20, files=20, dead_blocks=300, remote_blocks=5, huge_bytes=2 << 20)


def test_figures_of_a_store_without_a_peer(tmp_path: Path) -> None:
    said: list[str] = []
    figures = {figure.name: figure for figure in storage.on_disk(SMALL, tmp_path, None, said.append)}
    assert list(figures) == ["add_1gib", "verify_all", "add_10k_files", "gc_100k_s", "gc_read_p99_ratio"]
    assert ", ".join(said) == ", ".join(figures)
    assert all(figure.peer is None and len(figure.runs) == 1 and figure.value > 0 for figure in figures.values())
    assert figures["add_1gib"].goal is None
    assert figures["add_1gib"].facts["mib"] == 3
    assert "goal_is" not in figures["add_1gib"].facts
    assert figures["add_1gib"].limit_runs
    assert figures["add_10k_files"].facts["files"] == 20
    assert figures["gc_100k_s"].facts["blocks"] == 300
    assert figures["gc_100k_s"].facts["mib_freed"] == 1
    assert list(tmp_path.glob("*/")) == []


def test_a_peer_that_is_not_here_is_left_out_with_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(kubo.LIBRARY_VARIABLE, raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    said: list[str] = []
    assert storage.find_peer("kubo", said.append) is None
    assert said == [f"Kubo isn't here and is left out: {kubo.WHERE_FROM}"]
    assert storage.find_peer(None, said.append) is None
    assert len(said) == 1
    monkeypatch.setenv(kubo.LIBRARY_VARIABLE, "/a/library")
    assert storage.find_peer("kubo", said.append) == Path("/a/library")


def test_a_goal_that_speaks_of_a_peer_needs_one() -> None:
    figure = Figure("x", "s", "lower", (1.0,), facts={"goal_is": "half of Kubo's"})
    alone = compared(figure, facts={"mib": 1})
    assert (alone.peer, alone.facts) == (None, {"mib": 1})


def test_a_measured_process_that_ends_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="out of luck"):
        Asked([sys.executable, "-c", "raise SystemExit('out of luck')"], tmp_path / "errors")
    program = "print('{}', flush=True); input()"
    with (
        Asked([sys.executable, "-c", program], tmp_path / "errors") as asked,
        pytest.raises(RuntimeError, match="ended"),
    ):
        asked.ask("anything")
    asked = Asked([sys.executable, "-c", f"{program}; input()"], tmp_path / "errors")
    with asked, pytest.raises(RuntimeError, match="in time"):
        asked.ask("anything", timeout_s=0.1)


def test_the_limits_count_every_byte(tmp_path: Path) -> None:
    source = write_random(tmp_path / "source", 2_500_000)
    assert source.stat().st_size == 2_500_000
    assert storage.hash_file(source) > 0
    assert storage.write_synced(source, tmp_path / "target") > 0
    assert not (tmp_path / "target").exists()
