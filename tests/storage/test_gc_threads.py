"""Collection in the middle of traffic: putters, readers and a collector in threads, and kills at any moment."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mpisa.primitives.errors import NotFound
from storage.gc import Collector
from storage.packs import DiskBlockStore
from storage.pins import PinKind, PinStore
from tests.storage.test_crash import BLOCK, block

SECONDS = 4.0
LONGEST_HOLD_MS = 1000
"""Ten times what is promised on an idle machine: a test machine may be busy."""

KILLS = 12


@pytest.mark.parametrize("seed", [1])
def test_nothing_acknowledged_and_pinned_is_lost_under_traffic(tmp_path: Path, seed: int) -> None:
    store = DiskBlockStore.open(tmp_path, max_pack_bytes=120_000)
    pins = PinStore(tmp_path / "pins")
    collector = Collector(store, pins, clock=time.time)
    until = time.monotonic() + SECONDS
    pinned: set[int] = set()
    failures: list[BaseException] = []
    holds: list[float] = []
    freed = 0

    def put(lane: int) -> None:
        rng = random.Random(seed * 10 + lane)
        number = lane * 1_000_000
        mine: list[int] = []
        while time.monotonic() < until:
            chosen = [number + 7 * i for i in range(rng.randrange(1, 6))]
            number += 100
            if mine and rng.random() < 0.3:
                chosen.append(rng.choice(mine))  # one that is there, pinned or not, or was
            with store.lease("put"):
                store.put([block(i) for i in chosen])
                for i in chosen:
                    if rng.random() < 0.3:
                        pins.pin(block(i)[0], PinKind.DIRECT)
                        pinned.add(i)
            mine += chosen
            if rng.random() < 0.2 and (unpinned := rng.choice(mine)) in pinned:
                pinned.discard(unpinned)
                pins.unpin(block(unpinned)[0])

    def read() -> None:
        rng = random.Random(seed)
        while time.monotonic() < until:
            known = sorted(pinned.copy())
            for i in rng.sample(known, min(len(known), 20)):
                try:
                    assert store.get(block(i)[0]) == block(i)[1]
                except NotFound:
                    assert i not in pinned

    def collect() -> None:
        nonlocal freed
        while time.monotonic() < until:
            report = collector.run(grace_s=0.0, dead_share=0.0)
            assert report.missing == ()
            holds.append(report.longest_hold_ms)
            freed += report.bytes_freed

    def guarded(work: object, *arguments: int) -> None:
        try:
            work(*arguments)  # type: ignore[operator]
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(put, lane)) for lane in range(4)]
    threads += [threading.Thread(target=guarded, args=(work,)) for work in (read, read, collect)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []
    assert [i for i in sorted(pinned) if store.get(block(i)[0]) != block(i)[1]] == []
    assert len(holds) > 1
    assert freed > 0
    assert max(holds) < LONGEST_HOLD_MS
    assert store.verify().damages == ()
    collector.run(grace_s=0.0, dead_share=0.0)
    assert sorted(store.cids()) == sorted({block(i)[0] for i in pinned})
    pins.close()
    store.close()


WORKER = """
import random, sys, threading, time
from pathlib import Path
from tests_block import block
from storage.gc import Collector
from storage.packs import DiskBlockStore
from storage.pins import PinKind, PinStore

path, first = Path(sys.argv[1]), int(sys.argv[2])
store = DiskBlockStore.open(path, max_pack_bytes=60_000)
pins = PinStore(path / "pins")
collector = Collector(store, pins, clock=time.time)
lock = threading.Lock()

def say(*words):
    with lock:
        print(*words, flush=True)

def collect():
    while True:
        collector.run(grace_s=0.0, dead_share=0.0)

threading.Thread(target=collect).start()
for pin in list(pins.list())[::2]:
    say("dropping", pin.name)
    pins.unpin(pin.cid)
seed = first
while True:
    with store.lease("put"):
        store.put([block(seed + i) for i in range(4)])
        pins.pin(block(seed)[0], PinKind.DIRECT, name=str(seed))
    say("pinned", seed)
    seed += 4
"""


def test_kill_9_in_collections_loses_no_pinned_block(tmp_path: Path) -> None:
    (tmp_path / "tests_block.py").write_text(BLOCK)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{Path.cwd()}"}
    rng = random.Random(11)
    home = tmp_path / "store"
    pinned: set[int] = set()
    for round_number in range(KILLS):
        command = [sys.executable, "-c", WORKER, str(home), str(round_number * 1_000_000)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as worker:
            assert worker.stdout is not None
            lines = [worker.stdout.readline() for _ in range(rng.randrange(1, 120))]
            worker.send_signal(signal.SIGKILL)
            lines += worker.stdout.readlines()
        assert worker.returncode == -signal.SIGKILL
        for line in lines:
            if line.endswith("\n"):
                word, number = line.split()
                (pinned.add if word == "pinned" else pinned.discard)(int(number))
    store = DiskBlockStore.open(home)
    pins = PinStore(home / "pins")
    assert [seed for seed in sorted(pinned) if store.get(block(seed)[0]) != block(seed)[1]] == []
    assert pinned <= {int(pin.name) for pin in pins.list()}
    assert store.verify().intact
    report = Collector(store, pins, clock=time.time).run(grace_s=0.0, dead_share=0.0)
    assert (report.missing, report.stopped) == ((), False)
    assert sorted(store.cids()) == sorted(pin.cid for pin in pins.list())
    assert store.stats().bytes_used == sum(file.stat().st_size for file in (home / "packs").iterdir())
    pins.close()
    store.close()
