"""What is found wrong, of facts and of a real node: damage, pins that aren't whole; verifying beside work."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mpisa.node.diagnosis import MAX_NAMED, diagnose
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import NotReady
from tests.api.fake_node import WELL
from tests.node.cluster import running
from tests.node.test_car_upload import car, tree

CASES: dict[str, tuple[dict[str, Any], str]] = {
    "halted": ({"halted": "it signed twice", "not_ready": ("halted: it signed twice; read",)}, "the node has halted: "),
    "not ready": ({"not_ready": ("catching up by snapshot",)}, "not ready: catching up by snapshot"),
    "disk refuses": ({"disk_error": "no space", "not_ready": ("no space",)}, "the disk refuses writes: no space"),
    "damage": ({"damaged": 2, "first_damage": "1.pack: bad"}, "2 damaged places in the block store, the first: 1.pack"),
    "disk low": ({"disk_free": 100 << 20}, "100 MiB are free on the disk of /home"),
    "disk nearly full": ({"disk_free": 50 << 30}, "51200 MiB are free on the disk"),
    "quota": ({"store_used": 95 << 20, "store_max": 100 << 20}, "the block store holds 95 of 100 MiB"),
    "descriptors": ({"open_files": 1000}, "1000 of 1024 file descriptors are in use"),
    "alone": ({"connected": 0}, "connected to no peer"),
    "late": ({"reprovide_lag": 30_000.0}, "announcements of content are 30000 s late"),
}


def test_a_node_that_is_well_has_no_findings() -> None:
    assert diagnose(WELL) == ()
    assert diagnose(replace(WELL, connected=0, expected_peers=0, damaged=0)) == ()


@pytest.mark.parametrize("name", sorted(CASES))
def test_what_is_wrong_is_found_once(name: str) -> None:
    facts, text = CASES[name]
    (found,) = diagnose(replace(WELL, **facts))
    assert found.what.startswith(text)
    assert found.why
    assert found.do


def test_of_many_incomplete_pins_some_are_named() -> None:
    cids = tuple(Cid.of(b"%d" % number) for number in range(MAX_NAMED + 3))
    found = diagnose(replace(WELL, incomplete=cids))
    assert [finding.do for finding in found[:-1]] == [f"mpisa blob pin {cid}" for cid in cids[:MAX_NAMED]]
    assert found[-1].what == "3 more pins lack blocks"


async def test_a_real_node_is_looked_at(tmp_path: Path) -> None:
    root, blocks = tree(tmp_path / "tree")
    async with running(tmp_path / "nodes", 1) as cluster:
        node = cluster.nodes[0]
        await node.blobs.put_car(car([root], blocks))
        facts = await node.facts()
        assert (facts.pins, facts.pins_checked, facts.incomplete, facts.damaged) == (1, 1, (), None)
        assert 0 < facts.open_files < facts.max_files
        assert facts.disk_free > 0
        lost = Cid.of(b"somebody pinned it, and it is gone")
        node._running.blobs._pins.pin(lost)
        assert (await node.facts()).incomplete == (lost,)
        assert node.verification().last is None
        report = await node.verify()
        assert (report.blocks, report.damaged) == (len(blocks), 0)
        assert node.verification().last == report
        victim = max((data for _, data in blocks), key=len)
        (pack,) = [path for path in cluster.home(0).rglob("*.pack") if victim in path.read_bytes()]
        raw = pack.read_bytes()
        at = raw.index(victim)
        pack.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        assert (await node.verify()).damaged == 1
        assert (await node.facts()).damaged == 1


async def test_one_verification_at_a_time_and_puts_go_on(tmp_path: Path) -> None:
    root, blocks = tree(tmp_path / "tree")
    async with running(tmp_path / "nodes", 1) as cluster:
        node = cluster.nodes[0]
        first = asyncio.create_task(node.verify())
        await asyncio.sleep(0)
        with pytest.raises(NotReady, match="a verification is running already"):
            await node.verify()
        assert (await node.blobs.put_car(car([root], blocks))).pinned == (root,)
        assert (await first).damaged == 0
