"""A block store of ours in a process of its own, asked by lines of JSON; its argument is the home.

What it measures is the package `storage` by itself, as Kubo's library is: a client and a node around it would count in
both. Seconds are those of the work alone; opening a store and making blocks for collection are not measured.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mpisa.cli.bench.machine import peak_bytes
from mpisa.primitives.cid import DAG_PB, Cid
from mpisa.primitives.dag_pb import PBLink, PBNode, encode_node
from storage.gc import Collector
from storage.importer import import_path
from storage.packs import DiskBlockStore
from storage.pins import PinStore

BLOCK_BYTES = 4096
KEPT_SHARE = 10
"""One of so many blocks more is pinned, spread among those that go: packs are written again, not only removed."""

LINKS_A_NODE = 5_000
PUT_AT_ONCE = 1_000
READ_PAUSE_S = 0.002
IDLE_READS = 2_000

Answer = dict[str, Any]


class Worker:
    """The store; each method is a command."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._store = DiskBlockStore.open(home / "store")
        self._kept: list[Cid] = []

    def hello(self) -> Answer:
        """That it is ready."""
        return {"ready": True}

    def add(self, path: str) -> Answer:
        """Import a file or a directory; durable when it counts as done."""
        begun = time.perf_counter()
        result = import_path(self._store, Path(path))
        return {"seconds": time.perf_counter() - begun, "blocks": result.blocks, "cid": str(result.cid)}

    def verify(self) -> Answer:
        """Hash everything again."""
        begun = time.perf_counter()
        report = self._store.verify()
        assert report.intact
        return {"seconds": time.perf_counter() - begun, "blocks": report.blocks, "bytes": report.bytes_hashed}

    def peak(self) -> float:
        """The most memory this process ever had, in MiB."""
        return peak_bytes(os.getpid()) / (1 << 20)

    def fill(self, dead: int) -> Answer:
        """So many blocks that nothing keeps, and some among them that a pin keeps. Not measured."""
        rng = random.Random(dead)  # noqa: S311 - bytes to store, no secret
        batch: list[tuple[Cid, bytes]] = []
        for number in range(dead + dead // KEPT_SHARE):
            data = rng.randbytes(BLOCK_BYTES)
            batch.append((Cid.of(data), data))
            if number % (KEPT_SHARE + 1) == 0:
                self._kept.append(batch[-1][0])
            if len(batch) == PUT_AT_ONCE:
                self._store.put(batch)
                batch = []
        self._store.put(batch)
        steps = range(0, len(self._kept), LINKS_A_NODE)
        root = self._node([self._node(self._kept[at : at + LINKS_A_NODE]) for at in steps])
        pins = PinStore(self._home / "pins")
        pins.pin(root)
        pins.close()
        return {"kept": len(self._kept)}

    def collect(self) -> Answer:
        """Collect, with a reader beside it; and the same reads before, with nothing beside them."""
        idle = self._read_while(lambda reads: reads < IDLE_READS)
        pins = PinStore(self._home / "pins")
        collector = Collector(self._store, pins, clock=time.time, scratch=self._home / "marks")
        reports = []
        work = threading.Thread(target=lambda: reports.append(collector.run(grace_s=0.0, dead_share=0.05)))
        before = self._store.stats().bytes_used
        begun = time.perf_counter()
        work.start()
        busy = self._read_while(lambda reads: reads == 0 or work.is_alive())
        work.join()
        seconds = time.perf_counter() - begun
        pins.close()
        (report,) = reports
        for cid in self._kept:
            self._store.get(cid)
        return {
            "seconds": seconds,
            "blocks": report.dead_blocks,
            "freed": before - self._store.stats().bytes_used,
            "rewritten": report.bytes_rewritten,
            "longest_hold_ms": report.longest_hold_ms,
            "idle_p99_ms": _p99(idle),
            "busy_p99_ms": _p99(busy),
            "reads": len(busy),
        }

    def _read_while(self, goes_on: Callable[[int], bool]) -> list[float]:
        """Milliseconds of reads of kept blocks, with pauses in between; `goes_on` is told how many there were."""
        rng = random.Random(7)  # noqa: S311 - which to read, no secret
        pause = threading.Event()
        taken: list[float] = []
        while goes_on(len(taken)):
            cid = rng.choice(self._kept)
            begun = time.perf_counter()
            self._store.get(cid)
            taken.append((time.perf_counter() - begun) * 1e3)
            pause.wait(READ_PAUSE_S)
        return taken

    def _node(self, links: list[Cid]) -> Cid:
        data = encode_node(PBNode(tuple(PBLink(cid.to_bytes(), "", 0) for cid in links), b""))
        cid = Cid.of(data, codec=DAG_PB)
        self._store.put([(cid, data)])
        return cid


def _p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


def main() -> None:
    """Serve the lines of stdin."""
    home = Path(sys.argv[1])
    home.mkdir(parents=True)
    worker = Worker(home)
    print(json.dumps(worker.hello()), flush=True)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(getattr(worker, name)(*arguments)), flush=True)


if __name__ == "__main__":
    main()
