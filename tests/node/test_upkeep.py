"""Damaged stores of a real node: refused at the start, named by check, mended by repair, and right afterwards."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mpisa.node.home import HomeLock
from mpisa.node.runtime import Setup, read_setup
from mpisa.node.upkeep import CONSENSUS, LEDGER, PINS, check, repair
from mpisa.primitives.errors import StoreBusy, StoreDamaged
from tests.node.cluster import Cluster, key_of, running, until

ALICE = key_of("account 0")
NOW_MS = 1_800_000_000_000
VICTIM = 1


@contextmanager
def stopped(cluster: Cluster) -> Iterator[Setup]:
    setup = read_setup(cluster.home(VICTIM))
    with HomeLock(setup.home):
        yield setup


def flip_every_table(place: Path) -> None:
    """One byte in the middle of each file that holds entries."""
    files = [file for file in place.iterdir() if file.suffix in (".log", ".ldb", ".sst") and file.stat().st_size > 64]
    assert files
    for file in files:
        raw = bytearray(file.read_bytes())
        raw[len(raw) // 2] ^= 0x55
        file.write_bytes(raw)


async def run_a_while(cluster: Cluster) -> int:
    """A few certified transfers, then the victim stops; the height reached."""
    for nonce in range(3):
        status = await cluster.nodes[0].submit(cluster.transfer(ALICE, nonce), "certified")
    assert status.height is not None
    await cluster.level(status.height)
    await cluster.stop(VICTIM)
    return status.height


async def test_a_whole_home_has_no_findings(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        await run_a_while(cluster)
        with stopped(cluster) as setup:
            assert check(setup) == []
            assert repair(setup, NOW_MS) == []


async def test_a_running_node_keeps_its_home(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        with pytest.raises(StoreBusy, match="already runs on"), stopped(cluster):
            pass


async def test_a_damaged_ledger_is_executed_again(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        height = await run_a_while(cluster)
        flip_every_table(cluster.home(VICTIM) / LEDGER)
        with pytest.raises(StoreDamaged) as refused:
            await cluster.start(VICTIM)
        assert refused.value.hint == "run `mpisa node repair`"
        with stopped(cluster) as setup:
            assert [finding.store for finding in check(setup)] == [LEDGER]
            (mended,) = repair(setup, NOW_MS)
            assert mended.done == ("set aside as ledger.damaged-1; executed again from the vertices at the next start")
        await cluster.start(VICTIM)
        await cluster.ready(VICTIM)
        await cluster.level(height)
        await until(lambda: cluster.nodes[VICTIM].chain.certificate(height) is not None, "the certificates are back")
        after = await cluster.nodes[VICTIM].submit(cluster.transfer(ALICE, 3), "certified")
        assert after.height is not None
        await cluster.level(after.height)
        assert cluster.nodes[VICTIM].status().sitting_out is None


async def test_an_authority_that_lost_its_vertices_reads_along_and_signs_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        height = await run_a_while(cluster)
        flip_every_table(cluster.home(VICTIM) / CONSENSUS)
        with stopped(cluster) as setup:
            assert CONSENSUS in [finding.store for finding in check(setup)]
            mended = {item.store: item.done for item in repair(setup, NOW_MS)}
            assert mended[CONSENSUS] == (
                "set aside as ledger.damaged-1 and consensus.damaged-1; both come back from the peers; "
                "this authority sits the epoch out, since it can't know what it signed"
            )
            assert check(setup) == []
        await cluster.start(VICTIM)
        await cluster.ready(VICTIM)
        await cluster.level(height)
        status = cluster.nodes[VICTIM].status()
        assert status.sitting_out is not None
        assert status.sitting_out.startswith("its vertex store was damaged and repaired: ")
        proposed = cluster.nodes[VICTIM].metrics()["vertices_proposed_total"]
        after = await cluster.nodes[VICTIM].submit(cluster.transfer(ALICE, 3), "certified")
        assert after.height is not None
        await cluster.level(after.height)
        assert proposed == cluster.nodes[VICTIM].metrics()["vertices_proposed_total"] == 0


async def test_damaged_pins_are_salvaged(tmp_path: Path) -> None:
    async with running(tmp_path) as cluster:
        await run_a_while(cluster)
        pins = cluster.home(VICTIM) / PINS
        (pins / "CURRENT").unlink()
        with stopped(cluster) as setup:
            assert [finding.store for finding in check(setup)] == [PINS]
            (mended,) = repair(setup, NOW_MS)
            assert mended.done.startswith("0 pins kept, 0 unreadable entries dropped")
            assert check(setup) == []


async def test_no_flipped_bit_goes_unnoticed_or_crashes(tmp_path: Path) -> None:
    """One bit at a time, anywhere: the check names a damage, or everything still reads as it was."""
    dice = random.Random(7)
    async with running(tmp_path) as cluster:
        await run_a_while(cluster)
        named = 0
        for _ in range(60):
            place = cluster.home(VICTIM) / dice.choice((LEDGER, CONSENSUS))
            file = dice.choice(
                [f for f in sorted(place.iterdir()) if f.stat().st_size and f.name not in ("LOG", "LOG.old")]
            )
            original = file.read_bytes()
            raw = bytearray(original)
            raw[dice.randrange(len(raw))] ^= 1 << dice.randrange(8)
            before = {entry.name: entry.read_bytes() for entry in place.iterdir()}
            file.write_bytes(raw)
            with stopped(cluster) as setup:
                named += bool(check(setup))
            for entry in place.iterdir():
                if entry.name not in before:
                    entry.unlink()
            for name, content in before.items():
                (place / name).write_bytes(content)
        assert named > 20, "most places hold something"
        with stopped(cluster) as setup:
            assert check(setup) == []
