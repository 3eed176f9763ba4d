"""Planting faults and seeing who notices: each mutant in a copy of the tree, its tests in a process of their own."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.mutants.fault import Mutant

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("consensus", "mpisa", "storage", "devnet", "tests", "pyproject.toml")
TIMEOUT_S = 600
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Caught:
    """Which test failed; None where all passed."""

    mutant: Mutant
    test: str | None


def mutate(text: str, mutant: Mutant) -> str:
    """The file's text with the fault in it."""
    for old, new in mutant.rewrites:
        assert text.count(old) == 1, f"{mutant.name}: {old!r} stands {text.count(old)} times in {mutant.file}"
        text = text.replace(old, new)
    return text


@contextmanager
def copied_tree() -> Iterator[Path]:
    """A copy of everything that the tests need; gone afterwards."""
    with TemporaryDirectory(prefix="mutants-") as folder:
        tree = Path(folder)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
            else:
                shutil.copy(source, tree / name)
        yield tree


def catch(tree: Path, mutant: Mutant) -> Caught:
    """Plant the fault in the copied tree, run its tests, take it out again."""
    file = tree / mutant.file
    sound = file.read_text()
    file.write_text(mutate(sound, mutant))
    try:
        return Caught(mutant, first_failure(tree, mutant.tests))
    finally:
        file.write_text(sound)


def first_failure(tree: Path, tests: tuple[str, ...]) -> str | None:
    """The first test that fails, in this order; None where all pass."""
    command = [
        sys.executable,
        "-B",
        "-m",
        "pytest",
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        "--tb=no",
        *dict.fromkeys(tests),
    ]
    try:
        done = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"{tests[0]} (hangs)"
    if done.returncode == 0:
        return None
    found = _FAILED.search(done.stdout)
    if found is None:
        raise RuntimeError(f"pytest ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return found.group(1)


def table(results: list[Caught]) -> str:
    """For people: which test caught which fault."""
    lines = ["| planted fault | file | caught by |", "|---|---|---|"]
    lines += [f"| {item.mutant.name} | `{item.mutant.file}` | {_name(item)} |" for item in results]
    return "\n".join(lines)


def _name(item: Caught) -> str:
    return f"`{item.test.removeprefix('tests/')}`" if item.test is not None else "**nothing**"
