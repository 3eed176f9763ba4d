"""Several client processes that start together; what they saw, added up, next to what it cost in CPU and bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mpisa.cli.bench import machine
from mpisa.cli.bench.load.client import Task

ACCOUNTS_A_CLIENT = 250
FUNDS = 1_000_000
FUNDED_A_BUNDLE = 100
START_DELAY_S = 0.3
_PROGRAM = "from mpisa.cli.bench.load.client import main; main()"


@dataclass(frozen=True, slots=True)
class Load:
    """What all clients together send: `rate` a second in an open loop, or with `window` each in a closed one."""

    mode: str
    seconds: float
    rate: float | None = None
    window: int = 0
    at_most: float = 4_000
    """Transactions a second that are signed for a closed loop."""
    operations: int = 1

    def task(self, clients: int) -> Task:
        """One client's share."""
        a_second = (self.at_most if self.rate is None else self.rate) / clients
        rate = None if self.rate is None else a_second
        count = int(a_second * self.seconds) + 1
        return Task(self.mode, self.seconds, count, rate, self.window, self.operations)


@dataclass(frozen=True, slots=True)
class Seen:
    """All clients' samples of one run; latencies ascending, in ms."""

    load: Load
    sent: int
    in_time: int
    ordered: tuple[float, ...]
    certified: tuple[float, ...]
    refused: dict[str, int]
    sign_us: float
    client_cpu_s: float
    node_cpu_s: float
    wire_bytes: int
    stages_s: dict[str, float]

    @property
    def certified_tps(self) -> float:
        return self.in_time / self.load.seconds

    @property
    def answered(self) -> int:
        """Transactions whose last state came: single requests hear of one state each."""
        return len(self.certified) + (len(self.ordered) if self.load.mode == "single" else 0)

    @property
    def offered_tps(self) -> float:
        return self.sent / self.load.seconds

    def cost(self, seconds: float) -> float:
        """CPU seconds as microseconds a certified transaction."""
        return seconds / max(self.answered, 1) * 1e6


def percentile(ascending: Sequence[float], share: float) -> float:
    """The value that this share of them doesn't exceed; NaN of nothing."""
    if not ascending:
        return float("nan")
    return ascending[min(len(ascending) - 1, int(len(ascending) * share))]


class Fleet:
    """See the module. `nodes` are (API URL, pid)."""

    def __init__(self, workers: Sequence[subprocess.Popen[str]], nodes: Sequence[tuple[str, int]]) -> None:
        self._workers = workers
        self._nodes = nodes
        self._accounts: list[str] = []

    def _call(self, **command: Any) -> list[dict[str, Any]]:
        return self._exchange([command] * len(self._workers))

    def _exchange(self, commands: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        for worker, command in zip(self._workers, commands, strict=True):
            assert worker.stdin is not None
            worker.stdin.write(json.dumps(command) + "\n")
            worker.stdin.flush()
        answers = []
        for worker in self._workers:
            assert worker.stdout is not None
            line = worker.stdout.readline()
            if not line:
                raise RuntimeError(f"a client process ended with {worker.wait()}")
            answers.append(json.loads(line))
        return answers

    def greet(self, greetings: Sequence[dict[str, Any]]) -> list[str]:
        """Tells each worker who it is; the addresses of all accounts."""
        return [address for answer in self._exchange(greetings) for address in answer["addresses"]]

    def show_keys(self) -> None:
        """Every funded account puts its key on file."""
        self._call(do="show-keys")

    def run(self, load: Load, *, without: int | None = None) -> Seen:
        """One run, measured from its start until the last transaction's fate is known; `without` the node of this
        pid, whose clients go to other nodes.
        """
        able = [(url, pid) for url, pid in self._nodes if pid != without]
        self._exchange([{"do": "turn-to", "endpoint": able[at % len(able)][0]} for at in range(len(self._workers))])
        prepared = self._call(do="prepare", task=asdict(load.task(len(self._workers))))
        pids = [pid for _, pid in able]
        stages, cpu = self._counters(able), machine.cpu_seconds(pids)
        answers = self._call(do="run", at=time.time() + START_DELAY_S)
        cpu, after = machine.cpu_seconds(pids) - cpu, self._counters(able)
        spent = {name: value - stages.get(name, 0.0) for name, value in after.items()}
        refused: Counter[str] = Counter()
        for answer in answers:
            refused.update(answer["refused"])
        return Seen(
            load,
            sum(answer["sent"] for answer in answers),
            sum(answer["in_time"] for answer in answers),
            tuple(sorted(value for answer in answers for value in answer["ordered"])),
            tuple(sorted(value for answer in answers for value in answer["certified"])),
            dict(refused),
            sum(answer["sign_us"] for answer in prepared) / len(prepared),
            sum(answer["cpu_s"] for answer in answers),
            cpu,
            int(spent.get("network_frame_bytes_sent_total", 0)),
            {name: value for name, value in spent.items() if name.startswith("cpu_")},
        )

    @staticmethod
    def _counters(nodes: Sequence[tuple[str, int]]) -> dict[str, float]:
        """The nodes' counters, added up."""
        total: Counter[str] = Counter()
        for url, _pid in nodes:
            total.update(machine.counters(url))
        return dict(total)


@contextmanager
def fleet(clients: int, nodes: Sequence[tuple[str, int]]) -> Iterator[Fleet]:
    """Client processes, spread over the nodes; their accounts are not funded yet."""
    workers = [
        subprocess.Popen([sys.executable, "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(clients)
    ]
    try:
        yield Fleet(workers, nodes)
    finally:
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.close()
        for worker in workers:
            worker.wait(timeout=30)
            assert worker.stdout is not None
            worker.stdout.close()


def greetings(home: Path, nodes: Sequence[tuple[str, int]], clients: int, chain_hash: bytes) -> list[dict[str, Any]]:
    """What each worker is told first: its node and the seed of its accounts."""
    return [
        {
            "endpoint": nodes[at % len(nodes)][0],
            "home": str(home),
            "seed": os.urandom(32).hex(),
            "accounts": ACCOUNTS_A_CLIENT,
            "chain_hash": chain_hash.hex(),
        }
        for at in range(clients)
    ]
