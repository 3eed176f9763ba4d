"""`catch_up_10k_s`: how long a validator that was away takes until it is level with a network that went on.

The last validator's process is killed; the others order under load until they are so many commits ahead; then it is
started again. The clock runs from the command that starts it until it has certified what the others had by then.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from mpisa.cli.bench.load.fleet import Fleet, Load
from mpisa.cli.bench.machine import Devnet, counters, cpu_seconds
from mpisa.cli.bench.result import Figure

COMMITS = 10_000
LOAD_TPS = 300.0
STRETCH_S = 10.0
GOAL_S = 60.0
DEADLINE_S = 600.0
_POLL_S = 0.1

Say = Callable[[str], None]


def measure(clients: Fleet, network: Devnet, say: Say, *, commits: int = COMMITS, rate: float = LOAD_TPS) -> Figure:
    """Takes the figure on a running devnet, whose last node it ends and starts again."""
    ahead, behind = network.apis[0], network.apis[-1]
    os.kill(network.pids[-1], signal.SIGKILL)
    first = counters(ahead)["commit_index"]
    transactions = 0
    while (made := counters(ahead)["commit_index"] - first) < commits:
        say(f"{made:.0f} of {commits} commits without one validator")
        transactions += len(clients.run(Load("single", STRETCH_S, rate), without=network.pids[-1]).certified)
    target, begun = counters(ahead)["certified_height"], time.monotonic()
    say(f"{made:.0f} commits behind, height {target:.0f} to reach")
    starting = subprocess.Popen(
        [sys.executable, "-m", "mpisa.cli", "devnet", "up", "--home", str(network.home), "--detach", "--quiet"],
        stdout=subprocess.DEVNULL,
    )
    try:
        seen = _await_height(behind, target, begun + DEADLINE_S)
        seconds = time.monotonic() - begun
        facts: dict[str, Any] = {
            "commits_behind": round(made),
            "transactions_behind": transactions,
            "commits_applied_by_ranges": round(seen["sync_commits_applied_total"]),
            "commits_a_second": round(made / seconds, 1),
            "cpu_us_a_commit": round(cpu_seconds([_pid_of(network)]) / made * 1e6, 1),
        }
    finally:
        starting.wait(timeout=DEADLINE_S)
    return Figure("catch_up_10k_s", "s", "lower", (seconds,), goal=GOAL_S, facts=facts)


def _pid_of(network: Devnet) -> int:
    """The process that holds the last node's home now."""
    from devnet.process import lock_holder

    holder = lock_holder(network.home / f"node{len(network.apis)}" / "node.lock")
    assert holder is not None, "the node answered, so it runs"
    return holder.pid


def _await_height(api: str, height: float, deadline: float) -> dict[str, float]:
    """The node's figures once it has certified so much."""
    while True:
        seen = counters(api)
        if seen.get("certified_height", 0.0) >= height:
            return seen
        if time.monotonic() > deadline:
            raise TimeoutError(f"not at height {height:.0f} in time: {seen}")
        time.sleep(_POLL_S)
