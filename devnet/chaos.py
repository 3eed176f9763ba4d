"""Chaos: random faults from a printed seed on a devnet under load, and a checker behind it.

One fault at a time: drawn, applied, held for a while, healed; then the time is taken until blocks are certified again
(by anybody, and by all). The seed says which faults come in which order and for how long each is held; what the
machine does in between it doesn't say. Load runs in a process of its own (`load`), and with it changes of the validator
set (`changes`), so that epochs close meanwhile; the check is `audit`.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devnet import audit, cluster, faults, health, load, state
from devnet.launch import Serve
from devnet.plan import Plan, Say
from devnet.process import ProcessIdentity, identify, send_signal, wait_gone
from devnet.state import DevnetNode, Manifest
from mpisa.primitives.errors import NotReady

ACKNOWLEDGED = "chaos-load.jsonl"
GOAL_S = 2.0
HOLD_S = (1.0, 6.0)
CALM_S = (0.5, 3.0)
PATIENCE_S = 90.0
"""How long the network may take to certify again before that counts as stuck."""
LEVEL_S = 180.0
POLL_S = 0.02
KINDS = (
    ("partition", 4),
    ("halves", 2),
    ("one-way", 2),
    ("delay", 2),
    ("drop", 2),
    ("kill", 3),
    ("kill two", 1),
    ("kill all", 1),
    ("pause", 2),
    ("pause two", 1),
)
"""Kinds of faults and how often each comes, in proportion."""


@dataclass(frozen=True, slots=True)
class Step:
    """One fault: on which nodes, with which figure (milliseconds or percent), for how long, and the calm behind it."""

    kind: str
    nodes: tuple[str, ...]
    figure: int
    hold_s: float
    calm_s: float

    def words(self) -> str:
        """For people."""
        figure = {"delay": f" {self.figure} ms", "drop": f" {self.figure}%"}.get(self.kind, "")
        return f"{self.kind}{figure} {' '.join(self.nodes)} for {self.hold_s:.1f} s"


def draw(source: random.Random, names: Sequence[str]) -> Step:
    """The next fault."""
    kind = source.choices([kind for kind, _ in KINDS], [weight for _, weight in KINDS])[0]
    count = {"halves": len(names) // 2, "kill two": 2, "pause two": 2, "kill all": len(names)}.get(kind, 1)
    nodes = tuple(sorted(source.sample(list(names), count)))
    figure = source.randint(20, 300) if kind == "delay" else source.randint(5, 40)
    return Step(kind, nodes, figure, source.uniform(*HOLD_S), source.uniform(*CALM_S))


def apply(home: Path, step: Step) -> None:
    """Make it happen."""
    match step.kind:
        case "partition" | "halves":
            faults.partition(home, step.nodes, ())
        case "one-way":
            faults.partition(home, step.nodes, (), one_way=True)
        case "delay":
            faults.delay(home, step.nodes, (), step.figure, step.figure // 2)
        case "drop":
            faults.drop(home, step.nodes, (), step.figure)
        case "kill" | "kill two" | "kill all":
            faults.kill(home, step.nodes)
        case _:
            faults.pause(home, step.nodes)


@dataclass(frozen=True, slots=True)
class Recovery:
    """Seconds from the command that healed until a new block was certified somewhere, and on every node; None: not
    within PATIENCE_S.
    """

    kind: str
    somewhere_s: float | None
    everywhere_s: float | None


@dataclass(slots=True)
class Summary:
    """What a run showed."""

    seed: int
    minutes: float
    nodes: int
    is_fixed_set: bool = False
    faults: Counter[str] = field(default_factory=Counter)
    made: int = 0
    acknowledged: int = 0
    refused: int = 0
    lost: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()
    forks: tuple[str, ...] = ()
    halted: tuple[str, ...] = ()
    astray: tuple[str, ...] = ()
    changes: Counter[str] = field(default_factory=Counter)
    epochs: int = 0
    height: int = 0
    recoveries: list[Recovery] = field(default_factory=list)
    acknowledged_s: list[float] = field(default_factory=list)

    @property
    def stuck(self) -> int:
        """Heals after which some node certified nothing in time."""
        return sum(item.everywhere_s is None for item in self.recoveries)

    @property
    def passed(self) -> bool:
        """Nothing lost, doubled, forked, halted, astray or stuck, something done, and the set changed if it may."""
        wrong = self.lost or self.doubled or self.forks or self.halted or self.astray or self.stuck or self.refused
        is_changed = self.is_fixed_set or (bool(self.changes) and self.epochs > 0)
        return not wrong and self.acknowledged > 0 and is_changed

    def to_json(self) -> dict[str, Any]:
        """Lists of findings shortened to their length and first items."""
        return {
            "seed": self.seed,
            "minutes": round(self.minutes, 2),
            "nodes": self.nodes,
            "faults": dict(sorted(self.faults.items())),
            "made": self.made,
            "acknowledged": self.acknowledged,
            "refused": self.refused,
            "lost": len(self.lost),
            "doubled": len(self.doubled),
            "forks": len(self.forks),
            "halted": len(self.halted),
            "astray": len(self.astray),
            "stuck": self.stuck,
            "findings": [*self.lost[:5], *self.doubled[:5], *self.forks[:5], *self.halted[:5], *self.astray[:5]],
            "changes": dict(sorted(self.changes.items())),
            "epochs": self.epochs,
            "height": self.height,
            "acknowledged_after_s": _spread(self.acknowledged_s),
            "recovered_after_s": {kind: self._recovered(kind) for kind in sorted(self.faults)},
            "goal_s": GOAL_S,
            "passed": self.passed,
        }

    def _recovered(self, kind: str) -> dict[str, Any]:
        mine = [item for item in self.recoveries if item.kind == kind]
        somewhere = [item.somewhere_s for item in mine if item.somewhere_s is not None]
        everywhere = [item.everywhere_s for item in mine if item.everywhere_s is not None]
        within = sum(item.somewhere_s is not None and item.somewhere_s <= GOAL_S for item in mine)
        return {
            "heals": len(mine),
            "certified_again": _spread(somewhere),
            "on_all_nodes": _spread(everywhere),
            "within_goal": within,
        }


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {"median": round(statistics.median(values), 3), "most": round(max(values), 3)}


def run(
    home: Path, minutes: float, seed: int, serve: Callable[[], Serve], say: Say, *, is_fixed_set: bool = False
) -> Summary:
    """See the module; with `is_fixed_set` validators stay as they are. The devnet is made or completed first, and whole
    and running at the end.
    """
    started = cluster.up(home, Plan(accounts=None if state.read_manifest(home) else 8), serve, say)
    manifest = started.manifest
    names = [node.name for node in manifest.nodes]
    runner = serve()
    faults.heal(home, (), lambda: runner, say)
    source = random.Random(seed)  # noqa: S311 - a seed that replays
    summary = Summary(seed, minutes, len(names), is_fixed_set)
    begun = time.monotonic()
    loader = _fork_load(manifest, seed, home / ACKNOWLEDGED, with_changes=not is_fixed_set)
    try:
        _await(lambda: _somebody_certifies(manifest), PATIENCE_S)
        while time.monotonic() < begun + minutes * 60:
            step = draw(source, names)
            say(f"{time.monotonic() - begun:7.1f} s  {step.words()}")
            summary.faults[step.kind] += 1
            seen = max(_heights(manifest.nodes))
            apply(home, step)
            time.sleep(step.hold_s)
            recovery = _heal(home, manifest, step, seen, lambda: runner)
            summary.recoveries.append(recovery)
            say(
                f"{time.monotonic() - begun:7.1f} s  healed; certified again after {_seconds(recovery.somewhere_s)}, "
                f"on all nodes after {_seconds(recovery.everywhere_s)}"
            )
            time.sleep(step.calm_s)
    finally:
        faults.heal(home, (), lambda: runner, say)
        send_signal(loader, signal.SIGTERM)
        if wait_gone([loader], load.SETTLE_S + 30):
            send_signal(loader, signal.SIGKILL)
    summary.minutes = (time.monotonic() - begun) / 60
    _check(home, manifest, summary, say)
    return summary


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.2f} s"


def _fork_load(manifest: Manifest, seed: int, path: Path, *, with_changes: bool) -> ProcessIdentity:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setsid()
            load.serve(manifest, seed, path, with_changes=with_changes)
            code = 0
        finally:
            os._exit(code)
    return identify(pid) or ProcessIdentity(pid, 0, "")


def _heights(nodes: Sequence[DevnetNode]) -> list[int]:
    """Certified height of each node; -1 for one that doesn't say."""
    answers = [health.ask(node.api, "/v1/chain/head", timeout_s=1.0) for node in nodes]
    return [answer[1].get("height", -1) if answer is not None and answer[0] == 200 else -1 for answer in answers]


def _epochs(nodes: Sequence[DevnetNode]) -> dict[str, int | None]:
    """The epoch in which each node is; None for one that doesn't say."""
    answers = {node.name: health.ask(node.api, "/v1/node") for node in nodes}
    return {
        name: answer[1].get("epoch") if answer is not None and answer[0] == 200 else None
        for name, answer in answers.items()
    }


def _is_settled(manifest: Manifest) -> bool:
    """Whether all are in one epoch, and nothing waits for its end."""
    answers = [health.ask(node.api, "/v1/chain/staking") for node in manifest.nodes]
    is_quiet = all(answer is not None and answer[1].get("pending") is False for answer in answers)
    return is_quiet and not audit.astray(_epochs(manifest.nodes))


def _somebody_certifies(manifest: Manifest) -> bool:
    return max(_heights(manifest.nodes)) > 0


def _await(holds: Callable[[], bool], patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def _heal(home: Path, manifest: Manifest, step: Step, seen: int, serve: Callable[[], Serve]) -> Recovery:
    """Undo the step; `seen` is the highest certified height before it."""
    awake = [
        node for node in manifest.nodes if not (step.kind.startswith(("kill", "pause")) and node.name in step.nodes)
    ]
    before = max(seen, *_heights(awake), -1)
    begun = time.monotonic()
    faults.heal(home, step.nodes, serve, lambda _: None)
    somewhere: float | None = None
    while time.monotonic() < begun + PATIENCE_S:
        heights = _heights(manifest.nodes)
        if somewhere is None and max(heights) > before:
            somewhere = time.monotonic() - begun
        if min(heights) > before:
            return Recovery(step.kind, somewhere, time.monotonic() - begun)
        time.sleep(POLL_S)
    return Recovery(step.kind, somewhere, None)


def _check(home: Path, manifest: Manifest, summary: Summary, say: Say) -> None:
    made, said = load.read(home / ACKNOWLEDGED)
    certified = [line for line in said if line["status"] == "certified"]
    summary.made, summary.acknowledged = made, len(certified)
    summary.refused = len(said) - len(certified)
    summary.acknowledged_s = [float(str(line["seconds"])) for line in said]
    summary.changes = Counter(str(line["change"]) for line in certified if "change" in line)
    highest = max((int(str(line["height"])) for line in certified), default=0)
    if not _await(lambda: min(_heights(manifest.nodes)) >= highest, LEVEL_S):
        raise NotReady(
            f"the nodes aren't level {LEVEL_S:.0f} s behind the end: {_heights(manifest.nodes)} of {highest}"
        )
    _await(lambda: _is_settled(manifest), LEVEL_S)
    summary.astray = audit.astray(_epochs(manifest.nodes))
    summary.height = min(_heights(manifest.nodes))
    say(
        f"checking {len(certified)} acknowledged transactions in {summary.height} blocks on {len(manifest.nodes)} nodes"
    )
    chains = [audit.read_chain(node, summary.height) for node in manifest.nodes]
    found = audit.compare(chains, [str(line["acknowledged"]) for line in certified])
    summary.lost, summary.doubled = found.lost, found.doubled
    summary.forks, summary.halted = found.forks, found.halted
    summary.epochs = chains[0].epochs
