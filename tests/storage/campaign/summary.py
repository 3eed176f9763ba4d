"""What campaigns have seen, added up over runs and commits in a small JSON file, and shown on a page."""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

BEGIN, END = "<!-- storage-campaign -->\n", "<!-- /storage-campaign -->\n"


@dataclass
class Run:
    """One campaign: kills by what was killed, DAGs that were promised when a judge looked, what was wrong."""

    commit: str
    seed: int
    kills: dict[str, int] = field(default_factory=dict)
    acknowledged: int = 0
    collections: int = 0
    packs_retired: int = 0
    peak_mib: int = 0
    seconds: float = 0.0
    findings: list[str] = field(default_factory=list)

    def count(self, kind: str) -> None:
        """One more kill."""
        self.kills[kind] = self.kills.get(kind, 0) + 1

    @property
    def killed(self) -> int:
        """Kills in all."""
        return sum(self.kills.values())


class Summary:
    """The file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs = [Run(**run) for run in json.loads(path.read_text())] if path.exists() else []

    def add(self, run: Run) -> None:
        """Count a run in; the file is whole or as before."""
        self.runs.append(run)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(".draft")
        draft.write_text(json.dumps([asdict(run) for run in self.runs], indent=1) + "\n")
        draft.replace(self.path)

    def table(self) -> str:
        """For people: a line a commit, and what was ever wrong."""
        kinds = sorted({kind for run in self.runs for kind in run.kills})
        lines = [
            f"| commit | kills | {' | '.join(kinds)} | acknowledged | collections | packs retired | peak MiB | wrong |",
            "|---" * (len(kinds) + 7) + "|",
        ]
        for commit in [*dict.fromkeys(run.commit for run in self.runs), "all"]:
            runs = [run for run in self.runs if commit in ("all", run.commit)]
            kills = Counter[str]()
            for run in runs:
                kills.update(run.kills)
            numbers = [
                sum(kills.values()),
                *[kills[kind] for kind in kinds],
                sum(run.acknowledged for run in runs),
                sum(run.collections for run in runs),
                sum(run.packs_retired for run in runs),
                max((run.peak_mib for run in runs), default=0),
                sum(len(run.findings) for run in runs),
            ]
            lines.append(f"| {commit} | " + " | ".join(map(str, numbers)) + " |")
        found = [f"- {run.commit}, seed {run.seed}: {text}" for run in self.runs for text in run.findings]
        return "\n".join([*lines, *([""] if found else []), *found]) + "\n"

    def show(self, page: Path) -> None:
        """Write the table between the page's markers. Raises ValueError for a page without them."""
        text = page.read_text()
        if BEGIN not in text or END not in text:
            raise ValueError(f"{page} lacks the lines {BEGIN.strip()} and {END.strip()}")
        head, _, rest = text.partition(BEGIN)
        page.write_text(f"{head}{BEGIN}\n{self.table()}\n{END}{rest.partition(END)[2]}")
