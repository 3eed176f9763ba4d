"""IPNS records on a node's disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpisa.node import ipns_records
from mpisa.node.ipns_records import IpnsRecords
from mpisa.primitives.errors import DiskFull, NotFound, Rejection, RejectionReason, StoreDamaged
from mpisa.primitives.ipns import name_text
from tests.api.gateway.records import name_of, record_of

NOW = 1_700_000_000_000
VALUE = "/ipfs/bafkqaaa"


def records(home: Path, now_ms: int = NOW) -> IpnsRecords:
    return IpnsRecords(home / "ipns", lambda: now_ms)


async def test_a_record_outlives_the_process(tmp_path: Path) -> None:
    raw = record_of(1, VALUE, until_ms=NOW + 1_000)
    await records(tmp_path).put(name_of(1), raw)
    kept = await records(tmp_path).get(name_of(1))
    assert (kept.raw, kept.value) == (raw, VALUE)
    assert [file.suffix for file in (tmp_path / "ipns").iterdir()] == [".ipns-record"]
    with pytest.raises(NotFound):
        await records(tmp_path).get(name_of(2))


async def test_time_runs_out(tmp_path: Path) -> None:
    await records(tmp_path).put(name_of(1), record_of(1, VALUE, until_ms=NOW))
    with pytest.raises(Rejection) as caught:
        await records(tmp_path, NOW + 1).get(name_of(1))
    assert caught.value.reason is RejectionReason.EXPIRED


@pytest.mark.parametrize(
    ("sequence", "later_ms", "taken"), [(1, 0, False), (2, 1_000, False), (2, 3_000, True), (3, 0, True)]
)
async def test_what_supersedes_what(tmp_path: Path, sequence: int, later_ms: int, taken: bool) -> None:
    kept = records(tmp_path)
    held = record_of(1, VALUE, sequence=2, until_ms=NOW + 2_000)
    other = record_of(1, VALUE, sequence=sequence, until_ms=NOW + later_ms)
    await kept.put(name_of(1), held)
    if taken:
        await kept.put(name_of(1), other)
    else:
        with pytest.raises(Rejection) as caught:
            await kept.put(name_of(1), other)
        assert caught.value.reason is RejectionReason.REPLAYED
    assert (await kept.get(name_of(1))).raw == (other if taken else held)


async def test_a_damaged_file_is_replaced(tmp_path: Path) -> None:
    kept = records(tmp_path)
    raw = record_of(1, VALUE, until_ms=NOW)
    await kept.put(name_of(1), raw)
    (file,) = (tmp_path / "ipns").iterdir()
    file.write_bytes(raw[:-1])
    with pytest.raises(Rejection):
        await kept.get(name_of(1))
    await kept.put(name_of(1), raw)
    assert (await kept.get(name_of(1))).raw == raw


async def test_there_is_room_for_so_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipns_records, "MAX_RECORDS", 2)
    kept = records(tmp_path)
    for seed in (1, 2):
        await kept.put(name_of(seed), record_of(seed, VALUE, until_ms=NOW))
    with pytest.raises(Rejection) as caught:
        await kept.put(name_of(3), record_of(3, VALUE, until_ms=NOW))
    assert caught.value.reason is RejectionReason.TOO_MANY
    await kept.put(name_of(1), record_of(1, VALUE, sequence=2, until_ms=NOW))


async def test_a_disk_that_refuses(tmp_path: Path) -> None:
    in_the_way = tmp_path / "ipns" / f"{name_text(name_of(1))}.ipns-record.new"
    in_the_way.mkdir(parents=True)
    with pytest.raises(DiskFull):
        await records(tmp_path).put(name_of(1), record_of(1, VALUE, until_ms=NOW))
    in_the_way.rename(in_the_way.with_suffix(""))
    with pytest.raises(StoreDamaged):
        await records(tmp_path).get(name_of(1))
