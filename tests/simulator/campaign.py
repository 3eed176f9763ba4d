"""Campaigns: many seeds or twins cases in shards, with a summary that accumulates over runs and commits.

The summary is a small JSON file: for each kind and each commit that it ran on, which numbers were run, how long the
virtual clock ran, and which failed with what. A campaign goes on behind the highest number run so far, so that it can
be stopped at any moment and costs no more than a shard. A page shows it between two markers.
"""

import gc
import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.simulator.invariants import Broken
from tests.simulator.runner import examine, undisturbed
from tests.simulator.scenarios import scenario_of
from tests.simulator.twins import PHASE_MS, PHASES, TwinsWorld, twins_case

SHARD = 50
MAX_TEXT = 300
BEGIN, END = "<!-- campaign -->\n", "<!-- /campaign -->\n"


@dataclass
class Part:
    """What was run on one commit."""

    commit: str
    ranges: list[list[int]] = field(default_factory=list)
    count: int = 0
    simulated_s: float = 0.0
    cpu_s: float = 0.0
    most_rounds_to_resume: int = 0
    joins: int = 0
    failing: dict[str, str] = field(default_factory=dict)

    def add_range(self, first: int, last: int) -> None:
        """Numbers first..last were run."""
        merged: list[list[int]] = []
        for low, high in sorted([*self.ranges, [first, last]]):
            if merged and low <= merged[-1][1] + 1:
                merged[-1][1] = max(merged[-1][1], high)
            else:
                merged.append([low, high])
        self.ranges = merged


@dataclass(frozen=True)
class Result:
    """Of one number: seconds of the virtual clock, rounds until commits resumed, the failure if any, and how often a
    node joined from a snapshot.
    """

    simulated_s: float
    rounds: int
    failure: str | None
    joins: int = 0


def run_seed(seed: int) -> Result:
    """A scenario by its seed."""
    outcome = examine(scenario_of(seed))
    joins = sum(len(node.joins) for node in outcome.world.nodes)
    return Result(outcome.simulated_ms / 1000, outcome.rounds, outcome.failure, joins)


def run_twins_case(number: int) -> Result:
    """A twins case by its number."""
    world = TwinsWorld(twins_case(number))
    failure = None
    try:
        with undisturbed():
            world.run()
    except Broken as broken:
        failure = str(broken)
    except Exception as error:  # noqa: BLE001 - whatever the engine raises is a finding
        failure = f"{type(error).__name__}: {error}"
    settled = (world.now - PHASES * PHASE_MS) / 1000
    return Result(settled + PHASES * PHASE_MS / 1000, 0, failure)


KINDS: dict[str, Callable[[int], Result]] = {"seeds": run_seed, "twins": run_twins_case}


class Summary:
    """The file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kinds: dict[str, list[Part]] = {kind: [] for kind in KINDS}
        if path.exists():
            for kind, parts in json.loads(path.read_text()).items():
                self.kinds[kind] = [Part(**part) for part in parts]

    def next(self, kind: str) -> int:
        """The first number above all that were run."""
        return max((high + 1 for part in self.kinds[kind] for _, high in part.ranges), default=0)

    def part(self, kind: str, commit: str) -> Part:
        """What was run on this commit so far."""
        for part in self.kinds[kind]:
            if part.commit == commit:
                return part
        self.kinds[kind].append(Part(commit))
        return self.kinds[kind][-1]

    def save(self) -> None:
        """Whole or not at all."""
        text = json.dumps({kind: [asdict(part) for part in parts] for kind, parts in self.kinds.items()}, indent=1)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(".draft")
        draft.write_text(text + "\n")
        draft.replace(self.path)

    def table(self) -> str:
        """For people: a Markdown table, a line a kind and commit, with totals."""
        lines = [
            "| what | commit | numbers | runs | simulated s | s a run | CPU s | s a CPU s | joins | failing |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for kind, parts in self.kinds.items():
            lines += [_line(kind, part) for part in parts]
            if len(parts) > 1:
                lines.append(_line(kind, _total(parts)))
        for kind, parts in self.kinds.items():
            failing = [(int(number), part.commit, text) for part in parts for number, text in part.failing.items()]
            if failing:
                lines.append("")
            lines += [f"- {kind} {number} on {commit}: {text}" for number, commit, text in sorted(failing)]
        return "\n".join(lines)

    def show(self, page: Path) -> None:
        """Write the table between the page's markers; all else stays as it is."""
        head, begin, rest = page.read_text().partition(BEGIN)
        _, end, tail = rest.partition(END)
        if not begin or not end:
            raise ValueError(f"{page} lacks the lines {BEGIN.strip()} and {END.strip()}, between which the table goes")
        page.write_text(f"{head}{begin}\n{self.table()}\n\n{end}{tail}")


def _line(kind: str, part: Part) -> str:
    ranges = ", ".join(f"{low}-{high}" for low, high in part.ranges)
    failing = ", ".join(sorted(part.failing, key=int)) or "none"
    speed, each = part.simulated_s / (part.cpu_s or 1), part.simulated_s / (part.count or 1)
    return (
        f"| {kind} | {part.commit} | {ranges} | {part.count:,} | {part.simulated_s:,.0f} | {each:.1f} | "
        f"{part.cpu_s:,.0f} | {speed:.1f} | {part.joins:,} | {failing} |"
    )


def _total(parts: list[Part]) -> Part:
    total = Part("all")
    for part in parts:
        total.count += part.count
        total.simulated_s += part.simulated_s
        total.cpu_s += part.cpu_s
        total.joins += part.joins
        total.failing |= part.failing
        for low, high in part.ranges:
            total.add_range(low, high)
    return total


def commit_name() -> str:
    """The commit that runs, with a + where files differ from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()

    try:
        dirty = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=10", "HEAD") + ("+" if dirty else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def campaign(kind: str, first: int, count: int, summary: Summary | None, tell: Callable[[str], None]) -> Part:
    """Run so many numbers from `first` on; after each shard the summary is saved."""
    run = KINDS[kind]
    part = Part(commit_name())
    for low in range(first, first + count, SHARD):
        high = min(low + SHARD, first + count) - 1
        kept = part if summary is None else summary.part(kind, part.commit)
        began = time.process_time()
        for number in range(low, high + 1):
            result = run(number)
            kept.simulated_s = round(kept.simulated_s + result.simulated_s, 3)
            kept.joins += result.joins
            kept.most_rounds_to_resume = max(kept.most_rounds_to_resume, result.rounds)
            if result.failure is not None:
                kept.failing[str(number)] = result.failure[:MAX_TEXT]
                tell(f"{kind} {number}: {result.failure[:MAX_TEXT]}")
        gc.collect()
        kept.count += high - low + 1
        kept.cpu_s = round(kept.cpu_s + time.process_time() - began, 2)
        kept.add_range(low, high)
        if summary is not None:
            summary.save()
        times = f"{kept.simulated_s:.0f} s simulated in {kept.cpu_s:.0f} s"
        tell(f"{kind} {low}-{high} done: {times}, {len(kept.failing)} failing")
        part = kept
    return part
