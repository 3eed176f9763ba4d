"""The form of a bench's answer and of the page it writes."""

import datetime
from pathlib import Path

from mpisa.cli.bench import plot, reference, report
from mpisa.cli.bench.result import Bench, Figure

TRANSFER = Figure(
    "transfer_256mib",
    "MiB/s",
    "higher",
    (100.0, 120.0, 110.0),
    goal=100.0,
    peer="aiohttp",
    peer_runs=(220.0,),
    limit="disk",
    limit_runs=(440.0,),
)
READY = Figure("devnet_ready_s", "s", "lower", (8.0,), goal=6.0, limit="import", limit_runs=(4.0,), facts={"nodes": 4})
MACHINE = {"cores": 2, "cpu": "some", "python": "3.11.7", "load_before": 0.1}


def test_a_figure_has_the_documented_form() -> None:
    assert TRANSFER.to_json() == {
        "name": "transfer_256mib",
        "unit": "MiB/s",
        "better": "higher",
        "value": 110.0,
        "runs": [100.0, 120.0, 110.0],
        "peer": "aiohttp",
        "peer_value": 220.0,
        "ratio": 0.5,
        "limit": "disk",
        "limit_value": 440.0,
        "of_limit": 0.25,
        "goal": 100.0,
        "met": True,
    }


def test_where_lower_is_better_ratios_turn_round_and_what_is_absent_is_left_out() -> None:
    assert READY.to_json() == {
        "name": "devnet_ready_s",
        "unit": "s",
        "better": "lower",
        "value": 8.0,
        "runs": [8.0],
        "limit": "import",
        "limit_value": 4.0,
        "of_limit": 0.5,
        "goal": 6.0,
        "met": False,
        "nodes": 4,
    }


def test_the_page_keeps_other_sections(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "benchmarks.md"
    other = Bench("storage", MACHINE, {}, (READY,))
    report.write(page, other)
    report.write(page, Bench("network", MACHINE, {"mpisa": "1"}, (TRANSFER,)))
    once = page.read_text()
    report.write(page, Bench("network", MACHINE, {"mpisa": "1"}, (TRANSFER,)))
    assert page.read_text() == once
    assert once.startswith("# Benchmarks\n")
    assert once.count("## storage") == 1
    assert once.count("## network") == 1
    assert report.section(other, datetime.date(2025, 1, 2)).splitlines()[2].startswith("2025-01-02, 2 cores of some")
    assert "| devnet_ready_s | 8 s | <= 6 | NO |" in once


def test_the_reference_moves_every_byte(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_bytes(bytes(range(256)) * 8192)
    with reference.server(file, tmp_path) as (url, certificate):
        assert reference.fetch_hashed(url, certificate) > 0
    assert reference.write_synced(tmp_path, 2 << 20) > 0


def test_a_page_shows_the_picture_beside_it() -> None:
    bench = Bench("growth", MACHINE, {}, (TRANSFER,), picture="growth.svg")
    assert "\n\n![growth](growth.svg)\n\n- transfer_256mib" in report.section(bench, datetime.date(2025, 1, 2))


def test_a_plot_shows_the_peer_dashed_where_there_is_one() -> None:
    alone = plot.draw([plot.Panel("added", "MiB/s", [(1, 10.0), (4, 20.0)])], "GiB")
    both = plot.draw([plot.Panel("added", "MiB/s", [(1, 10.0), (4, 20.0)], peer=[(1, 400.0)])], "GiB")
    assert (alone.count("polyline"), alone.count("dasharray")) == (1, 0)
    assert (both.count("polyline"), both.count("dasharray"), both.count(">400<")) == (2, 1, 1)
    assert alone.count(">20<") == both.count(">20<") == 1
