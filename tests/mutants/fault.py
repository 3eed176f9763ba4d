"""A planted fault: a small rewrite of one file, and the tests that are to notice it."""

from dataclasses import dataclass

RULE = ("tests/consensus/commit_rule", "tests/consensus/test_random_dags.py")
ORDER = ("tests/consensus/test_linearizer.py", "tests/consensus/test_sequencer.py", *RULE)
ENGINE = (
    "tests/consensus/test_engine_persistence.py",
    "tests/consensus/test_engine_presence.py",
    "tests/consensus/test_engine_equivocation.py",
    "tests/consensus/test_engine_catch_up.py",
    "tests/consensus/test_engine_idle.py",
)
EPOCHS = ("tests/consensus/succession", "tests/simulator/test_epochs.py")


@dataclass(frozen=True, slots=True)
class Mutant:
    """A fault: what it breaks in words, the file, the rewrites, the tests."""

    name: str
    file: str
    rewrites: tuple[tuple[str, str], ...]
    tests: tuple[str, ...]


def mutant(name: str, file: str, old: str, new: str, *tests: str) -> Mutant:
    """A fault of one rewrite."""
    return Mutant(name, file, ((old, new),), tests)


COMMITTER = "consensus/order/committer.py"
LINEARIZER = "consensus/order/linearizer.py"
ENGINE_FILE = "consensus/engine.py"
ADMISSION = "consensus/dag/admission.py"
RANGES = "consensus/order/ranges.py"
RANGE_TESTS = ("tests/consensus/test_ranges.py",)
