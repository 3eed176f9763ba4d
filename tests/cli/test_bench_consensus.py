"""The load of `mpisa bench consensus`: what is signed, what a client counts, what is printed of it."""

import asyncio
import time
from pathlib import Path

import pytest

from mpisa.cli.bench import consensus, limits, machine
from mpisa.cli.bench.load.client import Loop, Samples, Task
from mpisa.cli.bench.load.fleet import Load, Seen, percentile
from mpisa.cli.bench.load.work import PAYLOAD_BYTES, make_accounts, payload, sign, sign_all
from mpisa.primitives.errors import UsageError
from mpisa.primitives.operations import Transfer
from mpisa.primitives.transaction import decode_transaction

CHAIN = bytes(range(32))


def test_each_transaction_is_signed_by_itself_and_carries_the_payload() -> None:
    accounts = make_accounts(b"seed", 3)
    signed = sign_all(accounts, 7, CHAIN, 1)
    assert [item.transaction.nonce for item in signed] == [0, 0, 0, 1, 1, 1, 2]
    assert len({item.raw for item in signed}) == 7
    for number, item in enumerate(signed):
        back = decode_transaction(item.raw)
        assert back.verify(accounts[number % 3].key.public_key)
        assert back.transaction.memo is not None
        assert len(back.transaction.memo.encode()) == PAYLOAD_BYTES
        target = accounts[(number + 1) % 3].key.public_key.address
        assert back.transaction.operations == (Transfer(target, 1),)
    assert payload(1) != payload(2)


def test_a_bundle_goes_to_as_many_accounts() -> None:
    accounts = make_accounts(b"seed", 60)
    bundle = sign(accounts, 59, CHAIN, 50, show_key=True).transaction
    assert len(set(bundle.operations)) == 50
    assert bundle.public_key == accounts[59].key.public_key


def test_the_same_seed_makes_the_same_accounts() -> None:
    assert [a.address for a in make_accounts(b"x", 2)] == [a.address for a in make_accounts(b"x", 2)]
    assert make_accounts(b"x", 1)[0].address != make_accounts(b"y", 1)[0].address


def test_a_share_of_the_load() -> None:
    assert Load("single", 10.0, rate=400.0).task(4) == Task("single", 10.0, 1001, 100.0, 0, 1)
    assert Load("single", 2.0, window=50, at_most=100.0).task(2) == Task("single", 2.0, 101, None, 50, 1)


async def test_an_open_loop_counts_from_when_a_transaction_was_due() -> None:
    loop = Loop(Task("single", 3600.0, 3, 1000.0, 0, 1), time.perf_counter() - 1.0)
    due = await loop.due(500)
    assert due == loop.start + 0.5
    loop.ordered(due)
    loop.certified(due)
    assert loop.samples.ordered[0] >= 500
    assert loop.samples.certified[0] >= 500
    assert (loop.samples.sent, loop.samples.in_time) == (1, 1)
    assert await loop.due(3_600_000) is None


async def test_a_closed_loop_waits_for_room() -> None:
    loop = Loop(Task("single", 3600.0, 3, None, 2, 1), time.perf_counter())
    assert await loop.due(0) is not None
    due = await loop.due(1)
    assert due is not None
    third = asyncio.create_task(loop.due(2))
    await asyncio.sleep(0)
    assert not third.done()
    loop.certified(due)
    assert await third is not None


def test_refusals_are_counted_by_their_reason() -> None:
    samples = Samples()
    loop = Loop(Task("single", 1.0, 1, 1.0, 0, 1), 0.0)
    loop.samples = samples
    loop.refused("mempool-full")
    loop.refused("not-ready")
    assert samples.to_json() == {
        "sent": 0,
        "in_time": 0,
        "ordered": [],
        "certified": [],
        "refused": {"mempool-full": 1, "not-ready": 1},
    }


def test_facts_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consensus, "_cores", lambda: 2)
    seen = Seen(
        Load("single", 2.0, rate=5.0),
        sent=10,
        in_time=8,
        ordered=(50.0,),
        certified=tuple(float(number) for number in range(100, 900, 100)),
        refused={"mempool-full": 1},
        sign_us=40.04,
        client_cpu_s=0.0008,
        node_cpu_s=0.008,
        wire_bytes=8_000,
        stages_s={"cpu_engine_seconds_total": 0.002},
    )
    assert (seen.offered_tps, seen.certified_tps) == (5.0, 4.0)
    assert consensus.facts(seen) == {
        "payload_bytes": 200,
        "mode": "single",
        "offered_tps": 5.0,
        "refused": {"mempool-full": 1},
        "unfinished": 0,
        "ordered_p50_ms": 50.0,
        "ordered_p90_ms": 50.0,
        "ordered_p99_ms": 50.0,
        "certified_p50_ms": 500.0,
        "certified_p90_ms": 800.0,
        "certified_p99_ms": 800.0,
        "client_sign_us": 40.0,
        "client_send_us": 88.9,
        "cpu_allows_tps": 2_045,
        "nodes_us": 888.9,
        "nodes_us_by_stage": {"engine": 222.2, "other": 666.7},
        "wire_bytes": 889,
    }


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(number) for number in range(100)]
    assert [percentile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [0.0, 50.0, 99.0, 99.0]


def test_the_limits_are_measured(tmp_path: Path) -> None:
    assert limits.count_verifications(0.01) > 100
    assert limits.fsyncs(tmp_path, 0.01) > 1
    assert list(tmp_path.iterdir()) == []


def test_a_node_that_does_not_answer_has_no_counters() -> None:
    assert machine.counters("http://127.0.0.1:1") == {}


@pytest.mark.parametrize("text", ["0", "-1", "nan", "many", "1e9"])
def test_a_rate_is_a_number_or_max(text: str) -> None:
    from mpisa.cli.bench import measure_consensus

    with pytest.raises(UsageError, match="--rate: expected max, or a number from 1 to 100000, got "):
        measure_consensus.main(["--rate", text], standalone_mode=False)
