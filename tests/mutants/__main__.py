"""`make mutants`: plant every fault of the table, name the test that catches it, write docs/mutants.md.

With words as arguments only the faults whose names hold one of them are planted, and nothing is written.
"""

import sys

from tests.mutants.runner import ROOT, catch, copied_tree, first_failure, table
from tests.mutants.table import MUTANTS

PAGE = ROOT / "docs" / "mutants.md"
HEAD = """# Planted faults

`make mutants` breaks one rule at a time in a copy of the tree and runs the tests that are to notice; this page is what
it wrote last. The faults stand in `tests/mutants/faults_of_*.py`. One that nothing catches is a hole in the tests.

"""


def main(words: list[str]) -> int:
    """0 when every planted fault was caught."""
    chosen = [item for item in MUTANTS if not words or any(word in item.name for word in words)]
    with copied_tree() as tree:
        tests = tuple(dict.fromkeys(test for item in chosen for test in item.tests))
        sound = first_failure(tree, tests)
        if sound is not None:
            print(f"{sound} fails without any planted fault")
            return 1
        results = []
        for number, item in enumerate(chosen, 1):
            results.append(catch(tree, item))
            print(f"{number}/{len(chosen)} {item.name}: {results[-1].test or 'NOTHING CAUGHT IT'}", flush=True)
    survivors = [item.mutant.name for item in results if item.test is None]
    if not words:
        total = f"\n\n{len(results)} faults planted, {len(results) - len(survivors)} caught.\n"
        PAGE.write_text(HEAD + table(results) + total)
    print(f"\n{table(results)}\n\n{len(results)} faults planted, {len(survivors)} not caught: {survivors}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
