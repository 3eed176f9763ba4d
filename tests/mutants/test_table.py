"""The table of planted faults fits the code: every rewrite applies, every test is there. `make mutants` runs them."""

import pytest

from tests.mutants.fault import Mutant
from tests.mutants.runner import ROOT, mutate
from tests.mutants.table import MUTANTS


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda item: item.name)
def test_a_fault_can_be_planted(mutant: Mutant) -> None:
    text = (ROOT / mutant.file).read_text()
    broken = mutate(text, mutant)
    assert broken != text
    compile(broken, mutant.file, "exec")
    assert all((ROOT / test).exists() for test in mutant.tests)


def test_names_are_distinct_and_there_are_enough() -> None:
    assert len({item.name for item in MUTANTS}) == len(MUTANTS) >= 20
