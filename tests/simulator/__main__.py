"""The simulator's command line: `make simulate`, `make twins` and the long campaigns.

python -m tests.simulator seeds [--first N] [--count N] [--summary FILE]   scenarios by seed
python -m tests.simulator twins [--first N] [--count N] [--summary FILE]   twins cases by number
python -m tests.simulator replay SEED           one seed: its picture, cut down if it fails
python -m tests.simulator table FILE [--page PAGE]    a summary as a table, or between the markers of a page
"""

import argparse
import sys
from pathlib import Path
from random import SystemRandom

from tests.simulator.campaign import KINDS, Summary, campaign
from tests.simulator.runner import examine
from tests.simulator.scenarios import scenario_of
from tests.simulator.shrink import report, shrink

FRESH_SEEDS = 1 << 32


def main(arguments: list[str]) -> int:
    """0 when every invariant held."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for kind in KINDS:
        command = commands.add_parser(kind)
        command.add_argument("--first", type=int, help="the first number; behind the summary's last, or drawn anew")
        command.add_argument("--count", type=int, default=100)
        command.add_argument("--summary", type=Path, help="accumulate in this file, and go on where it ends")
    commands.add_parser("replay").add_argument("seed", type=int)
    table = commands.add_parser("table")
    table.add_argument("file", type=Path)
    table.add_argument("--page", type=Path)
    options = parser.parse_args(arguments)
    if options.command == "replay":
        return _replay(options.seed)
    if options.command == "table":
        summary = Summary(options.file)
        if options.page is None:
            print(summary.table())
        else:
            summary.show(options.page)
        return 0
    return _campaign(options)


def _campaign(options: argparse.Namespace) -> int:
    kind = options.command
    summary = Summary(options.summary) if options.summary is not None else None
    first = options.first
    if first is None:
        first = SystemRandom().randrange(FRESH_SEEDS) if summary is None else summary.next(kind)
    print(f"{kind} {first} to {first + options.count - 1}", flush=True)
    part = campaign(kind, first, options.count, summary, lambda text: print(text, flush=True))
    failing = [int(number) for number in part.failing if first <= int(number) < first + options.count]
    if failing and kind == "seeds" and summary is None:
        return _replay(min(failing))
    return 1 if failing else 0


def _replay(seed: int) -> int:
    outcome = examine(scenario_of(seed))
    if outcome.failure is None:
        print(report(outcome))
        return 0
    small = shrink(outcome)
    print(report(small, shrunk_from=outcome.scenario))
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
