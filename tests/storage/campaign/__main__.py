"""`python -m tests.storage.campaign --kills 1000 --summary docs/storage-campaign.json --page docs/storage.md`"""

import argparse
import json
import secrets
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.storage.campaign.runner import campaign
from tests.storage.campaign.summary import Run, Summary

SHARD = 100
"""Summed up each so many kills, so that a campaign may be stopped."""


def main() -> int:
    """Exit code 1 when anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.storage.campaign", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--summary", type=Path, help="add up here")
    parser.add_argument("--page", type=Path, help="and show the table here")
    parser.add_argument("--node", nargs=2, metavar=("HOME", "API"), help="a node to ask, else one is started")
    options = parser.parse_args()
    node = None if options.node is None else (Path(options.node[0]), options.node[1])
    commit = subprocess.run(
        ["git", "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    wrong = False
    for done in range(0, options.kills, SHARD):
        seed = secrets.randbelow(1 << 31) if options.seed is None else options.seed + done
        run = Run(commit or "unknown", seed)
        place = Path(tempfile.mkdtemp(prefix="mpisa-campaign-"))
        campaign(place, run, min(SHARD, options.kills - done), lambda text: print(text, file=sys.stderr), node)
        print(json.dumps(asdict(run)), flush=True)
        wrong = wrong or bool(run.findings)
        if not run.findings:
            shutil.rmtree(place)
        if options.summary is not None:
            summary = Summary(options.summary)
            summary.add(run)
            if options.page is not None:
                summary.show(options.page)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
