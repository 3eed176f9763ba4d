"""docs/metrics.md and /metrics name the same figures, of the same kinds; the new ones say what they should."""

import re
from pathlib import Path

from mpisa.api.event_feed import EventFeed
from mpisa.api.metrics import Metrics
from mpisa.node.metrics import directory_bytes
from tests.node.cluster import key_of, running

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


async def test_every_metric_is_documented_and_every_documented_one_exists(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        await cluster.nodes[0].submit(cluster.transfer(key_of("account 0"), 0), "certified")
        metrics = Metrics(cluster.nodes[0], EventFeed(cluster.nodes[0].events))
        metrics.count("GET", "/healthz", 200, 0.001)
        text = metrics.text().decode()
    served = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    served = {name: kind for name, kind in served.items() if not name.endswith("_created")}
    documented = dict(re.findall(r"^\| `(mpisa_\w+)` \| (\w+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert documented == served


async def test_lag_sizes_and_slots_are_counted(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        node = cluster.nodes[0]
        await node.submit(cluster.transfer(key_of("account 0"), 0), "certified")
        figures = node.metrics()
        assert figures["leader_slots_committed_total"] > 0
        assert figures["ledger_store_bytes"] == directory_bytes(cluster.home(0) / "ledger") > 0
        assert figures["vertex_store_bytes"] > 0
        assert (figures["epoch"], figures["link_faults"], figures["leaders_suspended"]) == (0, 0, 0)
        await cluster.stop(1, 2, 3)
        await node.submit(cluster.transfer(key_of("account 0"), 1), "accepted")
        assert node.metrics()["mempool_transactions"] == 1


def test_a_directory_holds_what_its_files_hold(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"12345")
    (tmp_path / "two").write_bytes(b"678")
    assert directory_bytes(tmp_path) == 8
